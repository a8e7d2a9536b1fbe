"""What the router and dispatch do without WebOb, against WebOb: parameters, bodies, answers."""

import io
from typing import Any

import pytest
import webob
import webob.exc
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oslo_config import cfg

from heatperf.api import dispatch
from heatperf.api.controller import Services
from heatperf.api.dispatch import ApiRequest, call_action
from heatperf.api.params import MIXED, MULTI, NONE, SINGLE, Params, parse_query, select
from heatperf.api.router import Router
from heatperf.config.load import parse
from heatperf.errors import heat

FORM = "application/x-www-form-urlencoded"
TYPES = st.sampled_from(
    [None, "", "application/json", "application/json; charset=utf-8", "text/plain", FORM, "JSON", "x/y"]
)
QUERIES = st.one_of(
    st.just(""),
    st.sampled_from(
        ["a", "a=", "=", "&", "&&", "a=1&a=2", "a=b=c", "a;b=1", "limit=3&marker=x", "ContentType=JSON", "a=%41"]
    )
    | st.sampled_from(["a=%ff", "a+b=c+d", "%C3%A9=1", "\u00ff=1", "ContentType=x/y", "ContentType=", "a=%zz"]),
    st.text("ab=&;+%", max_size=8),
)
BODIES = st.sampled_from(
    [b"", b"{}", b'{"a": 1}', b" {}", b"[]", b"{", b'{"a": "\xff"}', b"a=1&b=2", b"{" + b" " * 60 + b"}"]
)
METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"])


@st.composite
def environs(draw):
    body = draw(BODIES)
    length = draw(
        st.sampled_from([None, "", "0", str(len(body)), str(len(body)), str(len(body)), str(len(body) + 1), "x", "-1"])
    )
    stream: Any = io.BytesIO(body)
    if draw(st.integers(0, 5)) == 0:
        stream = io.BufferedReader(stream)
    environ = {
        "REQUEST_METHOD": draw(METHODS),
        "PATH_INFO": "/p/stacks",
        "SCRIPT_NAME": "/v1",
        "QUERY_STRING": draw(QUERIES),
        "wsgi.input": stream,
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "h",
    }
    content_type = draw(TYPES)
    if content_type is not None:
        environ["CONTENT_TYPE"] = content_type
    if length is not None:
        environ["CONTENT_LENGTH"] = length
    return environ


def copy(environ: dict[str, Any]) -> dict[str, Any]:
    stream = environ["wsgi.input"]
    raw = stream.raw if isinstance(stream, io.BufferedReader) else stream
    again = io.BytesIO(raw.getvalue())
    return {**environ, "wsgi.input": again if raw is stream else io.BufferedReader(again)}


def outcome(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except webob.exc.HTTPException as error:
        return type(error), str(error)
    except Exception as error:
        return type(error)


def reference_body(environ: dict[str, Any], limit: int) -> Any:
    """What a request's body says, by WebOb alone."""
    request = webob.Request(environ)
    request.params.get("ContentType")
    kind = request.content_type
    if request.method == "GET":
        kind = request.params.get("ContentType") or kind
    json_like = not kind or kind in ("JSON", "application/json") or kind.startswith("text/plain")
    if not (request.content_length or 0) > 0 or not json_like:
        return {}
    data = request.body
    if not data.startswith(b"{"):
        return {}
    if len(data) > limit:
        return heat.RequestLimitExceeded
    try:
        return {"body": dispatch.codec.decode(data)}
    except ValueError as error:
        return webob.exc.HTTPBadRequest, str(error)


@settings(max_examples=700, deadline=None)
@given(environs())
def test_parameters_and_body_are_those_that_webob_finds(environ):
    def ours(given_environ: dict[str, Any]) -> Any:
        request = ApiRequest(given_environ)
        request.read_params()
        return list(request.params.items()), outcome(dispatch.read_body, request, 50)

    def theirs(given_environ: dict[str, Any]) -> Any:
        params = list(webob.Request(given_environ).params.items())
        return params, outcome(reference_body, given_environ, 50)

    assert outcome(ours, copy(environ)) == outcome(theirs, copy(environ))


@given(QUERIES)
@example("")
@example("limit=1&limit=2&tags=a,b")
def test_simple_queries_read_as_webob_reads_them(query):
    ours = parse_query(query)
    if ours is None:
        assert any(mark in query for mark in "%+;\u00ff")
        return
    theirs = webob.Request.blank("/", query_string=query).params
    assert list(ours) == list(theirs) and list(ours.items()) == list(theirs.items()) and len(ours) == len(theirs)
    assert bool(ours) == bool(theirs)
    for name in {*ours, "a", "limit", "nothing"}:
        assert (ours.get(name), ours.get(name, 5)) == (theirs.get(name), theirs.get(name, 5))
        assert ours.getall(name) == theirs.getall(name) and (name in ours) == (name in theirs)
        assert outcome(ours.__getitem__, name) == outcome(theirs.__getitem__, name)
    wanted = {"a": SINGLE, "b": MIXED, "limit": MULTI}
    assert select(ours, wanted) == select(theirs, wanted)


def test_no_parameters():
    assert not NONE and "a" not in NONE and NONE.get("a") is None and NONE.getall("a") == [] and list(NONE) == []
    assert not Params([])


def wsgi(application: Any, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    found: list[Any] = []
    body = b"".join(application(environ, lambda status, headers, _exc=None: found.extend((status, headers))))
    return found[0], sorted(found[1]), body


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("value", [{"a": 1}, None, [], {"b": "\u00e9" * 5000}])
def test_answers_are_those_of_webob(method, value):
    environ = {**webob.Request.blank("/").environ, "REQUEST_METHOD": method}
    data = dispatch.codec.encode(value)
    expected = webob.Response(body=data, status=200, content_type="application/json", charset=None)
    answer = call_action(ApiRequest(environ), lambda _request: value, {}, 100)
    assert not isinstance(answer, webob.Response)
    assert wsgi(answer, dict(environ)) == wsgi(expected, dict(environ))


@pytest.fixture(scope="module")
def router() -> Router:
    conf = cfg.ConfigOpts()
    parse(conf, [], development=True)
    return Router(Services(conf, None, None))


ACCEPTS = [
    None,
    "",
    "*/*",
    "application/json",
    "text/html",
    "text/plain",
    "x",
    "text/html;q=0.1, application/json",
    "a/b" * 200,
]


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "BREW"])
def test_not_found_is_webobs(router, method, accept):
    environ = webob.Request.blank("/p/nothing", method=method).environ
    if accept is not None:
        environ["HTTP_ACCEPT"] = accept
    expected = wsgi(webob.exc.HTTPNotFound(), dict(environ))
    for _ in range(3):
        assert wsgi(router, dict(environ)) == expected


def test_kept_answers_are_bounded_and_their_headers_not_shared(router):
    environ = webob.Request.blank("/p/nothing").environ
    for number in range(2000):
        wsgi(router, {**environ, "HTTP_ACCEPT": f"x/{number}"})
    assert len(router._not_found) <= 256
    taken: list[Any] = []
    for _ in range(2):
        router(dict(environ), lambda _status, headers: taken.append(headers))
        taken[-1].append(("X-More", "1"))
    assert [name for name, _ in taken[1]].count("X-More") == 1


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json"}, {"Content-Type": FORM}, {"Accept": "x"}])
@pytest.mark.parametrize(("path", "allow"), [("/p/stacks", "GET,POST"), ("/p/stacks/s/1/resources/r", "GET,PATCH")])
def test_options_are_webobs(router, path, allow, headers):
    environ = webob.Request.blank(path, method="OPTIONS", headers=headers).environ
    expected = wsgi(webob.exc.HTTPNoContent(headers=[("Allow", allow)]), dict(environ))
    for _ in range(2):
        given_environ = dict(environ)
        assert wsgi(router, given_environ) == expected
        assert given_environ["wsgiorg.routing_args"][1]["allowed_methods"] == allow
        assert given_environ["wsgiorg.routing_args"][1]["tenant_id"] == "p"


def test_options_with_a_body_that_is_no_json(router):
    environ = webob.Request.blank("/p/stacks", method="OPTIONS", body=b"{", content_type="application/json").environ
    with pytest.raises(heat.HTTPExceptionDisguise):
        router(environ, None)

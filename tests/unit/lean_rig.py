"""Two implementations of one station around the same application: what each passes inward and answers.

Imported by the tests of the lean stations. Environs and answers come from the strategies here; ``outcome`` is what
somebody outside and somebody inside can see.
"""

import copy
import io
import re
from dataclasses import dataclass, field
from typing import Any

import webob.exc
from hypothesis import strategies as st

_ID = re.compile(r"req-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "options", "GE")
PATHS = (
    "/", "//", "/versions", "/versions/", "/versions/x", "//versions", "/v1", "/v1/", "/v1//", "/v1/p/stacks", "/v1//p",
    "//v1/p", "/v1.0/p", "/v1.1/p", "/v10/p", "/v2/p", "/V1/p", "/v1-beta/p", "/nope", "/healthcheck", "/healthcheck/",
    "/healthcheck/x", "/healthchecks", "/a/b/c", "/a/b", "/a", "*", "", "v1/p", "http://h/v1", "/v1/\xc3\xa4/x",
    "/v1/\xff", "/\xff/v1/p", "/v1/p?x", "/v1/ p",
)  # fmt: skip
ORIGINS = ("https://a.example", "https://b.example", "https://c.example", "", "*", "null")


def header(name: str, *values: str) -> tuple[str, st.SearchStrategy[str]]:
    return "HTTP_" + name.upper().replace("-", "_"), st.sampled_from(values)


_OPTIONAL = dict(
    (
        header("Host", "h.example", "h.example:80", "h.example:443", "H:8004", "[::1]:80", "[::1]", "h:", ":80",
               "\xe4"),
        header("Origin", *ORIGINS),
        header("Access-Control-Request-Method", "GET", "PUT", "TRACE", "get", ""),
        header("Access-Control-Request-Headers", "", "x-a", "X-A,x-b", " x-a , ,Accept", "X-Other", "x-a,", "ACCEPT"),
        header("Accept", "*/*", "text/plain", "application/json", "application/vnd.openstack.orchestration-v1", "x",
               "application/vnd.openstack.orchestration-v2", "application/vnd.openstack.orchestration-"),
        header("X-Openstack-Request-Id", "req-aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", "req-x", "", "r" * 40,
               "req-AAAAAAAA-bbbb-4ccc-8ddd-eeeeeeeeeeee", "req-aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee\n"),
        header("Forwarded", "", "for=1.2.3.4", "proto=https;host=f.example, proto=http", "PROTO = https ; For=[::1]",
               ";;,", "proto=https, http", "host=a=b", "proto"),
        header("X-Forwarded-Proto", "", "https", "https, http", "ftp"),
        header("X-Forwarded-Host", "", "f.example", "f.example, g.example"),
        header("X-Forwarded-For", "", "1.2.3.4", "1.2.3.4, 5.6.7.8"),
        header("X-Forwarded-Prefix", "", "/p", "p", "/p/", "/\xc3\xa4"),
        header("X-Auth-Url", "", "http://one.example/v3", "http://evil.example"),
    )
)  # fmt: skip


@st.composite
def environs(
    draw: Any,
    schemes: tuple[str, ...] = ("http", "https"),
    seekable: bool = False,
    methods: tuple[str, ...] = METHODS,
    headers: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A WSGI environ as the HTTP layer makes it.

    :param schemes: other ones come only out of other filters
    :param seekable: whether a filter above may have read the body with WebOb
    :param headers: those that nearly every request has, as environ keys
    """
    environ = {
        "REQUEST_METHOD": draw(st.sampled_from(methods)),
        "PATH_INFO": draw(st.sampled_from(PATHS)),
        "SCRIPT_NAME": draw(st.sampled_from(("", "", "/heat", "/\xc3\xa4", "/\xff"))),
        "QUERY_STRING": "",
        "SERVER_NAME": "server.example",
        "SERVER_PORT": draw(st.sampled_from(("80", "443", "8004"))),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "wsgi.url_scheme": draw(st.sampled_from(schemes)),
        "wsgi.input": io.BytesIO(b"body"),
    }
    names = draw(st.lists(st.sampled_from(sorted(_OPTIONAL)), unique=True, max_size=5))
    names += [name for name in headers if draw(st.integers(0, 5))]
    environ |= {name: draw(_OPTIONAL[name]) for name in names}
    if draw(st.booleans()):
        environ["CONTENT_TYPE"] = draw(
            st.sampled_from(
                ("", "application/json", "application/xml", "application/xml; charset=x", "text/XML", "xml")
            )
        )
    if seekable and draw(st.booleans()):
        environ["webob.is_body_seekable"] = True
        environ["wsgi.input"].read(2)
    return environ


@dataclass
class Plan:
    """What the application answers: status, headers, body; or what it raises, perhaps by exc_info."""

    status: str = "200 OK"
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: list[bytes] = field(default_factory=lambda: [b"{}"])
    error: Exception | None = None
    by_exc_info: bool = False


_HEADERS = (
    ("Content-Type", "application/json"),
    ("Content-Length", "2"),
    ("X-Openstack-Request-Id", "mine"),
    ("Access-Control-Allow-Origin", "https://own.example"),
    ("access-control-allow-credentials", "false"),
    ("Vary", "Accept"),
    ("vary", "Cookie"),
    ("Set-Cookie", "a=b"),
)
_LOCATIONS = ("http://h.example/v1/x", "https://h/x", "/relative", "x", "//other.example/", "", "mailto:x", "/tab\t\nx")


@st.composite
def plans(draw: Any, wild: bool) -> Plan:
    """Answers of known stations, or of any WSGI application if ``wild``."""
    statuses = ["200 OK", "201 Created", "204 No Content", "300 Multiple Choices", "404 Not Found", "403 Forbidden"]
    statuses += ["500 Internal Server Error"] + (["200 Fine", "200", "299 Odd", "404 ", "x"] if wild else [])
    headers = draw(st.lists(st.sampled_from(_HEADERS), max_size=4))
    if draw(st.booleans()):
        name = draw(st.sampled_from(("Location", "location")))
        headers.append((name, draw(st.sampled_from(_LOCATIONS if wild else _LOCATIONS[:2]))))
    plan = Plan(draw(st.sampled_from(statuses)), headers, draw(st.sampled_from(([], [b""], [b"{}"], [b"a", b"b"]))))
    if draw(st.integers(0, 4)) == 0:
        known: list[Exception] = [ValueError("broken")]
        plan.error = draw(st.sampled_from([*known, webob.exc.HTTPNotFound("gone")] if wild else known))
        plan.by_exc_info = wild and draw(st.booleans())
    return plan


class Inner:
    """The application below the station: does what its plan says, and notes what it was given."""

    def __init__(self) -> None:
        self.plan = Plan()
        self.given: Any = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.given = seen(environ)
        plan = self.plan
        if plan.error is not None and not plan.by_exc_info:
            raise plan.error.with_traceback(None)  # it may have been raised before
        exc_info = (type(plan.error), plan.error, None) if plan.error else None
        start_response(plan.status, list(plan.headers), *([exc_info] if exc_info else []))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else list(plan.body)


def seen(environ: dict[str, Any]) -> dict[str, Any]:
    """What there is in an environ, but for WebOb's own notes, and ids by their form only."""
    found = {name: value for name, value in environ.items() if name != "webob.adhoc_attrs"}
    found["wsgi.input"] = environ["wsgi.input"].tell()
    if _ID.fullmatch(found.get("openstack.request_id", "")):
        found["openstack.request_id"] = "an id"
    return found


def outcome(station: Any, inner: Inner, environ: dict[str, Any], plan: Plan | None = None) -> dict[str, Any]:
    """What comes of one request: the answer or the exception, and the environ inside and afterwards."""
    inner.plan = plan or Plan()
    inner.given = None
    environ = copy.copy(environ)
    position = environ["wsgi.input"].tell()
    environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].getvalue())
    environ["wsgi.input"].seek(position)
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        assert exc_info is None and not started
        assert type(headers) is list
        started.extend((status, headers))
        return lambda _data: None

    found: dict[str, Any] = {}
    try:
        body = station(environ, start_response)
        found["body"] = b"".join(body)
        if hasattr(body, "close"):
            body.close()
        own = environ.get("openstack.request_id")
        headers = [(name, "own id" if value == own else value) for name, value in started[1]]
        found |= {"status": started[0], "headers": headers}
    except Exception as error:
        found["raised"] = (type(error), str(error))
    return found | {"inside": inner.given, "afterwards": seen(environ)}

"""The compiled table of routes against routes.Mapper: the same route and variables, whatever the path."""

import itertools
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oslo_config import cfg

from heatperf.api.compiled_routes import METHODS, CompiledRoutes, Entry, parse
from heatperf.api.controller import Services
from heatperf.api.router import Router
from heatperf.api.routes import ROUTES
from heatperf.config.load import parse as parse_conf


def make() -> Router:
    conf = cfg.ConfigOpts()
    parse_conf(conf, [], development=True)
    return Router(Services(conf, None, None))


ROUTER = make()
PATTERNS = sorted({group.prefix + route.path for group in ROUTES for route in group.routes})
WORDS = sorted({word for path in PATTERNS for segment in parse(path) for word in segment.words or ()})
EVERY_METHOD = sorted(METHODS)
ODD_METHODS = ["GE", "POS", "ET,", "get", "TRACE", "PROPFIND", "E", ",", "", "OPTION", "PUT,PATCH", "GET "]

PLAIN = st.text("abcXYZ019-_", min_size=1, max_size=5)
VALUES = st.one_of(
    PLAIN,
    st.sampled_from(
        [
            *WORDS,
            "",
            ".",
            "..",
            "arn:",
            "arn:openstack:heat::p1:stacks",
            "arn",
            "arn:\n",
            "ARN:x",
            "xarn:y",
            "a.json",
            "{x}",
            ":x",
            "s\u00c3\u00a9",
            "\u00ff\u00fe",
            "\x00",
            "\u2028",
            "a;b",
            "\n",
        ]
    ),
    st.text(st.characters(max_codepoint=255), max_size=4).map(lambda text: text.replace("/", "")),
)


@st.composite
def from_pattern(draw):
    """A path of the table with anything in its variables, and sometimes more after it, or less."""
    segments = []
    for segment in parse(draw(st.sampled_from(PATTERNS))):
        words = sorted(segment.words or ())
        if segment.rest is not None:
            segments.append(segment.rest + "/".join(draw(st.lists(VALUES, max_size=6))))
        elif words and draw(st.integers(0, 9)):
            segments.append(draw(st.sampled_from(words)))
        else:
            segments.append(draw(VALUES))
    segments = segments[: draw(st.sampled_from([None, None, None, None, -1]))]
    segments += draw(st.lists(VALUES, max_size=2)) if draw(st.integers(0, 3)) == 0 else []
    return draw(st.sampled_from(["/", "/", "/", "/", "/", "", "//"])) + "/".join(segments)


PATHS = st.one_of(
    from_pattern(),
    st.lists(VALUES, max_size=9).map(lambda parts: "/" + "/".join(parts)),
    st.text(st.characters(max_codepoint=255), max_size=30),
)


def environ(method: str, path: str, query: str = "", content_type: str = "") -> dict:
    return {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "CONTENT_TYPE": content_type}


def compiled(given_environ: dict) -> dict | None:
    """The compiled table's answer in the form of the Mapper's.

    :raises LookupError: it leaves the answer to the Mapper
    """
    found = ROUTER.find(given_environ)
    if found is None:
        return None
    target, variables = found
    return {**variables, **target.constants, "controller": target.controller, "action": target.action}


def check(method: str, path: str) -> None:
    given_environ = environ(method, path)
    try:
        ours = compiled(given_environ)
    except LookupError:
        assert method not in METHODS or "\n" in path
    else:
        assert ours == ROUTER.match(given_environ)


@settings(max_examples=1000, deadline=None)
@given(st.one_of(st.sampled_from(EVERY_METHOD), st.sampled_from(ODD_METHODS)), PATHS)
@example("GET", "")
@example("GET", "/")
@example("GET", "/p/stacks")
@example("GET", "/p/stacks\n")
@example("GET", "/p/stacks/")
@example("POST", "/p/stacks/arn:openstack:heat::p:stacks/s/1/resources/r/signal")
@example("HEAD", "/p/stacks/arn:a/detail/x/y/z/1/2/3/4/5/6//")
@example("OPTIONS", "/p/stacks/arn:a/b")
@example("PATCH", "/p/stacks/arn:")
@example("HEAD", "/p/stacks/s/resources")
@example("GET", "*")
@example("GET", "p/stacks")
@example("GET", "/p//stacks")
def test_same_as_the_mapper(method, path):
    check(method, path)


def test_every_pattern_with_every_method():
    values = ["v", "detail", "arn:x", "preview", "metadata", "s\u00c3\u00a9"]
    for pattern, method in itertools.product(PATTERNS, EVERY_METHOD):
        for value in values:
            parts = []
            for segment in parse(pattern):
                parts.append(sorted(segment.words)[0] if segment.words else (segment.rest or "") + value)
            for end in ("", "/", "/x", ".json"):
                check(method, "/" + "/".join(parts) + end)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(EVERY_METHOD), st.lists(VALUES, min_size=1, max_size=400))
def test_long_paths(method, parts):
    path = "/p/stacks/arn:" + "/".join(parts)
    check(method, path)
    check(method, "/" + "/".join(parts))


@pytest.mark.parametrize(
    ("query", "method", "content_type"),
    [
        ("_method=delete", "GET", ""),
        ("a=1&x_method=put", "GET", ""),
        ("", "POST", "application/x-www-form-urlencoded"),
        ("", "POST", "Multipart/Form-Data; boundary=x"),
    ],
)
def test_what_may_name_another_method_is_left_to_the_mapper(query, method, content_type):
    with pytest.raises(LookupError):
        ROUTER.find(environ(method, "/p/stacks", query, content_type))


def test_the_time_does_not_grow_with_the_number_of_routes():
    def entries(count: int) -> list[Entry]:
        return [
            Entry(None, f"/{{t}}/word{number}/{{x}}", "GET", {"controller": "c", "action": number})
            for number in range(count)
        ]

    def seconds(routes: CompiledRoutes, path: str) -> float:
        best = 1.0
        for _ in range(20):
            began = time.perf_counter()
            for _ in range(200):
                routes.find("GET", path)
            best = min(best, time.perf_counter() - began)
        return best

    few, many = CompiledRoutes(entries(5)), CompiledRoutes(entries(500))
    found = many.find("GET", "/t/word499/x")
    assert found is not None and found[0].action == 499
    assert seconds(many, "/t/word499/x") < 3 * seconds(few, "/t/word4/x")


@pytest.mark.parametrize("path", ["/a{b}", "/{b}c", "/:b", "/{b:[0-9]+}", r"/{b:x\x3A.*}/c", "/a//b"])
def test_patterns_that_cannot_be_compiled_are_refused(path):
    with pytest.raises(ValueError, match="pattern|segment|follows"):
        CompiledRoutes([Entry(None, path, "GET", {"controller": "c", "action": "a"})])

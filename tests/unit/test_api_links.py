"""Links against WebOb's relative_url, for hosts, script names and identities of every kind; views over plain data."""

from typing import Any

import pytest
import webob
import webob.exc
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heatperf.api import links, views
from heatperf.api.identity import Identity

ID = "7b7d9a5c-1d43-4d0e-9c06-000000000000"
NAMES = st.one_of(
    st.sampled_from(
        [
            "s",
            ID,
            "a b",
            "a.b",
            ".",
            "..",
            ".hidden",
            "",
            "~x",
            "%41",
            "s\u00e9",
            "a;b",
            "a?b#c",
            "a:b",
            "arn:x",
            "x\n",
            "-",
        ]
    ),
    st.text(st.characters(exclude_characters="/", exclude_categories=("Cs",)), max_size=6),
    st.text("abz019_.-~", min_size=1, max_size=8),
)
PROJECTS = st.one_of(NAMES, st.sampled_from(["a/b", "/", "a/"]))
SUBPATHS = st.one_of(
    st.just(""),
    st.lists(NAMES, max_size=5).map(lambda parts: "/".join(["/resources", *parts])),
    st.sampled_from(["/", "//", "resources/r", "/resources/../x", "/resources/./x", "/resources//x", "/resources/.x"]),
)
IDENTITIES = st.builds(Identity, PROJECTS, NAMES, PROJECTS, SUBPATHS)


@st.composite
def environs(draw):
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/p/stacks",
        "QUERY_STRING": "",
        "SCRIPT_NAME": draw(
            st.sampled_from(
                ["/v1", "", "/", "/orchestration/v1", "/a//v1", "/v1.0", "/../v1", "/./v1", "/s\u00c3\u00a9", "/a b;c"]
            )
        ),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": draw(st.sampled_from(["80", "443", "8004"])),
        "wsgi.url_scheme": draw(
            st.sampled_from(["http", "https", "http", "https", "HTTP", "https, http", "ftp", "", "a:b"])
        ),
    }
    host = draw(
        st.sampled_from(
            [
                None,
                "h",
                "h:80",
                "h:443",
                "h:8004",
                "[::1]:8004",
                "[::1]",
                "[::1",
                "",
                ":",
                "a b",
                "a?b",
                "a#b",
                "a/b",
                "a/../b",
            ]
            + ["u@h", "h:x", "\u00ff"]
        )
    )
    if host is not None:
        environ["HTTP_HOST"] = host
    return environ


def outcome(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:
        return type(error)


@settings(max_examples=700, deadline=None)
@given(environs(), IDENTITIES)
@example({"wsgi.url_scheme": "http", "HTTP_HOST": "h", "SCRIPT_NAME": "/v1"}, Identity("p", ".", ".."))
@example({"wsgi.url_scheme": "http", "HTTP_HOST": "h", "SCRIPT_NAME": "/v1"}, Identity("", "", ""))
@example({"wsgi.url_scheme": "http", "HTTP_HOST": "h", "SCRIPT_NAME": "/v1"}, Identity("p", "\ud800", "1"))
def test_same_links_as_webob(environ, identity):
    request = webob.Request(environ)

    def expected() -> str:
        return request.relative_url(identity.url_path(), True)

    def ours() -> str:
        return links.url_of(links.base_url(environ), identity)

    def plain() -> str:
        base = links.base_url(environ)
        return links.plain_url(base, identity.to_wire()) or links.url_of(base, identity)

    assert outcome(ours) == outcome(plain) == outcome(expected)


def test_ordinary_links_need_no_webob(monkeypatch):
    base = "http://ordinary.example:8004/v1"
    assert links.prefix(base) == base + "/"
    monkeypatch.setattr(links, "join", None)
    identity = Identity("p1", "web-server_1.test~a", ID, "/resources/a.b/events/9")
    expected = f"{base}/p1/stacks/web-server_1.test~a/{ID}/resources/a.b/events/9"
    assert links.url_of(base, identity) == links.plain_url(base, identity.to_wire()) == expected


class TestStacks:
    BASE = "http://h/v1"
    REPLY = {
        "stack_identity": {"tenant": "p1", "stack_name": "s", "stack_id": ID, "path": ""},
        "stack_name": "s",
        "stack_action": "CREATE",
        "stack_status": "COMPLETE",
        "parameters": {"a": 1},
    }
    LINK = {"rel": "self", "href": f"http://h/v1/p1/stacks/s/{ID}"}

    def test_a_listing_is_a_function_of_plain_data(self):
        found = views.stacks(self.BASE, [self.REPLY, self.REPLY], with_project=True)
        one = {"id": ID, "links": [self.LINK], "project": "p1", "stack_name": "s", "stack_status": "CREATE_COMPLETE"}
        assert found == [one, one]

    @pytest.mark.parametrize("name", ["a/b", "/"])
    def test_a_name_with_a_slash_is_an_error_of_the_engine(self, name):
        value = {**self.REPLY["stack_identity"], "stack_name": name}
        with pytest.raises(webob.exc.HTTPInternalServerError, match="Invalid Stack address"):
            views.stack_url(self.BASE, value)

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"stack_name": "\ud800"}, UnicodeEncodeError),
            ({"stack_name": None}, TypeError),
            ({"tenant": None}, TypeError),
            ({"more": 1}, TypeError),
        ],
    )
    def test_identities_that_are_none(self, change, error):
        with pytest.raises(error):
            views.stack_url(self.BASE, {**self.REPLY["stack_identity"], **change})

    def test_a_path_may_be_left_out_and_an_id_be_a_number(self):
        assert (
            views.stack_url(self.BASE, {"tenant": "p", "stack_name": "s", "stack_id": 5}) == "http://h/v1/p/stacks/s/5"
        )

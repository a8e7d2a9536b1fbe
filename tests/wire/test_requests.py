"""What bytes on the wire become in the environ, however they are cut."""

import base64
import json
import random

import pytest
from rawhttp import Client, ask

HOST = b"Host: heat.example.test:8004\r\n"
JSON_BODY = b'{"stack_name": "s", "files": {"a": "\\r\\n\\r\\n"}}'
CHUNKED_BODY = b"5;ext=1\r\nhello\r\n4\r\n\r\n\r\n\r\n1\r\n!\r\n0\r\nTrailer: t\r\nX-Auth-Token: forged\r\n\r\n"

CASES = {
    "get": (b"GET /v1/p/stacks?limit=2 HTTP/1.1\r\n" + HOST + b"X-Auth-Token: t\r\n\r\n", b""),
    "post": (
        b"POST /v1/p/stacks HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(JSON_BODY), JSON_BODY),
        JSON_BODY,
    ),
    "chunked": (
        b"PUT /c HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED_BODY,
        b"hello\r\n\r\n!",
    ),
    "lowercase method": (b"get /m HTTP/1.1\r\n" + HOST + b"\r\n", b""),
    "upgrade with body": (
        b"POST /u HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nGET /",
        b"GET /",
    ),
    "empty lines first": (b"\r\n\r\nGET /e HTTP/1.1\r\n" + HOST + b"\r\n", b""),
}


def environ_of(answer):
    assert answer.status == 200, answer
    seen = json.loads(answer.body)
    seen["body"] = base64.b64decode(seen["body"])
    return seen


def cut(data, how):
    if how == "whole":
        return [data]
    if how == "bytes":
        return [data[i : i + 1] for i in range(len(data))]
    dice = random.Random(how)
    places = sorted({0, len(data), *(dice.randrange(len(data)) for _ in range(dice.randrange(1, 9)))})
    return [data[a:b] for a, b in zip(places, places[1:], strict=False)]


@pytest.mark.parametrize("how", ["whole", "bytes", *range(8)])
@pytest.mark.parametrize("name", CASES)
def test_cut_anywhere(server, name, how):
    data, body = CASES[name]
    with Client(server.port) as client:
        # Twice, and once more behind it in the same segment: the parser must be back at its beginning.
        for piece in [*cut(data, how), *cut(data + data, how)]:
            client.send(piece)
        seen = [environ_of(client.read()) for _ in range(3)]
    assert [one["body"] for one in seen] == [body] * 3
    assert seen[0] == seen[1] == seen[2]


def test_environ_is_complete(server):
    data, _ = CASES["get"]
    seen = environ_of(ask(server.port, data))
    assert seen["REQUEST_METHOD"] == "GET"
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"], seen["QUERY_STRING"]) == ("", "/v1/p/stacks", "limit=2")
    assert seen["RAW_URI"] == seen["REQUEST_URI"] == "/v1/p/stacks?limit=2"
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("127.0.0.1", str(server.port))
    assert seen["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert seen["REMOTE_ADDR"] == "127.0.0.1" and seen["REMOTE_PORT"].isdigit()
    assert seen["wsgi.url_scheme"] == "http"
    assert (seen["wsgi.multithread"], seen["wsgi.multiprocess"], seen["wsgi.run_once"]) == (False, True, False)
    assert "CONTENT_LENGTH" not in seen and "wsgi.input_terminated" not in seen
    assert seen["HTTP_X_AUTH_TOKEN"] == "t" and seen["HTTP_HOST"] == "heat.example.test:8004"


def test_body_with_length(server):
    data, body = CASES["post"]
    seen = environ_of(ask(server.port, data))
    assert seen["CONTENT_LENGTH"] == str(len(body)) and seen["CONTENT_TYPE"] == "application/json"
    assert "HTTP_CONTENT_LENGTH" not in seen and "wsgi.input_terminated" not in seen


def test_chunked_is_decoded_and_says_so(server):
    seen = environ_of(ask(server.port, CASES["chunked"][0]))
    assert seen["HTTP_TRANSFER_ENCODING"] == "chunked" and seen["wsgi.input_terminated"] is True
    assert "CONTENT_LENGTH" not in seen
    assert "HTTP_TRAILER" not in seen and "HTTP_X_AUTH_TOKEN" not in seen  # trailers are no headers


@pytest.mark.parametrize("method", ["get", "BREW", "PROPFIND", "TRACE", "SOURCE", "DESCRIBE", "PRI", "M-SEARCH", "X!"])
def test_any_method_token_reaches_the_application(server, method):
    seen = environ_of(ask(server.port, f"{method} /v1/a HTTP/1.1\r\n".encode() + HOST + b"\r\n"))
    assert seen["REQUEST_METHOD"] == method and seen["PATH_INFO"] == "/v1/a"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"*", "*", ""),
        (b"//v1//admin/stacks", "//v1//admin/stacks", ""),
        (b"/v1/admin%2Fstacks", "/v1/admin/stacks", ""),
        (b"/v1/a%20b/%0A", "/v1/a b/\n", ""),
        (b"/caf%C3%A9", "/caf\u00c3\u00a9", ""),
        (b"/caf\xc3\xa9?q=\xff", "/caf\u00c3\u00a9", "q=%FF"),
        (b"/bad%zz%", "/bad%zz%", ""),
        (b"/%FF", "/\u00ff", ""),
        (b"/a?b=%41&c=?d#e", "/a", "b=%41&c=?d"),
        (b"http://heat.example.test:8004/v1/x?y=1", "/v1/x", "y=1"),
        (b"https://h", "/", ""),
        (b"http://h?a=b", "/", "a=b"),
        (b"/" + b"n" * 40_000, "/" + "n" * 40_000, ""),
    ],
)
def test_targets(server, target, path, query):
    seen = environ_of(ask(server.port, b"OPTIONS " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n"))
    assert (seen["PATH_INFO"], seen["QUERY_STRING"]) == (path, query)


def test_headers_are_joined_trimmed_and_latin1(server):
    seen = environ_of(
        ask(
            server.port,
            b"GET / HTTP/1.1\r\n" + HOST + b"X-A: 1\r\nx-a:2  \r\nX-A:\t3\r\nCookie: a=b\r\nCookie: c=d\r\n"
            b"X-Latin: caf\xe9\r\nX-Empty:\r\n\r\n",
        )
    )
    assert seen["HTTP_X_A"] == "1,2,3"
    assert seen["HTTP_COOKIE"] == "a=b; c=d"
    assert seen["HTTP_X_LATIN"] == "caf\u00e9" and seen["HTTP_X_EMPTY"] == ""


def test_underscore_headers_are_dropped(server):
    seen = environ_of(
        ask(
            server.port,
            b"GET / HTTP/1.1\r\n" + HOST + b"X_User_Id: evil\r\nX-User-Id: real\r\nContent_Length: 9\r\n\r\n",
        )
    )
    assert seen["HTTP_X_USER_ID"] == "real" and "CONTENT_LENGTH" not in seen


@pytest.mark.parametrize("host", [b"", b"Host:\r\n", b"Host: user@host\r\n", b"Host: [2001:db8::1]:8004\r\n"])
def test_hosts_upstream_accepts(server, host):
    assert environ_of(ask(server.port, b"GET / HTTP/1.1\r\n" + host + b"\r\n"))["PATH_INFO"] == "/"


@pytest.mark.parametrize(("value", "scheme"), [(b"https", "https"), (b"http", "http"), (b"https, http", "http")])
def test_forwarded_proto_of_a_proxy_that_terminates_tls(server, value, scheme):
    seen = environ_of(ask(server.port, b"GET / HTTP/1.1\r\n" + HOST + b"X-Forwarded-Proto: " + value + b"\r\n\r\n"))
    assert seen["wsgi.url_scheme"] == scheme


@pytest.mark.parametrize(
    ("headers", "scheme"),
    [
        (b"X-Forwarded-SSL: on\r\n", "https"),
        (b"X-Forwarded-SSL: off\r\nX-Forwarded-Proto: https\r\n", "https"),
        (b"X-Forwarded-SSL: on\r\nX-Forwarded-Proto: http\r\n", "http"),
        (b"X-Forwarded-Proto: http\r\nX-Forwarded-SSL: on\r\n", "http"),
        (b"X-Forwarded-Proto:\r\nX-Forwarded-SSL: on\r\n", "https"),
    ],
)
def test_where_forwarded_headers_disagree_the_named_scheme_wins_as_under_uwsgi(server, headers, scheme):
    seen = environ_of(ask(server.port, b"GET / HTTP/1.1\r\n" + HOST + headers + b"\r\n"))
    assert seen["wsgi.url_scheme"] == scheme

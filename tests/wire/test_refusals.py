"""Protocol errors: the status, the close, and nothing after the mistake served."""

import pytest
from rawhttp import Client, ask

from heatperf.loops import HttpLimits

H = b"Host: h\r\n"
POST = b"POST / HTTP/1.1\r\n" + H
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"

BAD = {
    "two lengths that differ": (400, POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
    "two equal lengths": (400, POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab"),
    "length list": (400, POST + b"Content-Length: 2, 2\r\n\r\nab"),
    "signed length": (400, POST + b"Content-Length: +2\r\n\r\nab"),
    "negative length": (400, POST + b"Content-Length: -2\r\n\r\nab"),
    "empty length": (400, POST + b"Content-Length:\r\n\r\nab"),
    "hex length": (400, POST + b"Content-Length: 0x2\r\n\r\nab"),
    "overflowing length": (400, POST + b"Content-Length: 99999999999999999999\r\n\r\nab"),
    "length and coding": (400, POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "coding and length": (400, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n"),
    "coding in 1.0": (400, b"POST / HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "unknown coding": (501, POST + b"Transfer-Encoding: xchunked\r\n\r\n"),
    "identity": (501, POST + b"Transfer-Encoding: identity\r\n\r\n"),
    "gzip too": (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "chunked twice": (400, POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "vertical tab in coding": (400, POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    "chunk size with prefix": (400, CHUNKED + b"0x1\r\na\r\n0\r\n\r\n"),
    "chunk size with space": (400, CHUNKED + b"1 \r\na\r\n0\r\n\r\n"),
    "negative chunk": (400, CHUNKED + b"-1\r\na\r\n0\r\n\r\n"),
    "huge chunk size": (400, CHUNKED + b"fffffffffffffffff\r\na\r\n0\r\n\r\n"),
    "chunk longer than said": (400, CHUNKED + b"1\r\nab\r\n0\r\n\r\n"),
    "chunk line with bare LF": (400, CHUNKED + b"1\na\r\n0\r\n\r\n"),
    "folded header": (400, b"GET / HTTP/1.1\r\n" + H + b"A: b\r\n c\r\n\r\n"),
    "space before colon": (400, b"GET / HTTP/1.1\r\n" + H + b"A : b\r\n\r\n"),
    "space before first header": (400, b"GET / HTTP/1.1\r\n A: b\r\n" + H + b"\r\n"),
    "bare LF everywhere": (400, b"GET / HTTP/1.1\nHost: h\n\n"),
    "bare LF in headers": (400, b"GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n"),
    "bare CR in headers": (400, b"GET / HTTP/1.1\r\nHost: h\rA: b\r\n\r\n"),
    "NUL in a value": (400, b"GET / HTTP/1.1\r\n" + H + b"A: b\0c\r\n\r\n"),
    "empty header name": (400, b"GET / HTTP/1.1\r\n" + H + b": c\r\n\r\n"),
    "header name beyond ASCII": (400, b"GET / HTTP/1.1\r\n" + H + b"A\xe9: c\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\n" + H + H + b"\r\n"),
    "no method": (400, b" / HTTP/1.1\r\n" + H + b"\r\n"),
    "method that is no token": (400, b"GE(T / HTTP/1.1\r\n" + H + b"\r\n"),
    "TLS hello": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "endless method": (400, b"A" * 100),
    "control character in target": (400, b"GET /\x01 HTTP/1.1\r\n" + H + b"\r\n"),
    "not HTTP": (400, b"GET / HTTQ/1.1\r\n" + H + b"\r\n"),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/1.2": (505, b"GET / HTTP/1.2\r\n" + H + b"\r\n"),
    "HTTP/0.9": (505, b"GET /\r\n\r\n"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(serve_app, name):
    status, data = BAD[name]
    called = []

    def app(environ, start_response):
        called.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return []

    with Client(serve_app(app)) as client:
        client.send_quietly(data + SMUGGLED)
        answer = client.read()
        assert answer.status == status
        assert answer.header("content-type").startswith("text/plain")
        assert answer.header("connection") == "close" and answer.header("date")
        client.sock.shutdown(1)
        assert client.closed()
    assert called == []


def test_a_mistake_behind_a_good_request(server):
    with Client(server.port) as client:
        client.send(b"GET /ok HTTP/1.1\r\n" + H + b"\r\nBAD\x00 / HTTP/1.1\r\n\r\n")
        assert client.read().status == 200
        assert client.read().status == 400


SMALL = HttpLimits(max_request_line=1000, max_header_line=500, max_header_bytes=1500, max_headers=20, max_body=1000)


@pytest.fixture
def small(make_server):
    return make_server(limits=SMALL)


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (200, b"GET /" + b"a" * 900 + b" HTTP/1.1\r\n" + H + b"\r\n"),
        (414, b"GET /" + b"a" * 1001 + b" HTTP/1.1\r\n" + H + b"\r\n"),
        (414, b"GET /" + b"a" * 5000),
        (200, b"GET / HTTP/1.1\r\n" + H + b"A: " + b"a" * 490 + b"\r\n\r\n"),
        (431, b"GET / HTTP/1.1\r\n" + H + b"A: " + b"a" * 510 + b"\r\n\r\n"),
        (431, b"GET / HTTP/1.1\r\n" + H + b"A: " + b"a" * 9000),
        (431, b"GET / HTTP/1.1\r\n" + H + (b"A: " + b"a" * 400 + b"\r\n") * 4 + b"\r\n"),
        (200, b"GET / HTTP/1.1\r\n" + H + b"A: b\r\n" * 19 + b"\r\n"),
        (431, b"GET / HTTP/1.1\r\n" + H + b"A: b\r\n" * 20 + b"\r\n"),
        (200, b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000),
        (413, b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001),
        (200, CHUNKED + b"3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n"),
        (413, CHUNKED + b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"),
        (413, CHUNKED + b"1\r\nx\r\n" * 1001 + b"0\r\n\r\n"),
        (400, CHUNKED + b"1;" + b"e" * 4000),
        (400, CHUNKED + b"0\r\n" + b"T: t\r\n" * 1000),
    ],
)
def test_limits(small, status, data):
    assert ask(small.port, data).status == status


@pytest.fixture
def hasty(make_server):
    return make_server(limits=HttpLimits(header_deadline=0.3, body_deadline=0.3, idle_timeout=0.3, linger_timeout=0.3))


def test_slow_head(hasty):
    assert ask(hasty.port, b"GET / HTTP/1.1\r\nHo").status == 408


def test_a_trickle_does_not_extend_the_header_deadline(hasty):
    with Client(hasty.port) as client:
        client.send(b"GET / HTTP/1.1\r\nA: ")
        client.sock.settimeout(0.02)
        for _ in range(500):
            client.send_quietly(b"a")
            try:
                client.buffer += client.sock.recv(1000)
                break
            except TimeoutError:
                continue
        assert client.buffer.startswith(b"HTTP/1.1 408 ")


def test_slow_body(hasty):
    with Client(hasty.port) as client:
        client.send(b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 10\r\n\r\nabc")
        answer = client.read()
        assert answer.status == 408 and answer.header("connection") == "close"
        assert client.closed()


def test_idle_connections_are_closed_silently(hasty):
    with Client(hasty.port) as client:
        assert client.closed()
    with Client(hasty.port) as client:
        client.send(b"GET / HTTP/1.1\r\n" + H + b"\r\n")
        assert client.read().status == 200
        assert client.closed()


def test_a_slow_application_is_not_hurried(hasty, loop_name):
    def app(environ, start_response):
        hasty.loop.sleep(0.8)
        start_response("200 OK", [])
        return [b"done"]

    before, hasty.app = hasty.app, app
    try:
        assert ask(hasty.port, b"GET / HTTP/1.1\r\n" + H + b"\r\n").body == b"done"
    finally:
        hasty.app = before


def test_a_client_that_leaves_in_the_middle_harms_nobody(server, caplog):
    for data in (b"GET", b"GET / HTTP/1.1\r\nHo", POST + b"Content-Length: 10\r\n\r\nabc", CHUNKED + b"5\r\nab"):
        with Client(server.port) as client:
            client.send(data)
    assert ask(server.port, b"GET / HTTP/1.1\r\n" + H + b"\r\n").status == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]

"""What leaves the server: framing, keep-alive, 100 Continue, early answers, an application that misbehaves."""

import contextlib
import socket
import time

import pytest
from flood import PIPELINED, Flood
from rawhttp import Client, ask, wait_for

from heatperf.errors import BodyTooLarge, Overloaded
from heatperf.loops import HttpLimits

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
GET10 = b"GET / HTTP/1.0\r\n\r\n"


def answering(*parts, status="200 OK", headers=(), as_list=True):
    def app(environ, start_response):
        start_response(status, list(headers))
        return list(parts) if as_list else iter(parts)

    return app


def test_head_and_body_leave_in_one_segment(serve_app):
    with Client(serve_app(answering(b"ok"))) as client:
        client.send(GET)
        assert client.sock.recv(65536).endswith(b"\r\n\r\nok")


def test_date_is_sent_once_and_true(serve_app):
    answer = ask(serve_app(answering(b"ok")), GET)
    sent = time.mktime(time.strptime(answer.header("date"), "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone
    assert abs(time.time() - sent) < 5
    own = ask(serve_app(answering(b"", headers=[("Date", "Thu, 01 Jan 1970 00:00:00 GMT")])), GET)
    assert own.header("date").startswith("Thu, 01 Jan 1970")


@pytest.mark.parametrize(
    ("request_head", "stays"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True),
    ],
)
def test_keep_alive(serve_app, request_head, stays):
    with Client(serve_app(answering(b"ok"))) as client:
        client.send(request_head)
        answer = client.read()
        if stays:
            assert answer.header("connection") in (None, "keep-alive")
            assert (answer.header("connection") == "keep-alive") == (b"1.0" in request_head)
            client.send(request_head)
            assert client.read().body == b"ok"
        else:
            assert answer.header("connection") == "close"
            assert client.closed()


def test_the_servers_own_answer_says_that_the_connection_stays(serve_app):
    """To a client of HTTP/1.0, silence means that the end of the connection ends the answer."""

    def app(environ, start_response):
        raise Overloaded("full", retry_after=1)

    with Client(serve_app(app)) as client:
        for _ in range(2):
            client.send(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            answer = client.read()
            assert (answer.status, answer.header("connection")) == (503, "keep-alive")


def test_keep_alive_can_be_turned_off(make_server):
    server = make_server(answering(b"ok"), HttpLimits(keep_alive=False))
    with Client(server.port) as client:
        client.send(GET)
        assert client.read().header("connection") == "close"
        assert client.closed()


def test_pipelined_requests_take_turns_with_other_connections(serve_app):
    """Hundreds of requests in one segment, of which none waits for anything."""
    flood = Flood()
    with Client(serve_app(flood.app)) as other, Client(serve_app(flood.app)) as pipelining:
        flood.run(other, pipelining, lambda: pipelining.send(PIPELINED * 500))


def test_pipelined_answers_keep_their_order(serve_app):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode() + environ["wsgi.input"].read()]

    with Client(serve_app(app)) as client:
        client.send(b"".join(
            b"POST /%d HTTP/1.1\r\nContent-Length: 3\r\n\r\n<%d>" % (n, n % 10) for n in range(50)
        ))  # fmt: skip
        assert [client.read().body for _ in range(50)] == [b"/%d<%d>" % (n, n % 10) for n in range(50)]


def test_unknown_length_is_chunked_and_the_connection_stays(serve_app):
    with Client(serve_app(answering(b"ab", b"", b"cd", as_list=False))) as client:
        client.send(GET)
        answer = client.read()
        assert (answer.header("transfer-encoding"), answer.body) == ("chunked", b"abcd")
        client.send(GET)
        assert client.read().body == b"abcd"


def test_unknown_length_to_http_10_ends_with_the_connection(serve_app):
    answer = ask(serve_app(answering(b"ab", b"cd", as_list=False)), GET10)
    assert answer.header("transfer-encoding") is None
    assert (answer.header("connection"), answer.body) == ("close", b"abcd")


def test_write_callable(serve_app):
    def app(environ, start_response):
        write = start_response("200 OK", [("Content-Length", "6")])
        write(b"abc")
        return [b"def"]

    with Client(serve_app(app)) as client:
        client.send(GET + GET)
        assert [client.read().body, client.read().body] == [b"abcdef"] * 2


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_bodiless_statuses(serve_app, status):
    with Client(serve_app(answering(b"surplus", status=status))) as client:
        client.send(GET + GET)
        for _ in range(2):
            answer = client.read()
            assert answer.header("content-length") is None and answer.header("transfer-encoding") is None
            assert answer.status == int(status[:3])


@pytest.mark.parametrize("as_list", [True, False])
def test_head_has_no_body(serve_app, as_list):
    with Client(serve_app(answering(b"12345", as_list=as_list))) as client:
        for _ in range(2):
            client.send(GET.replace(b"GET", b"HEAD"))
            answer = client.read(head_only=True)
            assert answer.header("content-length") == ("5" if as_list else None)
        client.send(GET)
        assert client.read().body == b"12345"


def test_hop_by_hop_headers_of_the_application_stay_here(serve_app):
    answer = ask(serve_app(answering(b"x", headers=[("Connection", "upgrade"), ("Transfer-Encoding", "chunked")])), GET)
    assert answer.header("connection") is None and answer.body == b"x"
    assert ask(serve_app(answering(b"x", headers=[("Connection", "close")])), GET).header("connection") == "close"


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK", [("X-A", "b\r\nSet-Cookie: c")]),
        ("200 OK", [("X-A", "b\nc")]),
        ("200 OK", [("X-A\r\nX-B", "b")]),
        ("200 OK\r\nX-A: b", []),
        ("200 OK", [("X-A", "b\0c")]),
        ("200 OK", [("X-A", "\u65e5")]),
        ("200 OK", [("Content-Length", "1, 2")]),
        ("100 Continue", []),
        ("abc", []),
    ],
)
def test_answers_that_must_not_leave(serve_app, caplog, status, headers):
    with Client(serve_app(answering(b"secret", status=status, headers=headers))) as client:
        client.send(GET + GET)
        for _ in range(2):
            answer = client.read()
            assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
            assert answer.header("set-cookie") is None and answer.header("x-b") is None
    assert "ResponseError" in caplog.text


def test_wrong_lengths_end_the_connection(serve_app, caplog):
    longer = answering(b"abcdef", headers=[("Content-Length", "3")])
    with Client(serve_app(longer)) as client:
        client.send(GET)
        assert client.read().body == b"abc"
        assert client.closed()
    shorter = answering(b"a", headers=[("Content-Length", "3")])
    with Client(serve_app(shorter)) as client:
        client.send(GET)
        with pytest.raises(EOFError):
            client.read()
    assert caplog.text.count("announced 3 bytes") == 2


def test_close_is_always_called(serve_app):
    closed = []

    class Parts:
        def __init__(self, fails):
            self.fails = fails

        def __iter__(self):
            yield b"x"
            if self.fails:
                raise ValueError("in the middle")

        def close(self):
            closed.append(self.fails)

    for fails in (False, True):

        def app(environ, start_response, fails=fails):
            start_response("200 OK", [])
            return Parts(fails)

        with Client(serve_app(app)) as client:
            client.send(GET)
            if fails:
                with pytest.raises(EOFError):  # no terminating chunk: the client can tell
                    client.read()
            else:
                assert client.read().body == b"x"
    assert closed == [False, True]


def test_exc_info_replaces_headers_only_before_they_left(serve_app, caplog):
    import sys

    def early(environ, start_response):
        start_response("200 OK", [("X-Old", "1")])
        try:
            raise ValueError("early")
        except ValueError:
            start_response("503 Sorry", [("X-New", "1")], sys.exc_info())
        return [b"sorry"]

    answer = ask(serve_app(early), GET)
    assert (answer.status, answer.header("x-old"), answer.header("x-new")) == (503, None, "1")

    def late(environ, start_response):
        start_response("200 OK", [])(b"begun")
        try:
            raise ValueError("late")
        except ValueError:
            start_response("503 Sorry", [], sys.exc_info())
        return []

    with Client(serve_app(late)) as client:
        client.send(GET)
        with pytest.raises(EOFError):
            client.read()
    assert "ValueError: late" in caplog.text

    def twice(environ, start_response):
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    assert ask(serve_app(twice), GET).status == 500


def raising(error):
    def app(environ, start_response):
        raise error

    return app


@pytest.mark.parametrize("error", [ValueError("password=hunter2"), ConnectionResetError("theirs"), SystemExit("bye")])
def test_an_exception_is_a_500_and_the_worker_lives(serve_app, caplog, error):
    with Client(serve_app(raising(error))) as client:
        for _ in range(2):
            client.send(GET)
            answer = client.read()
            assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
    assert caplog.text.count("Traceback") == 2 and str(error) in caplog.text


def test_overload_is_a_503_with_retry_after(serve_app):
    answer = ask(serve_app(raising(Overloaded("The queue is full", retry_after=7))), GET)
    assert (answer.status, answer.header("retry-after")) == (503, "7")
    assert b"The queue is full" in answer.body


def test_no_start_response_is_a_500(serve_app):
    assert ask(serve_app(lambda environ, start_response: []), GET).status == 500


# 100 Continue and bodies that stay unread

POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n%b\r\n"
EXPECT = b"Expect: 100-continue\r\n"


def test_continue_is_sent_before_the_body(server):
    with Client(server.port) as client:
        client.send(POST % (3, EXPECT))
        assert client.read().status == 100
        client.send(b"abc")
        assert client.read().status == 200


def test_no_continue_when_the_body_is_already_here(server):
    with Client(server.port) as client:
        client.send(POST % (3, EXPECT) + b"abc")
        assert client.read().status == 200
        client.send(POST.replace(b"1.1", b"1.0") % (3, EXPECT))
        client.send(b"abc")
        assert client.read().status == 200


def early_app(environ, start_response):
    start_response("413 Too Large", [])
    return [environ["CONTENT_LENGTH"].encode()]


@pytest.fixture
def tight(make_server):
    return make_server(early_app, HttpLimits(max_body=1000))


def test_early_answer_without_continue_closes(tight):
    with Client(tight.port) as client:
        client.send(POST % (5_000_000, EXPECT))
        answer = client.read()
        assert (answer.status, answer.body, answer.header("connection")) == (413, b"5000000", "close")
        assert client.closed()


def test_a_client_that_sends_all_first_still_sees_the_early_answer(tight):
    with Client(tight.port) as client:
        client.send(POST % (5_000_000, b"") + b"x" * 5_000_000)  # would fail here with a reset
        assert client.read().body == b"5000000"


def test_lingering_is_bounded(make_server):
    server = make_server(early_app, HttpLimits(max_body=1000, linger_timeout=0.3))
    # Many, and without a pause: bytes must not be able to hide the end of their own deadline.
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(40)]
        for client in clients:
            client.send(POST % (10**9, b""))
            assert client.read().status == 413
        deadline = time.monotonic() + 8
        while clients and time.monotonic() < deadline:
            for client in list(clients):
                try:
                    client.send(b"x" * 1000)
                except OSError:
                    clients.remove(client)
        assert not clients


@pytest.mark.parametrize("framing", [b"Content-Length: 2000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n7d0\r\n"])
def test_reading_an_unread_body_is_a_413(tight, framing):
    def app(environ, start_response):
        if "x-catch" in environ["QUERY_STRING"]:
            with pytest.raises(BodyTooLarge) as caught:
                environ["wsgi.input"].read()
            assert caught.value.length == (2000 if "CONTENT_LENGTH" in environ else None)
            start_response("400 Caught", [])
            return []
        return [environ["wsgi.input"].readline()]

    before, tight.app = tight.app, app
    try:
        for query, status in ((b"", 413), (b"?x-catch", 400)):
            with Client(tight.port) as client:
                client.send_quietly(b"POST /%b HTTP/1.1\r\nHost: h\r\n%b" % (query, framing) + b"x" * 2000)
                answer = client.read()
                assert (answer.status, answer.header("connection")) == (status, "close")
    finally:
        tight.app = before


# Clients that do not read


def test_a_client_that_does_not_read_is_given_up(make_server):
    server = make_server(answering(b"x" * 50_000_000), HttpLimits(send_timeout=0.3))
    with Client(server.port) as client:
        client.send(GET)
        wait_for(lambda: server.http.connections)
        wait_for(lambda: not server.http.connections)


def test_a_slow_reader_gets_everything(make_server):
    server = make_server(answering(b"x" * 8_000_000), HttpLimits(send_timeout=0.5))
    with Client(server.port) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
        client.send(GET)
        size = 0
        while size < 8_000_000:
            size += len(client.sock.recv(200_000))
            time.sleep(0.01)  # in all longer than send_timeout


# Draining


def test_drain_finishes_requests_and_closes_idle_connections(make_server):
    server = make_server()
    gate = server.loop.waiter()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            gate.wait(10)
        start_response("200 OK", [])
        return [b"done"]

    server.app = app
    with Client(server.port) as idle, Client(server.port) as busy, Client(server.port) as fresh:
        idle.send(GET)
        assert idle.read().status == 200
        busy.send(b"GET /slow HTTP/1.1\r\n\r\n")
        wait_for(lambda: len(server.http.connections) == 3)
        drained = []

        def drain():
            server.loop.stop_accepting()
            server.http.drain()
            drained.append(True)

        server.loop.call_soon_threadsafe(server.loop.spawn, drain)
        assert idle.closed() and fresh.closed()
        assert not drained
        gate.wake()
        answer = busy.read()
        assert (answer.body, answer.header("connection")) == (b"done", "close")
        assert busy.closed()
        wait_for(lambda: drained)
    with pytest.raises(ConnectionRefusedError):
        Client(server.port)

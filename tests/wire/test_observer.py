"""What the server tells of the requests in it."""

import time

import pytest
from rawhttp import Client, ask, wait_for

from heatperf.loops import HttpLimits


class Record:
    """Notes down what it is told."""

    def __init__(self):
        self.lines = []
        self.ends = 0

    def began(self, line):
        self.lines.append(line)

    def ended(self):
        self.ends += 1


@pytest.fixture
def observed(make_server):
    server = make_server(observer=Record(), limits=HttpLimits(send_timeout=0.3))
    server.seen = server.http._observer
    return server


def test_in_flight_and_oldest_follow_the_order_of_beginning(observed):
    """Three requests begin one after the other and end in another order."""
    gates = {}

    def app(environ, start_response):
        gate = gates[environ["PATH_INFO"]] = observed.loop.waiter()
        gate.wait(10)
        start_response("200 OK", [])
        return [b"x"]

    observed.app = app
    http, seen = observed.http, observed.seen
    assert (http.in_flight(), http.oldest()) == (0, None)
    before = time.monotonic()
    clients = {}
    try:
        for count, name in enumerate("abc", 1):
            clients[name] = Client(observed.port)
            clients[name].send(f"GET /{name} HTTP/1.1\r\n\r\n".encode())
            wait_for(lambda count=count: http.in_flight() == len(gates) == count)
        began, line = http.oldest()
        assert line == b"GET /a" and before <= began <= time.monotonic()
        assert (seen.lines, seen.ends) == ([b"GET /a", b"GET /b", b"GET /c"], 0)
        for name, count, oldest in (("b", 2, b"GET /a"), ("a", 1, b"GET /c"), ("c", 0, None)):
            gates["/" + name].wake()
            assert clients[name].read().status == 200
            wait_for(lambda count=count: http.in_flight() == count)
            assert (http.oldest() or (0, None))[1] == oldest
        assert seen.ends == 3
        # The next one on a connection is younger than all others.
        clients["a"].send(b"GET /again HTTP/1.1\r\n\r\n")
        wait_for(lambda: "/again" in gates)
        assert http.oldest()[0] > began
        gates["/again"].wake()
    finally:
        for client in clients.values():
            client.sock.close()


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (b"/v1/p/stacks?X-Auth-Token=secret", b"GET /v1/p/stacks"),
        (b"http://user:secret@heat.example.test:8004/v1/p?a=b", b"GET /v1/p"),
        (b"http://user:secret@heat.example.test", b"GET /"),
        (b"*", b"GET *"),
        (b"/%C3%A9\xc3", b"GET /%C3%A9%C3"),
    ],
)
def test_the_line_has_no_place_for_secrets(observed, target, line):
    assert ask(observed.port, b"GET " + target + b" HTTP/1.1\r\nX-Auth-Token: secret\r\n\r\n").status == 200
    assert observed.seen.lines == [line]


def test_every_beginning_has_an_end(observed):
    """Whatever becomes of the request: the application fails before or in its answer, the client leaves or sleeps."""

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/raise":
            raise LookupError
        if environ["PATH_INFO"] == "/exit":
            raise SystemExit(3)
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/large":
            return [b"x" * 50_000_000]
        return parts()

    def parts():
        yield b"x"
        raise LookupError

    observed.app = app
    for path in (b"/raise", b"/exit", b"/parts", b"/large"):
        with Client(observed.port) as client:
            client.send(b"GET " + path + b" HTTP/1.1\r\n\r\n")
            wait_for(lambda path=path: observed.seen.lines[-1:] == [b"GET " + path])
            wait_for(lambda: observed.http.in_flight() == 0)
    assert observed.seen.ends == len(observed.seen.lines) == 4


def test_what_never_reaches_the_application_is_not_told(observed):
    for data in (b"GET / HTTP/9.9\r\n\r\n", b"nonsense\x00\r\n\r\n"):
        assert ask(observed.port, data).status >= 400
    assert (observed.seen.lines, observed.http.in_flight()) == ([], 0)

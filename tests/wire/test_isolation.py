"""Requests that interleave on one loop must not see each other's context, in the application or in the log."""

import contextvars
import logging

import pytest
from rawhttp import Client, wait_for

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("test_isolation", default="")


def test_contexts_do_not_leak(serve_app, server, access_lines):
    """Fifty requests park at the same time, each having set its own value; then all go on, and the next ones start
    clean on the same connections."""
    waiting = []

    def app(environ, start_response):
        found = VAR.get()
        name = environ["PATH_INFO"][1:]
        VAR.set(name)
        waiter = server.loop.waiter()
        waiting.append(waiter)
        waiter.wait(10)
        seen_by_child = []
        done = server.loop.waiter()
        server.loop.spawn(lambda: (seen_by_child.append(VAR.get()), VAR.set("child"), done.wake()))
        done.wait(10)
        start_response("200 OK", [("X-OpenStack-Request-Id", f"req-{VAR.get()}")])

        def parts():
            yield f"{found}|{VAR.get()}|{seen_by_child[0]}".encode()

        return parts()

    port = serve_app(app)
    clients = [Client(port) for _ in range(50)]
    try:
        for turn in ("a", "b"):
            waiting.clear()
            for number, client in enumerate(clients):
                client.send(f"GET /{turn}{number} HTTP/1.1\r\n\r\n".encode())
            wait_for(lambda: len(waiting) == 50)
            for waiter in waiting:
                waiter.wake()
            for number, client in enumerate(clients):
                name = f"{turn}{number}"
                answer = client.read()
                assert answer.body.decode() == f"|{name}|{name}"
                assert answer.header("x-openstack-request-id") == f"req-{name}"
    finally:
        for client in clients:
            client.sock.close()
    for record in access_lines(100):
        path = record.getMessage().split()[2]
        assert record.request_id == "req-" + path[1:]
        assert record.getMessage().endswith(record.request_id)


def test_log_records_of_the_request_keep_its_context(serve_app, server, caplog):
    """The access line is written inside the request's context, for formatters that look there."""
    seen = []

    class Look(logging.Handler):
        def emit(self, record):
            seen.append((record.request_id, VAR.get()))

    def app(environ, start_response):
        VAR.set("mine")
        start_response("200 OK", [("x-openstack-request-id", "req-1")])
        return [b"x"]

    logger = logging.getLogger("heatperf.access")
    handler = Look()
    caplog.set_level(logging.INFO, logger=logger.name)
    logger.addHandler(handler)
    try:
        with Client(serve_app(app)) as client:
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            client.read()
            wait_for(lambda: seen)
    finally:
        logger.removeHandler(handler)
    assert seen == [("req-1", "mine")]


@pytest.mark.parametrize(
    ("sent", "logged"),
    [
        (b"GET /v1/p?a=b&c HTTP/1.1\r\n\r\n", '127.0.0.1 "GET /v1/p?a=b&c HTTP/1.1" 201 3 '),
        (b'GET /"x"\\ HTTP/1.1\r\n\r\n', r'"GET /\x22x\x22\x5c HTTP/1.1" 201 3 '),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", '"GET /%C3%A9 HTTP/1.1" 201 3 '),
        (b"HEAD / HTTP/1.0\r\n\r\n", '"HEAD / HTTP/1.0" 201 0 '),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", '"- - HTTP/-" 400 '),
    ],
)
def test_access_line(serve_app, access_lines, sent, logged):
    def app(environ, start_response):
        start_response("201 Created", [])
        return [b"abc"]

    with Client(serve_app(app)) as client:
        client.send(sent)
        client.read(head_only=True)
        (record,) = access_lines(1)
    assert logged in record.getMessage()
    assert record.getMessage().endswith("ms -") and record.levelno == logging.INFO

"""What a descriptor says while nobody listens to it: bytes, ends and resets that come at the wrong moment."""

import socket
import struct
import time

import pytest
from rawhttp import Client, ask, wait_for

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def reset(client):
    """Close with a RST instead of a FIN."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


@pytest.fixture
def held(serve_app, server):
    """An application that parks until it is told to go on; ``held.waiting`` are its waiters."""

    class Held:
        waiting = []
        large = b"x" * 20_000_000

    def app(environ, start_response):
        if environ["PATH_INFO"] != "/free":
            waiter = server.loop.waiter()
            Held.waiting.append(waiter)
            waiter.wait(10)
        start_response("200 OK", [])
        return [Held.large if environ["PATH_INFO"] == "/large" else environ["PATH_INFO"].encode()]

    Held.waiting.clear()
    Held.port = serve_app(app)
    return Held


def parked(held, count=1):
    wait_for(lambda: len(held.waiting) == count)


def assert_idle(server):
    """The loop sleeps, instead of being told again and again that there is something to read."""
    server.on_loop(server.loop.sleep, 0.05)
    before = time.process_time()
    server.on_loop(server.loop.sleep, 0.2)
    assert time.process_time() - before < 0.03  # spinning: 0.1 to 0.2; asleep: 0.001


def test_bytes_that_nobody_waits_for_yet(server, held):
    """A second and a third request come while the first is being worked on, and an end after them."""
    with Client(held.port) as client:
        client.send(b"GET /a HTTP/1.1\r\n\r\n")
        parked(held)
        client.send(b"GET /b HTTP/1.1\r\n\r\nGET /free HTTP/1.1\r\n\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        assert_idle(server)
        held.waiting[0].wake()
        assert client.read().body == b"/a"
        parked(held, 2)
        held.waiting[1].wake()
        assert [client.read().body, client.read().body] == [b"/b", b"/free"]
        assert client.closed()
    wait_for(lambda: not server.http.connections)


@pytest.mark.parametrize("path", [b"/a", b"/large"])
def test_a_client_that_resets_while_the_application_works(server, held, caplog, path):
    with Client(held.port) as client:
        client.send(b"GET " + path + b" HTTP/1.1\r\n\r\n")
        parked(held)
        reset(client)
    assert_idle(server)
    assert len(server.http.connections) == 1
    held.waiting[0].wake()
    wait_for(lambda: not server.http.connections)
    assert ask(held.port, b"GET /free HTTP/1.1\r\n\r\n").status == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("sent", [b"", GET[:10], b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc"])
def test_a_client_that_resets_while_the_server_reads(server, caplog, sent):
    with Client(server.port) as client:
        client.send(GET)
        assert client.read().status == 200
        client.send(sent)
        reset(client)
    wait_for(lambda: not server.http.connections)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("more", [b"", GET * 2])
def test_a_client_that_resets_while_it_is_sent_to(server, held, caplog, more):
    """Parked in the middle of a large answer, perhaps with bytes to read besides."""
    with Client(held.port) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(b"GET /large HTTP/1.1\r\n\r\n")
        parked(held)
        held.waiting[0].wake()
        client.sock.recv(100)
        client.send(more)
        assert_idle(server)
        assert len(server.http.connections) == 1
        reset(client)
    wait_for(lambda: not server.http.connections)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_large_answer_then_a_request_that_came_meanwhile(server, held):
    with Client(held.port) as client:
        client.send(b"GET /large HTTP/1.1\r\n\r\n")
        parked(held)
        held.waiting[0].wake()
        client._until(b"\r\n\r\n")
        client.send(b"GET /free HTTP/1.1\r\n\r\n")
        assert_idle(server)
        assert client._exactly(len(held.large)) == held.large
        assert client.read().body == b"/free"


def test_descriptors_are_used_again(server):
    """A connection gets the number of one that has just been closed, in whatever state that was."""
    for turn in range(50):
        with Client(server.port) as client:
            client.send(GET)
            assert client.read().status == 200
            if turn % 2:
                reset(client)
    wait_for(lambda: not server.http.connections)


def test_sleeping_greenlets_let_others_run(server):
    """``sleep(0)`` in a row does not keep the loop from its connections."""
    ended = []

    def busy():
        until = time.monotonic() + 10
        while not ended and time.monotonic() < until:
            server.loop.sleep(0)
        ended.append(time.monotonic() < until)

    server.loop.call_soon_threadsafe(server.loop.spawn, busy)
    assert ask(server.port, GET).status == 200
    server.on_loop(ended.append, True)
    wait_for(lambda: len(ended) == 2)
    assert ended == [True, True]

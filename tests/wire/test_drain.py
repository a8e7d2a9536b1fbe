"""Draining with a grace: whoever may already be sending a request gets an answer, and nobody can hold up the end."""

import time

import pytest
from rawhttp import Client, wait_for

from heatperf.loops import HttpLimits

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.fixture
def drained(make_server):
    """A server of its own, whose ``drain(grace)`` begins to drain; ``drained`` grows as drains end."""

    class Drained:
        def __init__(self, **limits):
            self.server = make_server(limits=HttpLimits(**limits))
            self.port = self.server.port
            self.ended = []

        def drain(self, grace):
            def run():
                self.server.loop.stop_accepting()
                self.server.http.drain(grace)
                self.ended.append(grace)

            self.server.loop.call_soon_threadsafe(self.server.loop.spawn, run)
            wait_for(lambda: self.server.http.draining)

        def connected(self, count):
            wait_for(lambda: len(self.server.http.connections) == count)

    return Drained


def answered_and_closed(client):
    answer = client.read()
    return (answer.status, answer.header("connection")) == (200, "close") and client.closed()


def test_idle_and_fresh_connections_get_one_more_answer(drained):
    one = drained()
    with Client(one.port) as idle, Client(one.port) as fresh:
        idle.send(GET)
        assert idle.read().header("connection") is None
        one.connected(2)
        one.drain(30)
        idle.send(GET)
        assert answered_and_closed(idle)
        assert not one.ended
        fresh.send(GET)
        assert answered_and_closed(fresh)
    wait_for(lambda: one.ended)  # long before the grace is over: nobody is left


def test_what_the_grace_does_not_cover(drained):
    """Idle connections end with it; a request that has begun to arrive is read to its end, even much later."""
    one = drained()
    with Client(one.port) as idle, Client(one.port) as fresh, Client(one.port) as half, Client(one.port) as body:
        idle.send(GET)
        idle.read()
        half.send(GET[:20])
        body.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na")
        one.connected(4)
        # The bytes may still be on their way through the kernel, and the connection idle in the server's eyes.
        wait_for(lambda: sum(connection._idle for connection in one.server.http.connections) == 2)
        one.drain(0.1)
        assert idle.closed() and fresh.closed()
        one.connected(2)
        half.send(GET[20:])
        assert answered_and_closed(half)
        assert not one.ended
        body.send(b"bc")
        assert answered_and_closed(body)
    wait_for(lambda: one.ended)


def test_a_request_that_begins_to_arrive_during_the_grace_has_its_usual_deadline(drained):
    one = drained(header_deadline=0.3)
    with Client(one.port) as slow:
        one.connected(1)
        one.drain(0.1)
        slow.send(GET[:20])
        answer = slow.read()
        assert (answer.status, answer.header("connection")) == (408, "close")
    wait_for(lambda: one.ended)


@pytest.mark.parametrize("grace", [0, 0.05])
def test_a_request_that_has_arrived_when_the_grace_ends_is_answered(drained, grace):
    """The loop is busy while both happen."""
    one = drained()
    with Client(one.port) as client:
        one.connected(1)

        def run():
            one.server.http.draining = True  # loops differ in whether they start greenlets before they look for bytes
            one.server.loop.spawn(one.server.http.drain, grace)
            client.send(GET)
            time.sleep(0.1)  # blocks the loop

        one.server.on_loop(run)
        assert answered_and_closed(client)


def test_connections_that_nobody_has_accepted_yet(drained):
    """Complete in the kernel's queue when the listener closes: they would get a reset."""
    one = drained()
    clients = []

    def run():  # inside the loop, which therefore cannot accept
        clients.extend(Client(one.port) for _ in range(20))
        clients[0].send(GET)
        one.server.loop.stop_accepting()
        one.server.http.drain(30)
        one.ended.append(30)

    try:
        one.server.loop.call_soon_threadsafe(one.server.loop.spawn, run)
        one.connected(19)  # the first has been answered
        assert not one.ended
        for client in clients[1:]:
            client.send(GET)
        assert all(answered_and_closed(client) for client in clients)
        with pytest.raises(ConnectionRefusedError):
            Client(one.port)
        wait_for(lambda: one.ended)
    finally:
        for client in clients:
            client.sock.close()


@pytest.mark.parametrize("grace", [0, 30])
def test_an_answer_that_has_promised_more(drained, grace):
    """Its head is out without ``Connection: close``. With a grace the promise is kept once."""
    one = drained()
    gate = one.server.loop.waiter()

    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"one"
        gate.wait(10)
        yield b"two"

    with Client(one.port) as client:
        one.server.app = app
        client.send(GET)
        wait_for(lambda: one.server.http.in_flight())
        client._more()
        one.drain(grace)
        wait_for(lambda: one.server.http.grace_over == (grace == 0))
        gate.wake()
        answer = client.read()
        assert (answer.body, answer.header("connection")) == (b"onetwo", None)
        if grace:
            client.send(GET)
            assert answered_and_closed(client)
        else:
            assert client.closed()
    wait_for(lambda: one.ended)


def test_a_grace_can_be_cut_short(drained):
    one = drained()
    with Client(one.port) as client:
        one.connected(1)
        one.drain(600)
        one.drain(0)
        assert client.closed()
    wait_for(lambda: sorted(one.ended) == [0, 600])

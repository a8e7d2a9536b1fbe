"""Listeners survive whatever accept() says, and give up no connection that the kernel has taken for them."""

import contextlib
import gc
import os
import resource
import socket
import time

from rawhttp import Client, ask, wait_for

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
PAUSED = "Cannot accept connections"


@contextlib.contextmanager
def no_descriptors():
    """No more of them in this process. The limit is on their numbers, so it goes to the lowest that is free."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # what other tests have left must not free one meanwhile
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(sock, port):
    """A Client over a socket that was made while there were descriptors."""
    sock.settimeout(10)
    sock.connect(("127.0.0.1", port))
    client = Client.__new__(Client)
    client.sock, client.buffer = sock, b""
    return client


def pauses(caplog):
    return [record.created for record in caplog.records if PAUSED in record.getMessage()]


def test_without_descriptors_it_pauses_and_goes_on(make_server, caplog):
    server = make_server()
    sock = socket.socket()
    with no_descriptors():
        waiting = connect(sock, server.port)
        waiting.send(GET)
        wait_for(lambda: pauses(caplog))
        began = time.process_time()
        wait_for(lambda: len(pauses(caplog)) >= 2)
        spent = time.process_time() - began
    first, second = pauses(caplog)[:2]
    assert second - first > 0.4
    assert spent < 0.3  # a level-triggered loop could spin on the readable listener
    with waiting:
        assert waiting.read().status == 200
    assert ask(server.port, GET).status == 200


def test_a_paused_listener_is_emptied_before_it_closes(make_server, caplog):
    server = make_server()
    sock = socket.socket()
    with no_descriptors():
        waiting = connect(sock, server.port)
        wait_for(lambda: pauses(caplog))

    def drain():
        server.loop.stop_accepting()
        assert not server.loop.accepting_rest
        server.loop.spawn(server.http.drain, 30)

    server.on_loop(drain)
    with waiting:
        waiting.send(GET)
        assert waiting.read().header("connection") == "close"


def test_what_is_queued_gets_the_descriptors_that_the_drain_frees(make_server):
    gc.collect()  # no_descriptors would free numbers below those of the idle connection
    server = make_server()
    sock = socket.socket()
    drained = []

    def drain():
        server.loop.stop_accepting()
        server.http.drain(30)
        drained.append(server.loop.accepting_rest)

    idle = Client(server.port)
    wait_for(lambda: server.http.connections)
    with no_descriptors():
        waiting = connect(sock, server.port)
        server.loop.call_soon_threadsafe(server.loop.spawn, drain)
        wait_for(lambda: server.loop.accepting_rest)
        waiting.send(GET)
        # Its two descriptors, one in the server and one here, are the only ones for the connection in the queue.
        idle.sock.close()
        answer = waiting.read()
    assert (answer.status, answer.header("connection")) == (200, "close")
    waiting.sock.close()
    wait_for(lambda: drained)
    assert drained == [False]


def test_an_unheard_of_error_does_not_end_the_listener(make_server, caplog):
    """A listening socket that was shut down says EINVAL to accept(), and lives again with the next listen()."""
    server = make_server()
    server.sock.shutdown(socket.SHUT_RDWR)
    wait_for(lambda: pauses(caplog))
    server.sock.listen(16)
    assert ask(server.sock.getsockname()[1], GET).status == 200

"""Connections that a worker makes itself."""

import errno
import socket
import ssl

import pytest

from heatperf.server.settings import TLS
from heatperf.server.tls import tls_context

GET = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


def talk(loop, port, context=None, host="localhost", seconds=10.0):
    """What the server says to one request, sent by one greenlet while another receives."""
    receiving, sending = loop.connect_tcp(host, port, seconds, context, host)
    try:
        waiter = loop.waiter()

        def receive():
            data = b""
            while part := receiving.recv(65536, True):
                data += part
            waiter.wake(data)

        loop.spawn(receive)
        loop.sleep(0.01)
        sending.send_all(GET)
        return waiter.wait(10)
    finally:
        receiving.close()
        sending.close()


@pytest.fixture
def away(make_server):
    """A socket of the test's own to connect to, and a loop; nothing else is alive."""
    server = make_server()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield server.loop, server.on_loop, sock


def test_tcp(server):
    assert server.on_loop(talk, server.loop, server.port).startswith(b"HTTP/1.1 200 ")
    assert not [stream for stream in server.loop.streams if stream not in connections(server)]


def connections(server):
    return [connection.stream for connection in server.http.connections]


def test_refused(away):
    loop, on_loop, sock = away
    with pytest.raises(ConnectionRefusedError):
        on_loop(talk, loop, sock.getsockname()[1])
    assert not loop.streams


def test_an_unknown_name(server):
    with pytest.raises(OSError):
        server.on_loop(talk, server.loop, server.port, None, "nowhere.invalid")


def test_a_queue_that_is_full(away):
    """The kernel drops the handshake: nothing comes back."""
    loop, on_loop, sock = away
    sock.listen(0)
    held = [socket.socket() for _ in range(4)]
    try:
        for one in held:
            one.setblocking(False)
            assert one.connect_ex(sock.getsockname()) in (0, errno.EINPROGRESS)
        with pytest.raises(TimeoutError):
            on_loop(talk, loop, sock.getsockname()[1], None, "127.0.0.1", 0.3)
        assert not loop.streams
    finally:
        for one in held:
            one.close()


def test_tls(make_server, files, trusting):
    server = make_server(ssl_context=tls_context(TLS(*files)))
    assert server.on_loop(talk, server.loop, server.port, trusting).startswith(b"HTTP/1.1 200 ")
    with pytest.raises(ssl.SSLError):
        server.on_loop(talk, server.loop, server.port, ssl.create_default_context())

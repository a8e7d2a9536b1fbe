"""TLS: the same HTTP behind it, old versions and broken handshakes refused, nobody held up."""

import json
import socket
import ssl

import pytest
from flood import PIPELINED, Flood
from rawhttp import Client, wait_for

from heatperf.loops import HttpLimits
from heatperf.server.settings import TLS
from heatperf.server.tls import tls_context

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.fixture
def tls_server(make_server, files):
    context = tls_context(TLS(*files))
    return make_server(limits=HttpLimits(header_deadline=1.0, max_body=3_000_000), ssl_context=context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests_over_tls(tls_server, trusting, version):
    trusting.minimum_version = trusting.maximum_version = version
    with Client(tls_server.port, trusting) as client:
        for _ in range(3):
            client.send(GET)
            seen = json.loads(client.read().body)
            assert (seen["wsgi.url_scheme"], seen["PATH_INFO"]) == ("https", "/")
            assert seen["SERVER_PORT"] == str(tls_server.port)


def test_pipelined_requests_take_turns_with_other_connections(tls_server, trusting):
    """A record for each request, so that none is there in part when the one before is answered."""
    flood = Flood()
    tls_server.app = flood.app
    with Client(tls_server.port, trusting) as other, Client(tls_server.port, trusting) as pipelining:
        flood.run(other, pipelining, lambda: [pipelining.send(PIPELINED) for _ in range(500)])


def test_large_bodies_both_ways(tls_server, trusting):
    body = b"0123456789abcdef" * 150_000
    with Client(tls_server.port, trusting) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        import base64

        assert base64.b64decode(json.loads(client.read().body)["body"]) == body


def test_close_is_announced(tls_server, trusting):
    """Without close_notify a client has to take the end for an attack (RFC 8446 6.1)."""
    with Client(tls_server.port, trusting) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\n\r\n")
        assert client.read().status == 413
        assert client.rest() == b""


def test_old_tls_is_refused(tls_server, trusting):
    with pytest.warns(DeprecationWarning):
        trusting.minimum_version = ssl.TLSVersion.TLSv1
        trusting.maximum_version = ssl.TLSVersion.TLSv1_1
    trusting.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, OSError)):
        Client(tls_server.port, trusting)


def test_handshakes_that_stall_or_fail_hold_up_nobody(tls_server, trusting, caplog):
    stalled = socket.create_connection(("127.0.0.1", tls_server.port), 10)
    plain = socket.create_connection(("127.0.0.1", tls_server.port), 10)
    plain.sendall(GET)
    with Client(tls_server.port, trusting) as client:
        client.send(GET)
        assert client.read().status == 200
    while plain.recv(1000):
        pass  # an alert, then the end
    assert stalled.recv(1000) == b""  # after the header deadline
    wait_for(lambda: not tls_server.http.connections)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    stalled.close()
    plain.close()


def drain(server, grace):
    """Begin to drain; what it is done with is seen in the second value."""
    drained = []

    def run():
        server.loop.stop_accepting()
        server.http.drain(grace)
        drained.append(True)

    server.loop.call_soon_threadsafe(server.loop.spawn, run)
    wait_for(lambda: server.http.draining)
    return drained


def test_a_handshake_in_progress_may_still_bring_a_request(make_server, files, trusting):
    server = make_server(ssl_context=tls_context(TLS(*files)))
    raw = socket.create_connection(("127.0.0.1", server.port), 10)
    wait_for(lambda: server.http.connections)
    drained = drain(server, 30)
    with trusting.wrap_socket(raw, server_hostname="localhost") as client:
        client.sendall(GET)
        assert b"\r\nConnection: close\r\n" in client.recv(65536)
    wait_for(lambda: drained)


def test_handshakes_and_idle_tls_connections_end_with_the_grace(make_server, files, trusting):
    server = make_server(ssl_context=tls_context(TLS(*files)))
    with (
        socket.create_connection(("127.0.0.1", server.port), 10) as silent,
        socket.create_connection(("127.0.0.1", server.port), 10) as halfway,
        Client(server.port, trusting) as idle,
    ):
        halfway.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
        wait_for(lambda: len(server.http.connections) == 3)
        drained = drain(server, 0.2)
        assert silent.recv(10) == b"" == halfway.recv(10)
        assert idle.closed()
        wait_for(lambda: drained)

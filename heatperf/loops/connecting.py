"""Connections to other hosts: TCP, and TLS over it, as two streams, so that one greenlet receives and another sends.

Comes in: a loop, a host's name and port, perhaps an ssl.SSLContext. Goes out: two Streams, see base.Loop.connect_tcp.
Raised: OSError, TimeoutError and ssl.SSLError among them. Runs in a greenlet; names are looked up in a native thread,
since the system's resolver blocks.

The sending streams can ``hold_on(True)``, for a peer that has said that it reads nothing for a while: to the kernel,
one that acknowledges nothing and one that has no room for more are the same, and it would give up on both.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import ssl
import time
from typing import Any

from heatperf.errors import DeadlineExceeded, Overloaded
from heatperf.loops.base import Stream

RECORD = 65_536
# Bytes that nobody acknowledges for so long mean that the way is cut; the kernel's own patience is 15 minutes.
UNACKNOWLEDGED_MS = 10_000


def connect_tcp(
    loop: Any, pool: Any, host: str, port: int, seconds: float, context: ssl.SSLContext | None, server_name: str
) -> tuple[Any, Any]:
    """See base.Loop.connect_tcp.

    :param loop: a GreenletLoop
    :param pool: native threads for the resolver
    """
    end = time.monotonic() + seconds
    found = _addresses(pool, host, port, seconds)
    error: OSError = TimeoutError(errno.ETIMEDOUT, "no answer in time")
    for number, (family, kind, protocol, _, address) in enumerate(found):
        # One address that nobody answers at must not take the others' time.
        share = (end - time.monotonic()) / (len(found) - number)
        if share <= 0:
            break
        try:
            receiving, sending = _streams(loop, socket.socket(family, kind, protocol), address, share)
        except OSError as refusal:
            error = refusal
            continue
        if context is None:
            return receiving, sending
        return _secured(receiving, sending, context, server_name, end)
    raise error


def _addresses(pool: Any, host: str, port: int, seconds: float) -> list[Any]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # it is a name
    try:
        found: list[Any] = pool.run_within(seconds, socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    except DeadlineExceeded:
        raise TimeoutError(errno.ETIMEDOUT, "the name was not looked up in time") from None
    except Overloaded:
        raise OSError(errno.EAGAIN, "too many names are being looked up") from None
    return found


def _streams(loop: Any, sock: socket.socket, address: Any, seconds: float) -> tuple[Any, Any]:
    with sock:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        # A stream remembers one parked greenlet, so each direction has its own, over a descriptor of its own.
        sending = _sending_class(loop.stream_class)(loop, sock.dup(), "")
        try:
            sending.connected(seconds)
            return loop.stream_class(loop, sock.dup(), ""), sending
        except BaseException:
            sending.close()
            raise


@functools.cache
def _sending_class(stream_class: Any) -> Any:
    class Sending(stream_class):
        """A Stream that sends."""

        __slots__ = ()

        def hold_on(self, forever: bool) -> None:
            """Wait for a peer that takes nothing for as long as it likes, or no longer than for one that is gone."""
            with contextlib.suppress(OSError):  # it is closed
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 0 if forever else UNACKNOWLEDGED_MS)

    return Sending


def _secured(
    receiving: Stream, sending: Any, context: ssl.SSLContext, server_name: str, end: float
) -> tuple[TLSReceiving, TLSSending]:
    try:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
        receiving.deadline = end
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                sending.send_all(outgoing.read())
                data = receiving.recv(RECORD)
                if not data:
                    raise ConnectionResetError(errno.ECONNRESET, "the peer has hung up in the handshake") from None
                incoming.write(data)
            else:
                break
        receiving.deadline = float("inf")
        sending.send_all(outgoing.read())
        return TLSReceiving(tls, incoming, receiving), TLSSending(tls, outgoing, sending)
    except BaseException:
        receiving.close()
        sending.close()
        raise


class TLSReceiving:
    """The receiving half of a TLS connection; see base.Stream. What TLS itself has to say goes with the next bytes
    that are sent: the other greenlet may be parked in the middle of sending."""

    def __init__(self, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, inner: Stream) -> None:
        self._tls = tls
        self._incoming = incoming
        self._inner = inner
        self.close = inner.close
        self.interrupt = inner.interrupt

    def recv(self, size: int, wait_first: bool = False) -> bytes:
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                data = self._inner.recv(RECORD, wait_first)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""


class TLSSending:
    """The sending half; see base.Stream."""

    def __init__(self, tls: ssl.SSLObject, outgoing: ssl.MemoryBIO, inner: Any) -> None:
        self._tls = tls
        self._outgoing = outgoing
        self._inner = inner
        self.close = inner.close
        self.shutdown_write = inner.shutdown_write
        self.hold_on = inner.hold_on

    @property
    def send_timeout(self) -> float:
        return float(self._inner.send_timeout)

    @send_timeout.setter
    def send_timeout(self, seconds: float) -> None:
        self._inner.send_timeout = seconds

    def send_all(self, data: bytes) -> None:
        if data:
            self._tls.write(data)
        self._inner.send_all(self._outgoing.read())

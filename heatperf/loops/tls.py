"""TLS over any Stream: the standard library's memory BIOs between the socket and the HTTP layer.

Comes in: a plain Stream and an ssl.SSLContext. Goes out: a Stream. Raises ssl.SSLError (an OSError) and what the inner
stream raises. Runs on the loop thread in the connection's greenlet, handshake included, so a slow client holds up
nobody. The BIOs make it independent of the loop: no loop needs TLS of its own.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import Any

from heatperf.loops.base import Stream

RECORD = 65_536


class TLSStream:
    """See base.Stream."""

    scheme = "https"

    def __init__(self, inner: Stream, context: ssl.SSLContext) -> None:
        self._inner = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.peer = inner.peer
        self.local = inner.local

    @property
    def deadline(self) -> float:
        return self._inner.deadline

    @deadline.setter
    def deadline(self, moment: float) -> None:
        self._inner.deadline = moment

    @property
    def send_timeout(self) -> float:
        return self._inner.send_timeout

    @send_timeout.setter
    def send_timeout(self, seconds: float) -> None:
        self._inner.send_timeout = seconds

    @property
    def buffered(self) -> bool:
        return self._incoming.pending > 0 or self._tls.pending() > 0

    def start(self) -> None:
        self._inner.start()
        self._drive(self._tls.do_handshake)

    def recv(self, size: int, wait_first: bool = False) -> bytes:
        try:
            data: bytes = self._drive(self._tls.read, size, wait_first=wait_first)
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLEOFError:
            # End without close_notify. Every request carries its own length, so a cut cannot pass for a whole one.
            return b""
        return data

    def recv_ready(self, size: int) -> bytes:
        self._incoming.write(self._inner.recv_ready(RECORD))
        try:
            return self._tls.read(size)
        except ssl.SSLError:
            return b""

    def send_all(self, data: bytes) -> None:
        if data:
            self._drive(self._tls.write, data)

    def shutdown_write(self) -> None:
        # unwrap() puts our close_notify into the outgoing BIO, then wants the peer's, which nobody waits for.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()
        self._inner.shutdown_write()

    def close(self) -> None:
        self._inner.close()

    def interrupt(self) -> None:
        self._inner.interrupt()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._inner.send_all(self._outgoing.read())

    def _drive(self, step: Callable[..., Any], *args: Any, wait_first: bool = False) -> Any:
        """Repeat one TLS operation, moving bytes between the BIOs and the socket until it is done."""
        while True:
            try:
                result = step(*args)
            except ssl.SSLWantReadError:
                self._flush()
                data = self._inner.recv(RECORD, wait_first)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                # The alert tells the client why (RFC 8446 6.2); it may be gone already.
                with contextlib.suppress(OSError):
                    self._flush()
                raise
            else:
                self._flush()
                return result

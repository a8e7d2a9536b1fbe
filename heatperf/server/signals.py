"""The supervisor's signals, as bytes on a pair of sockets from the first moment that could take long.

Comes in: TERM, INT, HUP and CHLD. Goes out: their numbers, to whoever reads next: first the wait for a taken address,
then the supervisor's loop. Raises Stopped while there is nothing to drain yet. Supervisor only, on its main thread;
handlers do nothing themselves, so no code is ever interrupted half-way.
"""

from __future__ import annotations

import contextlib
import logging
import select
import signal
import socket
import types
from typing import Any

LOG = logging.getLogger("heatperf.server")

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Stopped(Exception):
    """TERM or INT came before there was a worker.

    :param signum: which of them
    """

    def __init__(self, signum: signal.Signals) -> None:
        super().__init__(signum.name)
        self.signum = signum


class Signals:
    """A context manager: handlers are in place inside it, and as they were before after it."""

    def __init__(self) -> None:
        self._ends = socket.socketpair()
        for end in self._ends:
            end.setblocking(False)
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup_before = -1

    def __enter__(self) -> Signals:
        self._before = {signum: signal.signal(signum, ignore_signal) for signum in HANDLED}
        # Who asks for a report must not end the service, just because no report is set up.
        if signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL:
            self._before[signal.SIGUSR2] = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        self._wakeup_before = signal.set_wakeup_fd(self._ends[1].fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for signum, handler in self._before.items():
            if handler is not None:  # None: not Python's, and so beyond restoring
                signal.signal(signum, handler)
        self._close()

    def fileno(self) -> int:
        """The descriptor that becomes readable when a signal has come; for poll()."""
        return self._ends[0].fileno()

    def read(self) -> set[int]:
        """Numbers of the signals that have come since the last call; never waits."""
        try:
            arrived = set(self._ends[0].recv(4096))
        except BlockingIOError:
            return set()
        if signal.SIGHUP in arrived:
            LOG.warning("SIGHUP: reloading is not available yet; restart the service to load a new configuration")
        return arrived

    def pause(self, seconds: float) -> None:
        """Sleep, as long as nobody wants the program to end.

        :raises Stopped: TERM or INT came, now or since the last look
        """
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        poll.poll(int(seconds * 1000))
        arrived = self.read()
        for signum in (signal.SIGINT, signal.SIGTERM):
            if signum in arrived:
                raise Stopped(signum)

    def forget(self) -> None:
        """In a forked child, signals still blocked: let go of the sockets, which stay the supervisor's."""
        signal.set_wakeup_fd(-1)
        self._close()

    def _close(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.close()


def ignore_signal(signum: int, frame: types.FrameType | None) -> None:
    """Handlers do nothing: set_wakeup_fd has already written the byte."""

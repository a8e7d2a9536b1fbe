"""The supervisor's signals, as bytes on a pair of sockets from the first moment that could take long.

Comes in: what the operator, the service manager and the kernel send. Goes out: numbers, to the supervisor's loop.
Supervisor only, on its main thread; handlers do nothing themselves, so no code is ever interrupted half-way.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import types
from typing import Any

HANDLED = (
    signal.SIGTERM,
    signal.SIGQUIT,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGCHLD,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


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
        self._wakeup_before = signal.set_wakeup_fd(self._ends[1].fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for signum, handler in self._before.items():
            if handler is not None:  # None: not Python's, and so beyond restoring
                signal.signal(signum, handler)
        for end in self._ends:
            end.close()

    def fileno(self) -> int:
        """The descriptor that becomes readable when a signal has come; for poll()."""
        return self._ends[0].fileno()

    def read(self) -> list[int]:
        """Numbers of the signals that have come since the last call, in order; never waits."""
        with contextlib.suppress(BlockingIOError):
            return list(self._ends[0].recv(4096))
        return []


def ignore_signal(signum: int, frame: types.FrameType | None) -> None:
    """Handlers do nothing: set_wakeup_fd has already written the byte."""

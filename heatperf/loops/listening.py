"""Listeners of a loop: accept, pause when that fails, and take what the kernel has queued before they close.

Comes in: listening sockets, and for each a function that takes an accepted socket and raises nothing. Goes out: calls
of it. Raises nothing: whatever goes wrong while accepting pauses the listener for a moment and is logged. Runs inside
the loop and on its thread.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heatperf.loops.base import Handle
    from heatperf.loops.greenlets import GreenletLoop

LOG = logging.getLogger("heatperf.loop")

# Workers share the listening socket: whoever wakes takes one connection and leaves the next to the others. gevent's
# own pywsgi does the same (max_accept = 1) when it is told that it has siblings.
ACCEPT_BATCH = 1
# Out of descriptors or buffers: accept() would fail at once again, and a level-triggered loop would spin on it.
ACCEPT_PAUSE = 0.5
OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# The same while the worker drains and its connections close one after the other.
REST_PAUSE = 0.05
# The most that stop() takes of one queue: above any sensible net.core.somaxconn, and an end for a flood.
MAX_BACKLOG = 65_535

Connect = Callable[[socket.socket, Any], None]


class Listening:
    """All listeners of one loop; see base.Loop.serve and stop_accepting."""

    def __init__(self, loop: GreenletLoop) -> None:
        self._loop = loop
        self._listeners: list[Listener] = []
        self._rests: set[Listener] = set()

    def add(self, sock: socket.socket, connect: Connect) -> None:
        """Accept from now on."""
        sock.setblocking(False)
        self._listeners.append(Listener(self._loop, sock, connect))

    def stop(self) -> None:
        """Take what the kernel has queued, then close the listeners."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.cancel()
            self._take_rest(listener)

    @property
    def taking_rest(self) -> bool:
        """Whether ``stop`` still waits for descriptors."""
        return bool(self._rests)

    def _take_rest(self, listener: Listener) -> None:
        """Connections the kernel has completed would get a reset when the last copy of the listener closes."""
        self._rests.discard(listener)
        try:
            listener.accept(MAX_BACKLOG)
        except Exception as exc:
            if getattr(exc, "errno", None) in OUT_OF_RESOURCES:
                self._rests.add(listener)
                self._loop.call_later(REST_PAUSE, self._take_rest, listener)
                return
            LOG.error("Cannot accept the last connections: %s", exc)
        listener.sock.close()


class Listener:
    """One listening socket, watched from the beginning until ``cancel``, with pauses."""

    def __init__(self, loop: GreenletLoop, sock: socket.socket, connect: Connect) -> None:
        self.sock = sock
        self._accept = sock.accept
        self._connect = connect
        self._loop = loop
        self._handle: Handle | None = None
        self._watch()

    def _watch(self) -> None:
        self._handle = self._loop._readable(self.sock.fileno(), self._accept_some)

    def cancel(self) -> None:
        """Watch no longer, paused or not."""
        if self._handle is not None:
            self._handle.cancel()

    def _accept_some(self) -> None:
        # A loop may stop watching when a callback raises, and the listener would be deaf for good.
        try:
            self.accept(ACCEPT_BATCH)
        except Exception as exc:
            LOG.error("Cannot accept connections for %s s: %s", ACCEPT_PAUSE, exc)
            self.cancel()
            self._handle = self._loop._after(ACCEPT_PAUSE, self._watch)

    def accept(self, most: int) -> None:
        """Take connections until there are none.

        :raises OSError: accept() refuses
        """
        for _ in range(most):
            try:
                sock, peer = self._accept()
            except BlockingIOError:
                return  # a sibling was faster
            except (ConnectionAbortedError, InterruptedError):
                continue  # this client has gone
            self._connect(sock, peer)

"""The worker's loop on gevent, without monkey patching: the adapter beneath greenlets.

Comes in: parking and waking as greenlets asks for them. Goes out: calls on this process's hub: sockets by their own io
watchers, native threads through run_callback_threadsafe. Raises what base says. Runs on the worker's main thread.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from gevent.exceptions import HubDestroyed
from gevent.hub import Hub, get_hub
from greenlet import getcurrent

from heatperf.loops.greenlets import GreenletLoop, GreenletStream, GreenletWaiter, closed_stream, too_late

LOG = logging.getLogger("heatperf.loop")

READ, WRITE = 1, 2


def create() -> GeventLoop:
    """The loop of the calling thread; in the worker, after the fork, because the hub owns an epoll descriptor."""
    return GeventLoop()


class GeventWaiter(GreenletWaiter):
    """See base.Waiter."""

    __slots__ = ()

    def _park(self, timeout: float | None) -> None:
        hub = self._loop.hub
        timer = None
        if timeout is not None:
            timer = hub.loop.timer(max(timeout, 0.0))
            timer.start(self._settle, None, too_late(timeout))
        self._parked = getcurrent()
        try:
            while not self._done:
                hub.switch()
        finally:
            self._parked = None
            self._done = True  # killed while parked
            if timer is not None:
                timer.stop()
                timer.close()

    def _unpark(self) -> None:
        self._loop.hub.loop.run_callback(self._parked.switch)


class GeventStream(GreenletStream):
    """See base.Stream. One watcher for each direction."""

    __slots__ = ("_hub", "_reader", "_writer")

    def __init__(self, loop: GeventLoop, sock: socket.socket, peer: Any) -> None:
        self._hub = loop.hub
        self._reader: Any = loop.hub.loop.io(sock.fileno(), READ)
        self._writer: Any = None
        super().__init__(loop, sock, peer)

    def _wait_readable(self) -> None:
        reader = self._reader
        if reader is None:
            raise closed_stream()
        self._waits += 1
        self._parked = getcurrent()
        try:
            self._hub.wait(reader)
        finally:
            self._parked = None

    def _wait_writable(self) -> None:
        if self._reader is None:
            raise closed_stream()
        if self._writer is None:
            self._writer = self._hub.loop.io(self._sock.fileno(), WRITE)
        self._waits += 1
        self._parked = getcurrent()
        try:
            self._hub.wait(self._writer)
        finally:
            self._parked = None

    def _unwatch(self) -> None:
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._reader = self._writer = None


class Watch:
    """See base.Handle."""

    __slots__ = ("_watcher",)

    def __init__(self, watcher: Any) -> None:
        self._watcher = watcher

    def cancel(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()
            watcher.close()


class GeventLoop(GreenletLoop):
    """See base.Loop."""

    name = "gevent"
    stream_class = GeventStream
    waiter_class = GeventWaiter

    def __init__(self) -> None:
        self.hub: Hub = get_hub()
        self.hub.handle_error = log_error
        self._stopped = Event()
        super().__init__()

    def call_soon_threadsafe(self, function: Callable[..., Any], /, *args: Any) -> None:
        self.hub.loop.run_callback_threadsafe(function, *args)

    def sleep(self, seconds: float) -> None:
        gevent.sleep(seconds)

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        self._stopped.wait()

    def _start(self, function: Callable[..., Any], /, *args: Any) -> Any:
        return gevent.spawn(function, *args)

    def _soon(self, function: Callable[..., Any], /, *args: Any) -> None:
        self.hub.loop.run_callback(function, *args)

    def _after(self, seconds: float, function: Callable[..., Any], /, *args: Any) -> Watch:
        watcher = self.hub.loop.timer(seconds)
        watcher.start(function, *args)
        return Watch(watcher)

    def _repeat(self, seconds: float, function: Callable[[], Any]) -> Watch:
        watcher = self.hub.loop.timer(seconds, seconds)
        watcher.start(function)
        return Watch(watcher)

    def _readable(self, fd: int, function: Callable[..., Any], /, *args: Any) -> Watch:
        watcher = self.hub.loop.io(fd, READ)
        watcher.start(function, *args)
        return Watch(watcher)


def log_error(context: Any, kind: Any, value: Any, tb: Any) -> None:
    """Instead of gevent's print to stderr: what escapes a greenlet goes to the log."""
    if isinstance(value, HubDestroyed):
        raise value  # that is how a hub ends
    if value is None or isinstance(value, gevent.GreenletExit):
        return
    if not isinstance(value, BaseException):
        value = kind(value)
    LOG.error("Unexpected error in %s", context, exc_info=(type(value), value, tb))
    if isinstance(value, KeyboardInterrupt | SystemExit | SystemError):
        get_hub().handle_system_error(kind, value)

"""The worker's loop on gevent, without monkey patching.

Everything that parks goes through this process's hub: sockets by their own io watchers, native threads through
run_callback_threadsafe. Runs on the worker's main thread; only call_soon_threadsafe, run_on_loop and the two ends of a
Waiter may be used from others.

Deadlines of connections are kept as plain floats and swept four times a second, because starting and stopping one timer
per read costs more than parsing the request.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import logging
import os
import signal
import socket
import ssl
import struct
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from gevent.hub import Hub, get_hub
from greenlet import getcurrent

from heatperf.loops.base import INFINITE, Handler, Interrupted, Stream
from heatperf.loops.offload import ThreadPool
from heatperf.loops.tls import TLSStream

LOG = logging.getLogger("heatperf.loop")

READ, WRITE = 1, 2
SWEEP_INTERVAL = 0.25
# Workers share the listening socket: whoever wakes takes one connection and leaves the next to the others. gevent's
# own pywsgi does the same (max_accept = 1) when it is told that it has siblings.
ACCEPT_BATCH = 1
# Out of descriptors or buffers: accept() would fail at once again, and a level-triggered loop would spin on it.
ACCEPT_PAUSE = 0.5
OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# The same while the worker drains and its connections close one after the other.
REST_PAUSE = 0.05
# The most that stop_accepting takes of one queue: above any sensible net.core.somaxconn, and an end for a flood.
MAX_BACKLOG = 65_535

Connect = Callable[[socket.socket, Any], None]


def create() -> GeventLoop:
    """The loop of the calling thread; in the worker, after the fork, because the hub owns an epoll descriptor."""
    return GeventLoop()


class GeventWaiter:
    """See base.Waiter. State changes on the loop thread only, so that threads need no lock."""

    __slots__ = ("_loop", "_done", "_value", "_error", "_parked")

    def __init__(self, loop: GeventLoop) -> None:
        self._loop = loop
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._parked: Any = None

    def wait(self, timeout: float | None = None) -> Any:
        if not self._done:
            self._park(timeout)
        error = self._error
        if error is not None:
            self._error = None  # the traceback holds this frame: break the cycle
            raise error
        return self._value

    def _park(self, timeout: float | None) -> None:
        hub = self._loop.hub
        timer = None
        if timeout is not None:
            timer = hub.loop.timer(max(timeout, 0.0))
            timer.start(self._settle, None, TimeoutError(f"nothing came within {timeout:g} s"))
        self._parked = getcurrent()
        try:
            while not self._done:
                hub.switch()
        finally:
            self._parked = None
            self._done = True  # killed while parked: whoever wakes later is ignored
            if timer is not None:
                timer.stop()
                timer.close()

    def wake(self, value: Any = None) -> None:
        self._from_anywhere(value, None)

    def throw(self, error: BaseException) -> None:
        self._from_anywhere(None, error)

    def _from_anywhere(self, value: Any, error: BaseException | None) -> None:
        if self._loop.in_loop_thread():
            self._settle(value, error)
        else:
            self._loop.call_soon_threadsafe(self._settle, value, error)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        if self._done:
            return
        self._done = True
        self._value = value
        self._error = error
        if self._parked is not None:
            self._loop.hub.loop.run_callback(self._parked.switch)


class GeventStream:
    """See base.Stream. A non-blocking socket with one watcher for each direction."""

    __slots__ = (
        "deadline", "send_timeout", "peer", "local", "scheme",
        "_hub", "_sock", "_recv", "_send", "_reader", "_writer", "_parked", "_waits", "_streams",
    )  # fmt: skip

    def __init__(self, loop: GeventLoop, sock: socket.socket, peer: Any) -> None:
        sock.setblocking(False)
        self._hub = loop.hub
        self._sock = sock
        self._recv = sock.recv
        self._send = sock.send
        self._reader = loop.hub.loop.io(sock.fileno(), READ)
        self._writer: Any = None
        self._parked: Any = None
        self._waits = 0
        self.deadline = INFINITE
        self.send_timeout = 60.0
        self.scheme = "http"
        self.peer, self.local = addresses(sock, peer)
        self._streams = loop.streams
        self._streams.add(self)

    def start(self) -> None:
        """Nothing precedes the first byte of a plain connection."""

    def recv(self, size: int, wait_first: bool = False) -> bytes:
        if wait_first:
            self._wait(self._reader)
        while True:
            try:
                return self._recv(size)
            except BlockingIOError:
                self._wait(self._reader)

    def recv_ready(self, size: int) -> bytes:
        try:
            return self._recv(size)
        except OSError:
            return b""

    def send_all(self, data: bytes) -> None:
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:])

    def _send_rest(self, view: memoryview) -> None:
        if self._writer is None:
            self._writer = self._hub.loop.io(self._sock.fileno(), WRITE)
        before = self.deadline
        try:
            while view:
                self.deadline = time.monotonic() + self.send_timeout
                self._wait(self._writer)
                with contextlib.suppress(BlockingIOError):
                    view = view[self._send(view) :]
        finally:
            self.deadline = before

    def shutdown_write(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._streams.discard(self)
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._reader = self._writer = None
        self._sock.close()

    def interrupt(self) -> None:
        if self._parked is not None:
            self._hub.loop.run_callback(self._throw, self._waits, Interrupted())

    def expire(self) -> None:
        """The deadline has passed: make a parked recv or send raise TimeoutError. From the sweep only.

        The deadline stays. Bytes may end this wait first, and the next one is late as well: the next sweep ends that.
        """
        if self._parked is not None:
            self._hub.loop.run_callback(self._throw, self._waits, TimeoutError())

    def _throw(self, wait: int, error: BaseException) -> None:
        # Runs inside the hub. Bytes may have ended that wait in the meantime; the next one is not meant.
        if self._parked is not None and self._waits == wait:
            self._parked.throw(error)

    def _wait(self, watcher: Any) -> None:
        if watcher is None:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the stream is closed")
        self._waits += 1
        self._parked = getcurrent()
        try:
            self._hub.wait(watcher)
        finally:
            self._parked = None


class Timer:
    """See base.Handle. What call_later, every and on_readable return."""

    __slots__ = ("_watcher",)

    def __init__(self, watcher: Any) -> None:
        self._watcher = watcher

    def cancel(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()
            watcher.close()


class GeventLoop:
    """See base.Loop."""

    name = "gevent"

    def __init__(self) -> None:
        self.hub: Hub = get_hub()
        self.hub.handle_error = log_error
        self.streams: set[GeventStream] = set()
        self._thread = threading.get_ident()
        self._stopped = Event()
        self._listeners: list[tuple[socket.socket, Any, Connect]] = []
        self._rests: set[socket.socket] = set()
        self._pools: list[ThreadPool] = []
        self._signals: dict[int, Callable[[], Any]] = {}
        self._signal_pipe: tuple[socket.socket, socket.socket] | None = None
        self._signal_watcher: Any = None
        self._sweeper = self.hub.loop.timer(SWEEP_INTERVAL, SWEEP_INTERVAL)
        self._sweeper.start(self._sweep)

    def spawn(self, function: Callable[..., Any], /, *args: Any) -> Any:
        return gevent.spawn(contextvars.copy_context().run, function, *args)

    def call_soon_threadsafe(self, function: Callable[..., Any], /, *args: Any) -> None:
        self.hub.loop.run_callback_threadsafe(function, *args)

    def call_later(self, seconds: float, function: Callable[..., Any], /, *args: Any) -> Timer:
        watcher = self.hub.loop.timer(max(seconds, 0.0))
        timer = Timer(watcher)
        watcher.start(self._fire, timer, contextvars.copy_context(), function, args)
        return timer

    def on_readable(self, fd: int, callback: Callable[[], Any]) -> Timer:
        watcher = self.hub.loop.io(fd, READ)
        timer = Timer(watcher)
        watcher.start(self._fire, timer, contextvars.copy_context(), callback, ())
        return timer

    def every(self, seconds: float, function: Callable[[], Any]) -> Timer:
        if seconds <= 0:
            raise ValueError(f"every {seconds} s")  # libev would take it for "once"
        watcher = self.hub.loop.timer(seconds, seconds)
        watcher.start(function)
        return Timer(watcher)

    @staticmethod
    def _fire(timer: Timer, context: contextvars.Context, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        timer.cancel()
        gevent.spawn(context.run, function, *args)

    def waiter(self) -> GeventWaiter:
        return GeventWaiter(self)

    def sleep(self, seconds: float) -> None:
        gevent.sleep(seconds)

    def pool(self, name: str, threads: int, queue_limit: int) -> ThreadPool:
        pool = ThreadPool(self, name, threads, queue_limit)
        self._pools.append(pool)
        return pool

    def in_loop_thread(self) -> bool:
        return threading.get_ident() == self._thread

    def run_on_loop(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if self.in_loop_thread():
            raise RuntimeError("run_on_loop would block the loop's own thread")
        done = threading.Lock()
        done.acquire()
        outcome: list[Any] = [None, None]
        context = contextvars.copy_context()

        def body() -> None:
            try:
                outcome[0] = context.run(function, *args, **kwargs)
            except BaseException as exc:  # handed to the thread that waits
                outcome[1] = exc
            finally:
                done.release()

        self.call_soon_threadsafe(gevent.spawn, body)
        done.acquire()
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    # Signals

    def on_signal(self, signum: int, callback: Callable[[], Any]) -> None:
        self._watch_signals()
        self._signals[signum] = callback
        signal.signal(signum, ignore_signal)

    def _watch_signals(self) -> None:
        """Let any Python-level signal handler, ours or not, wake the loop: epoll_wait alone would sleep through it."""
        if self._signal_pipe is not None:
            return
        self._signal_pipe = socket.socketpair()
        for end in self._signal_pipe:
            end.setblocking(False)
        signal.set_wakeup_fd(self._signal_pipe[1].fileno(), warn_on_full_buffer=False)
        self._signal_watcher = self.hub.loop.io(self._signal_pipe[0].fileno(), READ)
        self._signal_watcher.start(self._read_signals)

    def _read_signals(self) -> None:
        if self._signal_pipe is None:
            return
        with contextlib.suppress(BlockingIOError):
            for signum in self._signal_pipe[0].recv(256):
                callback = self._signals.get(signum)
                if callback is not None:
                    gevent.spawn(callback)

    # Listening

    def serve(self, listener: socket.socket, handler: Handler, ssl_context: ssl.SSLContext | None = None) -> None:
        def connect(sock: socket.socket, peer: Any) -> None:
            stream: Stream | None = None
            try:
                stream = GeventStream(self, sock, peer)
                gevent.spawn(handler, stream if ssl_context is None else TLSStream(stream, ssl_context))
            except Exception as exc:
                if not isinstance(exc, OSError):  # OSError: gone between accept and getsockname
                    LOG.exception("Cannot serve a connection")
                if stream is not None:
                    stream.close()
                sock.close()

        listener.setblocking(False)
        watcher = self.hub.loop.io(listener.fileno(), READ)
        self._listeners.append((listener, watcher, connect))
        watcher.start(self._accept_some, listener, watcher, connect)

    def _accept_some(self, listener: socket.socket, watcher: Any, connect: Connect) -> None:
        # gevent stops a watcher whose callback raises, and the listener would be deaf for good.
        try:
            self._accept(listener, connect, ACCEPT_BATCH)
        except Exception as exc:
            LOG.error("Cannot accept connections for %s s: %s", ACCEPT_PAUSE, exc)
            watcher.stop()
            self.call_later(ACCEPT_PAUSE, self._resume, listener, watcher, connect)

    @staticmethod
    def _accept(listener: socket.socket, connect: Connect, most: int) -> None:
        for _ in range(most):
            try:
                sock, peer = listener.accept()
            except BlockingIOError:
                return  # a sibling was faster
            except (ConnectionAbortedError, InterruptedError):
                continue  # this client has gone
            connect(sock, peer)

    def _resume(self, listener: socket.socket, watcher: Any, connect: Connect) -> None:
        if any(entry[1] is watcher for entry in self._listeners):
            watcher.start(self._accept_some, listener, watcher, connect)

    def stop_accepting(self) -> None:
        listeners, self._listeners = self._listeners, []
        for listener, watcher, connect in listeners:
            watcher.stop()
            watcher.close()
            self._accept_rest(listener, connect)

    def _accept_rest(self, listener: socket.socket, connect: Connect) -> None:
        """Connections the kernel has completed would get a reset when the last copy of the listener closes."""
        self._rests.discard(listener)
        try:
            self._accept(listener, connect, MAX_BACKLOG)
        except Exception as exc:
            if getattr(exc, "errno", None) in OUT_OF_RESOURCES:
                self._rests.add(listener)
                self.call_later(REST_PAUSE, self._accept_rest, listener, connect)
                return
            LOG.error("Cannot accept the last connections: %s", exc)
        listener.close()

    @property
    def accepting_rest(self) -> bool:
        return bool(self._rests)

    # Connecting

    def connect_unix(self, path: str) -> tuple[GeventStream, GeventStream]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            sock.connect(path)
            # struct ucred of the process that called listen (SO_PEERCRED, unix(7)): pid, uid, gid
            uid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
            if uid not in (os.geteuid(), 0):
                raise PermissionError(errno.EPERM, f"user {uid} listens there")
            # A stream remembers one parked greenlet, so each direction has its own, over a descriptor of its own.
            sending = GeventStream(self, sock.dup(), "")
            return GeventStream(self, sock.dup(), ""), sending

    def _sweep(self) -> None:
        now = time.monotonic()
        for stream in [stream for stream in self.streams if stream.deadline <= now]:
            stream.expire()

    def run(self) -> None:
        self._stopped.wait()
        if self._signal_pipe is not None:
            signal.set_wakeup_fd(-1)
            self._signal_watcher.stop()
            for end in self._signal_pipe:
                end.close()
            self._signal_pipe = None
        self._sweeper.stop()
        for pool in self._pools:
            pool.stop()

    def stop(self) -> None:
        self._stopped.set()


def addresses(sock: socket.socket, peer: Any) -> tuple[tuple[str, str], tuple[str, str]]:
    """(client address, port) and (own address, port) as texts; ("", "") where a unix socket has none."""
    if not isinstance(peer, tuple):
        return ("", ""), ("", "")
    local = sock.getsockname()
    return (peer[0], str(peer[1])), (local[0], str(local[1]))


def ignore_signal(signum: int, frame: types.FrameType | None) -> None:
    """Handlers do nothing: set_wakeup_fd has already written the byte."""


def log_error(context: Any, kind: Any, value: Any, tb: Any) -> None:
    """Instead of gevent's print to stderr: what escapes a greenlet goes to the log."""
    if value is None or isinstance(value, gevent.GreenletExit):
        return
    if not isinstance(value, BaseException):
        value = kind(value)
    LOG.error("Unexpected error in %s", context, exc_info=(type(value), value, tb))
    if isinstance(value, KeyboardInterrupt | SystemExit | SystemError):
        get_hub().handle_system_error(kind, value)

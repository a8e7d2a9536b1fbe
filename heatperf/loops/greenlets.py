"""What the loops that park greenlets have in common: everything that does not depend on the library beneath.

Comes in: the few things a library can do, which are the methods that raise NotImplementedError here. Goes out: the
Loop, Stream and Waiter of base, word for word; what they raise is said there. Runs on the thread that made the loop;
only call_soon_threadsafe, run_on_loop and the two ends of a Waiter may be used from others.

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

from heatperf.loops import connecting
from heatperf.loops.base import INFINITE, Handle, Handler, Interrupted, Stream
from heatperf.loops.listening import Listening
from heatperf.loops.offload import ThreadPool
from heatperf.loops.tls import TLSStream

LOG = logging.getLogger("heatperf.loop")

SWEEP_INTERVAL = 0.25
# Names that are looked up at once: a name server that does not answer holds a thread for up to half a minute.
RESOLVERS, RESOLVER_QUEUE = 4, 64


class GreenletWaiter:
    """See base.Waiter. State changes on the loop thread only, so that threads need no lock.

    A library provides ``_park`` and ``_unpark``. ``_parked`` is whatever the two need to find the greenlet; not None
    means that it is parked.
    """

    __slots__ = ("_loop", "_done", "_value", "_error", "_parked")

    def __init__(self, loop: Any) -> None:
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
            self._unpark()

    def _park(self, timeout: float | None) -> None:
        """Park the calling greenlet until ``_done``. When the time is up it calls ``_settle(None, too_late(timeout))``.

        However it ends: ``_parked`` is None and ``_done`` is true, so that whoever wakes later is ignored.
        """
        raise NotImplementedError

    def _unpark(self) -> None:
        """Have the parked greenlet go on soon; the caller goes on first. Once per wait, on the loop thread."""
        raise NotImplementedError


def too_late(timeout: float) -> TimeoutError:
    """What a Waiter raises when nobody has woken it."""
    return TimeoutError(f"nothing came within {timeout:g} s")


class GreenletStream:
    """See base.Stream. A non-blocking socket; a library provides the waiting for it.

    ``_parked`` is the greenlet that waits, if any; ``_waits`` counts the waits, so that an error meant for one does not
    meet the next.
    """

    __slots__ = (
        "deadline", "send_timeout", "peer", "local", "scheme",
        "_loop", "_sock", "_recv", "_send", "_parked", "_waits",
    )  # fmt: skip
    buffered = False

    def __init__(self, loop: Any, sock: socket.socket, peer: Any) -> None:
        """Takes the socket over if it does not raise. To be called last by those who derive from it.

        :param peer: what accept() said; "" for a unix socket
        """
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._recv = sock.recv
        self._send = sock.send
        self._parked: Any = None
        self._waits = 0
        self.deadline = INFINITE
        self.send_timeout = 60.0
        self.scheme = "http"
        self.peer, self.local = addresses(sock, peer)
        loop.streams.add(self)

    def start(self) -> None:
        """Nothing precedes the first byte of a plain connection."""

    def recv(self, size: int, wait_first: bool = False) -> bytes:
        if wait_first:
            self._wait_readable()
        while True:
            try:
                return self._recv(size)
            except BlockingIOError:
                self._wait_readable()

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
        before = self.deadline
        try:
            while view:
                self.deadline = time.monotonic() + self.send_timeout
                self._wait_writable()
                with contextlib.suppress(BlockingIOError):
                    view = view[self._send(view) :]
        finally:
            self.deadline = before

    def connected(self, seconds: float) -> None:
        """Park until a connection that has been begun is there.

        :raises OSError: it will never be; TimeoutError: not in time
        """
        self.deadline = time.monotonic() + seconds
        try:
            self._wait_writable()
        finally:
            self.deadline = INFINITE
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    def shutdown_write(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._loop.streams.discard(self)
        self._unwatch()
        self._sock.close()

    def interrupt(self) -> None:
        self._end_wait(Interrupted())

    def expire(self) -> None:
        """The deadline has passed: make a parked recv or send raise TimeoutError. From the sweep only.

        The deadline stays. Bytes may end this wait first, and the next one is late as well: the next sweep ends that.
        """
        self._end_wait(TimeoutError())

    def _end_wait(self, error: BaseException) -> None:
        if self._parked is not None:
            self._loop._soon(self._throw, self._waits, error)

    def _throw(self, wait: int, error: BaseException) -> None:
        # Runs inside the loop. Bytes may have ended that wait in the meantime; the next one is not meant.
        if self._parked is not None and self._waits == wait:
            self._parked.throw(error)

    def _wait_readable(self) -> None:
        """Park the calling greenlet until there is something to receive, or the end, or an error.

        It counts ``_waits`` up and keeps ``_parked`` for as long as it is parked.

        :raises ConnectionAbortedError: the stream is closed, see ``closed_stream``
        :raises TimeoutError, Interrupted: as told by ``expire`` or ``interrupt``
        """
        raise NotImplementedError

    def _wait_writable(self) -> None:
        """The same until the kernel takes bytes."""
        raise NotImplementedError

    def _unwatch(self) -> None:
        """The socket is about to be closed: let go of it. May be called again."""
        raise NotImplementedError


def closed_stream() -> ConnectionAbortedError:
    """For a wait on a stream that has been closed."""
    return ConnectionAbortedError(errno.ECONNABORTED, "the stream is closed")


def addresses(sock: socket.socket, peer: Any) -> tuple[tuple[str, str], tuple[str, str]]:
    """(client address, port) and (own address, port) as texts; ("", "") where a unix socket has none."""
    if not isinstance(peer, tuple):
        return ("", ""), ("", "")
    local = sock.getsockname()
    return (peer[0], str(peer[1])), (local[0], str(local[1]))


class GreenletLoop:
    """See base.Loop. A library provides the methods that raise NotImplementedError, and the classes of Waiter, Stream.

    :ivar streams: those that are open
    """

    name: str
    stream_class: type[GreenletStream]
    waiter_class: type[GreenletWaiter]

    def __init__(self) -> None:
        """The library's own parts must be usable by now: this starts the sweep."""
        self.streams: set[GreenletStream] = set()
        self._thread = threading.get_ident()
        self._pools: list[ThreadPool] = []
        self._resolver: ThreadPool | None = None
        self._signals: dict[int, Callable[[], Any]] = {}
        self._signal_pipe: tuple[socket.socket, socket.socket] | None = None
        self._signal_watch: Handle | None = None
        self._listening = Listening(self)
        self._sweeper = self._repeat(SWEEP_INTERVAL, self._sweep)

    # What a library provides

    def call_soon_threadsafe(self, function: Callable[..., Any], /, *args: Any) -> None:
        """See base.Loop. After the loop has ended it does nothing."""
        raise NotImplementedError

    def sleep(self, seconds: float) -> None:
        """See base.Loop."""
        raise NotImplementedError

    def stop(self) -> None:
        """See base.Loop."""
        raise NotImplementedError

    def _run(self) -> None:
        """Block until ``stop``, as base.Loop.run, without what is to be done after it."""
        raise NotImplementedError

    def _start(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """Start a greenlet; the caller goes on first. What escapes it is logged. Loop thread."""
        raise NotImplementedError

    def _soon(self, function: Callable[..., Any], /, *args: Any) -> None:
        """Run inside the loop, soon; it must not park. Loop thread."""
        raise NotImplementedError

    def _after(self, seconds: float, function: Callable[..., Any], /, *args: Any) -> Handle:
        """Run inside the loop, once, after a while (at once with 0); it must not park. Loop thread."""
        raise NotImplementedError

    def _repeat(self, seconds: float, function: Callable[[], Any]) -> Handle:
        """See base.Loop.every; seconds are above 0."""
        raise NotImplementedError

    def _readable(self, fd: int, function: Callable[..., Any], /, *args: Any) -> Handle:
        """Run inside the loop whenever the descriptor is readable or at its end, until cancelled; it must not park.

        Level-triggered: what the function leaves unread brings it back. It may cancel the handle itself. The
        descriptor is closed only after that. Loop thread.
        """
        raise NotImplementedError

    # What follows from that

    def spawn(self, function: Callable[..., Any], /, *args: Any) -> Any:
        return self._start(contextvars.copy_context().run, function, *args)

    def spawn_apart(self, function: Callable[..., Any], /, *args: Any) -> Any:
        return self._start(contextvars.Context().run, function, *args)

    def waiter(self) -> GreenletWaiter:
        return self.waiter_class(self)

    def call_later(self, seconds: float, function: Callable[..., Any], /, *args: Any) -> Handle:
        return self._after(max(seconds, 0.0), self._start, contextvars.copy_context().run, function, *args)

    def on_readable(self, fd: int, callback: Callable[[], Any]) -> Handle:
        context = contextvars.copy_context()

        def fire() -> None:
            handle.cancel()
            self._start(context.run, callback)

        handle = self._readable(fd, fire)
        return handle

    def every(self, seconds: float, function: Callable[[], Any]) -> Handle:
        if seconds <= 0:
            raise ValueError(f"every {seconds} s")
        return self._repeat(seconds, function)

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

        self.call_soon_threadsafe(self._start, body)
        done.acquire()
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def serve(self, listener: socket.socket, handler: Handler, ssl_context: ssl.SSLContext | None = None) -> None:
        def connect(sock: socket.socket, peer: Any) -> None:
            stream: Stream | None = None
            try:
                stream = self.stream_class(self, sock, peer)
                self._start(handler, stream if ssl_context is None else TLSStream(stream, ssl_context))
            except Exception as exc:
                if not isinstance(exc, OSError):  # OSError: gone between accept and getsockname
                    LOG.exception("Cannot serve a connection")
                if stream is not None:
                    stream.close()
                sock.close()

        self._listening.add(listener, connect)

    def stop_accepting(self) -> None:
        self._listening.stop()

    @property
    def accepting_rest(self) -> bool:
        return self._listening.taking_rest

    def connect_unix(self, path: str) -> tuple[GreenletStream, GreenletStream]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            sock.connect(path)
            # struct ucred of the process that called listen (SO_PEERCRED, unix(7)): pid, uid, gid
            uid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
            if uid not in (os.geteuid(), 0):
                raise PermissionError(errno.EPERM, f"user {uid} listens there")
            # A stream remembers one parked greenlet, so each direction has its own, over a descriptor of its own.
            sending = self.stream_class(self, sock.dup(), "")
            return self.stream_class(self, sock.dup(), ""), sending

    def connect_tcp(
        self, host: str, port: int, seconds: float, context: ssl.SSLContext | None, server_name: str
    ) -> tuple[Any, Any]:
        if self._resolver is None:
            self._resolver = self.pool("resolver", RESOLVERS, RESOLVER_QUEUE)
        return connecting.connect_tcp(self, self._resolver, host, port, seconds, context, server_name)

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
        self._take_wakeup_fd()
        self._signal_watch = self._readable(self._signal_pipe[0].fileno(), self._read_signals)

    def _take_wakeup_fd(self) -> None:
        if self._signal_pipe is not None:
            signal.set_wakeup_fd(self._signal_pipe[1].fileno(), warn_on_full_buffer=False)

    def _read_signals(self) -> None:
        if self._signal_pipe is None:
            return
        with contextlib.suppress(BlockingIOError):
            for signum in self._signal_pipe[0].recv(256):
                callback = self._signals.get(signum)
                if callback is not None:
                    self._start(callback)

    def _sweep(self) -> None:
        now = time.monotonic()
        for stream in [stream for stream in self.streams if stream.deadline <= now]:
            stream.expire()

    def run(self) -> None:
        self._run()
        if self._signal_pipe is not None:
            signal.set_wakeup_fd(-1)
            if self._signal_watch is not None:
                self._signal_watch.cancel()
            for end in self._signal_pipe:
                end.close()
            self._signal_pipe = None
        self._sweeper.cancel()
        for pool in self._pools:
            pool.stop()


def ignore_signal(signum: int, frame: types.FrameType | None) -> None:
    """Handlers do nothing: set_wakeup_fd has already written the byte."""

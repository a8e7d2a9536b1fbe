"""The worker's loop on uvloop (libuv), without tasks, futures or transports: the adapter beneath greenlets.

Comes in: parking and waking as greenlets asks for them. Goes out: calls of one uvloop event loop, which runs in a
greenlet of its own, the hub. A greenlet parks by switching to the hub, which switches back from ``_run_ready``. Raises
what base says. Runs on the worker's main thread.

The hub switches to greenlets from nowhere else. While libuv dispatches events or timers, lists of theirs are on the C
stack of the hub, and uv_poll_stop and uv_timer_stop edit them through pointers; but a greenlet that runs may have taken
over that part of the stack, and the hub's is on the heap until it goes on. ``_run_ready`` runs where libuv keeps
nothing there: uvloop calls it from its one idle handle.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import uvloop
from greenlet import GreenletExit, getcurrent, greenlet

from heatperf.loops.greenlets import GreenletLoop, GreenletStream, GreenletWaiter, closed_stream, too_late

LOG = logging.getLogger("heatperf.loop")

# Functions that run before the loop looks for bytes and timers again, as many as gevent takes.
MOST_READY = 1000


def create() -> UvloopLoop:
    """The loop of the calling thread; in the worker, after the fork, because libuv's loop owns an epoll descriptor."""
    return UvloopLoop()


class UvloopWaiter(GreenletWaiter):
    """See base.Waiter."""

    __slots__ = ()

    def _park(self, timeout: float | None) -> None:
        loop = self._loop
        timer = None
        if timeout is not None:
            timer = loop._after(timeout, self._settle, None, too_late(timeout))
        self._parked = getcurrent()
        try:
            while not self._done:
                if loop.hub.dead:
                    raise RuntimeError("the loop has ended")
                loop.hub.switch()
        finally:
            self._parked = None
            self._done = True  # killed while parked
            if timer is not None:
                timer.cancel()

    def _unpark(self) -> None:
        self._loop._soon(self._parked.switch)


class UvloopStream(GreenletStream):
    """See base.Stream.

    The reader stays armed between waits, because arming costs system calls. libuv is level-triggered, so when bytes
    come while nobody waits for them, the reader is disarmed until somebody does.
    """

    __slots__ = ("_fd", "_armed", "_writing")

    def __init__(self, loop: UvloopLoop, sock: socket.socket, peer: Any) -> None:
        self._fd = sock.fileno()
        self._armed = False
        self._writing = False
        super().__init__(loop, sock, peer)

    def _wait_readable(self) -> None:
        if not self._armed:
            if self._fd < 0:
                raise closed_stream()
            self._loop.uv.add_reader(self._fd, self._on_readable)
            self._armed = True
        self._waits += 1
        self._parked = getcurrent()
        try:
            self._loop.hub.switch()
        finally:
            self._parked = None

    def _on_readable(self) -> None:
        if self._parked is None or self._writing:
            self._disarm()
        else:
            self._loop._soon(self._resume, self._waits)

    def _resume(self, wait: int) -> None:
        # Its deadline may have ended that wait in the meantime.
        if self._parked is not None and self._waits == wait:
            self._parked.switch()

    def _disarm(self) -> None:
        if self._armed:
            self._armed = False
            self._loop.uv.remove_reader(self._fd)

    def _wait_writable(self) -> None:
        if self._fd < 0:
            raise closed_stream()
        self._waits += 1
        self._parked = getcurrent()
        self._writing = True
        self._loop.uv.add_writer(self._fd, self._loop._soon, self._resume, self._waits)
        try:
            self._loop.hub.switch()
        finally:
            self._parked = None
            self._writing = False
            if self._fd >= 0:
                self._loop.uv.remove_writer(self._fd)

    def _unwatch(self) -> None:
        if self._fd >= 0:
            self._disarm()
            if self._writing:
                self._loop.uv.remove_writer(self._fd)
            self._fd = -1


class Reader:
    """See base.Handle. A descriptor that is watched."""

    __slots__ = ("_fd", "_uv")

    def __init__(self, uv: uvloop.Loop, fd: int) -> None:
        self._uv = uv
        self._fd = fd

    def cancel(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._uv.remove_reader(fd)


class Repeat:
    """See base.Handle. Calls a function at even intervals, leaving out those that are past."""

    __slots__ = ("_due", "_function", "_loop", "_seconds", "_timer")

    def __init__(self, loop: UvloopLoop, seconds: float, function: Callable[[], Any]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._function = function
        self._due = time.monotonic()
        self._timer: Any = None
        self._plan()

    def _plan(self) -> None:
        now = time.monotonic()
        self._due = max(self._due + self._seconds, now)
        self._timer = self._loop._after(self._due - now, self._fire)

    def _fire(self) -> None:
        self._plan()  # first, because the function may cancel or raise
        self._function()

    def cancel(self) -> None:
        self._timer.cancel()


class UvloopLoop(GreenletLoop):
    """See base.Loop.

    :ivar uv: the event loop
    :ivar hub: who switches to it parks, and goes on when somebody switches back
    """

    name = "uvloop"
    stream_class = UvloopStream
    waiter_class = UvloopWaiter

    def __init__(self) -> None:
        self.uv = uvloop.new_event_loop()
        self.uv.set_exception_handler(log_callback)
        # Callbacks run one after the other, so they can share one; a copy of the caller's would keep its values alive.
        self._context = contextvars.Context()
        self.hub = greenlet(self._run_hub)
        self._ready: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._fatal: BaseException | None = None
        self._end = UvloopWaiter(self)
        super().__init__()

    def _run_hub(self) -> None:
        if threading.current_thread() is threading.main_thread():
            # run_forever makes a descriptor of its own the wakeup fd; no signal may come before ours is back.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            self.uv.call_soon(self._begin, mask)
        self.uv.run_forever()

    def _begin(self, mask: set[int]) -> None:
        self._take_wakeup_fd()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _run(self) -> None:
        try:
            self._end.wait()
        finally:
            if self.hub:
                self.uv.stop()
                self.hub.switch()  # its last turn; the end of a greenlet is a switch to its parent
            self.uv.close()
        if self._fatal is not None:
            raise self._fatal

    def stop(self) -> None:
        self._end.wake()

    def call_soon_threadsafe(self, function: Callable[..., Any], /, *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # closed
            if self.in_loop_thread():
                self._soon(function, *args)
            else:
                self.uv.call_soon_threadsafe(function, *args, context=self._context)

    def sleep(self, seconds: float) -> None:
        waiter = UvloopWaiter(self)
        # With 0 it takes a turn of the event loop as well, so that others and their bytes have theirs.
        timer = self._after(seconds, waiter.wake)
        try:
            waiter.wait()
        finally:
            timer.cancel()

    def _start(self, function: Callable[..., Any], /, *args: Any) -> Any:
        started = greenlet(self._live, self.hub)
        self._soon(started.switch, function, *args)
        return started

    def _live(self, function: Callable[..., Any], /, *args: Any) -> None:
        """The life of a greenlet."""
        try:
            function(*args)
        except GreenletExit:
            pass
        except BaseException as exc:
            LOG.error("Unexpected error in %r", function, exc_info=exc)
            if isinstance(exc, KeyboardInterrupt | SystemExit | SystemError):
                self._fatal = exc
                self.stop()

    def _soon(self, function: Callable[..., Any], /, *args: Any) -> None:
        if not self._ready:
            self.uv.call_soon(self._run_ready, context=self._context)
        self._ready.append((function, args))

    def _run_ready(self) -> None:
        """What is ready, and what that makes ready: each turn of libuv costs an epoll_wait. With an end, for others."""
        ready = self._ready
        for _ in range(MOST_READY):
            function, args = ready[0]
            try:
                function(*args)
            except Exception:
                LOG.exception("Unexpected error in %r", function)
            finally:
                ready.popleft()  # only now: while it is not empty, this is what will run them
            if not ready:
                return
        self.uv.call_soon(self._run_ready, context=self._context)

    def _after(self, seconds: float, function: Callable[..., Any], /, *args: Any) -> Any:
        return self.uv.call_later(seconds, function, *args, context=self._context)

    def _repeat(self, seconds: float, function: Callable[[], Any]) -> Repeat:
        return Repeat(self, seconds, function)

    def _readable(self, fd: int, function: Callable[..., Any], /, *args: Any) -> Reader:
        self.uv.add_reader(fd, function, *args)
        return Reader(self.uv, fd)


def log_callback(_loop: Any, context: dict[str, Any]) -> None:
    """What escapes a callback of the event loop goes to the log."""
    LOG.error("Unexpected error: %s", context.get("message"), exc_info=context.get("exception"))

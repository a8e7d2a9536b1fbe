"""The worker's loop on meinheld's event loop (picoev), without monkey patching: the adapter beneath greenlets.

Comes in: parking and waking as greenlets asks for them. Goes out: calls of meinheld's C extension, of which only the
loop is used: no listener, no HTTP parser and no Python module of meinheld's. Raises what base says, and
ConfigurationError where the extension is missing or does not work. Runs on the worker's main thread.

What the extension can do, and what follows from it:

* ``trampoline(fd)`` switches to the greenlet's parent and comes back when the descriptor is ready; all greenlets here
  are children of the one that runs the loop, the hub. The wait can be ended from outside: ``cancel_wait`` and a throw.
* Of a greenlet that ends after such a wait meinheld drops a reference that it never took. So none ends there, but has
  itself switched to once more by us: see ``_body``. Nor may it be collected while it has just parked again.
* ``schedule_call`` runs before the next look at the descriptors, last come first, again and again until there are no
  more; its timers know whole seconds. So callbacks and timers are our own: one scheduled call for a batch of callbacks,
  one timerfd for the earliest timer, one eventfd for other threads.
* ``run`` returns when nothing is waited for. It puts handlers of its own in place of those of INT, TERM and PIPE.
* There is one such loop per process.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import errno
import logging
import os
import resource
import select
import signal
import socket
import time
import weakref
from collections.abc import Callable
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from heatperf.loops import meinheld_extension
from heatperf.loops.greenlets import GreenletLoop, GreenletStream, GreenletWaiter, closed_stream, too_late
from heatperf.loops.meinheld_extension import Extension
from heatperf.loops.timers import Timer, Timers

LOG = logging.getLogger("heatperf.loop")

# Signals whose handlers run() replaces.
TAKEN = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
# picoev keeps a table of all descriptors, 40 bytes each, and writes to all of it when it starts.
MAX_DESCRIPTORS = 65_536
# A woken greenlet may wake the next, and that one another; then it is the descriptors' turn.
ROUNDS = 3
FINAL = KeyboardInterrupt | SystemExit | SystemError


def preload() -> None:
    """Load the extension, so that workers share it, and try it out.

    :raises ConfigurationError: see meinheld_extension
    """
    meinheld_extension.extension()


def create() -> MeinheldLoop:
    """The loop of the calling greenlet; in the worker, after the fork.

    :raises ConfigurationError: see meinheld_extension
    """
    return MeinheldLoop(meinheld_extension.extension())


class MeinheldWaiter(GreenletWaiter):
    """See base.Waiter."""

    __slots__ = ()

    def _park(self, timeout: float | None) -> None:
        loop = self._loop
        timer = None
        if timeout is not None:
            timer = loop._after(max(timeout, 0.0), self._late, timeout)
        self._parked = getcurrent()
        try:
            while not self._done:
                loop.switch_away()
        finally:
            self._parked = None
            self._done = True  # killed while parked
            if timer is not None:
                timer.cancel()

    def _late(self, timeout: float) -> None:
        self._settle(None, too_late(timeout))

    def _unpark(self) -> None:
        self._loop._soon(self._parked.switch)


class MeinheldStream(GreenletStream):
    """See base.Stream."""

    __slots__ = ("_fd", "_trampoline")

    def __init__(self, loop: MeinheldLoop, sock: socket.socket, peer: Any) -> None:
        self._fd = loop.checked(sock.fileno())
        self._trampoline = loop.trampoline
        super().__init__(loop, sock, peer)

    def _wait_readable(self) -> None:
        self._wait(True, False)

    def _wait_writable(self) -> None:
        self._wait(False, True)

    def _wait(self, reading: bool, writing: bool) -> None:
        fd = self._fd
        if fd < 0:
            raise closed_stream()
        self._waits += 1
        self._parked = getcurrent()
        try:
            self._trampoline(fd, reading, writing)
        except BaseException:
            if self._fd == fd:  # otherwise it is closed, and the number may be another's by now
                self._loop.forget(fd)
            raise
        finally:
            self._parked = None

    def _unwatch(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0 and self._waits:
            if self._parked is not None:
                self._loop.forget(fd)
            self._loop.release(fd)


class Watch:
    """See base.Handle: a greenlet that calls a function whenever a descriptor is readable."""

    __slots__ = ("_args", "_fd", "_function", "_loop", "_parked", "_poll")

    def __init__(self, loop: MeinheldLoop, fd: int, function: Callable[..., Any], *args: Any) -> None:
        """:raises OSError: see MeinheldLoop.checked"""
        self._loop = loop
        self._fd = loop.checked(fd)
        self._function = function
        self._args = args
        self._parked: Any = None
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        loop.watches.add(self)
        loop._start(self._watch)

    def _watch(self) -> None:
        try:
            while self._fd >= 0:
                self._parked = getcurrent()
                self._loop.trampoline(self._fd, True)
                self._parked = None
                # What was meant for an earlier owner of the number may have ended the wait.
                if self._fd >= 0 and self._poll.poll(0):
                    self._function(*self._args)
        finally:
            self.cancel()
            self._parked = None
            self._loop.watches.discard(self)

    def cancel(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            if self._parked is not None:
                self._loop.forget(fd)
            self._loop.release(fd)
        if self._parked is not None and self._parked is not getcurrent():
            self._loop._soon(self._resume)

    def let_go(self) -> None:
        """The loop has ended, so nobody will switch to the greenlet: it ends by being collected."""
        self._parked = None

    def _resume(self) -> None:
        if self._parked is not None:
            self._parked.switch()


class MeinheldLoop(GreenletLoop):
    """See base.Loop.

    :ivar hub: the greenlet that runs the loop
    :ivar trampoline: meinheld's own
    :ivar watches: those whose greenlets have not ended
    """

    name = "meinheld"
    stream_class = MeinheldStream
    waiter_class = MeinheldWaiter

    def __init__(self, extension: Extension) -> None:
        self._extension = extension
        self._server = extension.server
        self.hub = getcurrent()
        self.trampoline = extension.server.trampoline
        self.watches: set[Watch] = set()
        self._max_fd = descriptors()
        # Runs inside the loop. Other threads append to it too.
        self._ready: collections.deque[tuple[Callable[..., Any], tuple[Any, ...]]] = collections.deque()
        self._scheduled = False  # a batch is due, or runs
        self._in_batch = False  # whoever runs now was switched to by us, not by meinheld
        self._running = False
        self._epoll: select.epoll | None = None
        self._stopping = False
        self._final: BaseException | None = None
        self._last: Any = None
        # Threads may write to it at any time, so it lives as long as the loop is known to anybody.
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        weakref.finalize(self, os.close, self._event)
        self._notified = False
        self._wake = Watch(self, self._event, self._woken)
        self._clock = TimerDescriptor()
        self._timers = Timers(self._clock.arm)
        self._ticking = Watch(self, self._clock.fd, self._tick)
        super().__init__()

    def checked(self, fd: int) -> int:
        """:raises OSError: picoev's table has no place for this descriptor, or the loop has ended"""
        if fd >= self._max_fd:
            raise OSError(errno.EMFILE, f"descriptor {fd} is beyond the {self._max_fd} that meinheld waits for")
        return fd

    def forget(self, fd: int) -> None:
        """End the wait for a descriptor. Who waits is not told."""
        if self._running:  # otherwise there is no table to look into
            self._server.cancel_wait(fd)

    def release(self, fd: int) -> None:
        """Nobody waits for the descriptor, and it is about to be closed."""
        if self._epoll is not None:
            with contextlib.suppress(OSError):  # not in the set, since something came while nobody waited
                self._epoll.unregister(fd)

    def switch_away(self) -> None:
        """Let the hub go on; somebody must know the calling greenlet and switch to it."""
        if getcurrent() is self.hub:
            raise RuntimeError("only a greenlet can wait, and this one runs the loop")
        self.hub.switch()

    # Callbacks

    def _soon(self, function: Callable[..., Any], /, *args: Any) -> None:
        self._ready.append((function, args))
        if not self._scheduled and self._running and not self._stopping:
            self._scheduled = True
            self._server.schedule_call(0, self._batch)

    def call_soon_threadsafe(self, function: Callable[..., Any], /, *args: Any) -> None:
        self._ready.append((function, args))
        self._notify()

    def _notify(self) -> None:
        # The other side takes the mark away before it looks at what is ready.
        if not self._notified:
            self._notified = True
            os.eventfd_write(self._event, 1)

    def _woken(self) -> None:
        if self._stopping:
            # With a batch to come, run() would look for descriptors once more and find nothing to wake it.
            if not self._scheduled:
                self._leave()
            return
        os.eventfd_read(self._event)
        self._notified = False
        if self._ready and not self._scheduled:
            self._scheduled = True
            self._server.schedule_call(0, self._batch)

    def _batch(self) -> None:
        """Run what is ready. In the hub."""
        self._in_batch = True
        ready = self._ready
        try:
            for _ in range(ROUNDS):
                for _ in range(len(ready)):
                    function, args = ready.popleft()
                    try:
                        function(*args)
                    except BaseException as exc:
                        self._escaped(exc, function)
        finally:
            self._in_batch = self._scheduled = False
            if ready:
                self._notify()

    def _escaped(self, error: BaseException, where: Any) -> None:
        LOG.error("Unexpected error in %s", where, exc_info=(type(error), error, error.__traceback__))
        if isinstance(error, FINAL):
            self._final = error
            self.stop()

    # Greenlets

    def _start(self, function: Callable[..., Any], /, *args: Any) -> Any:
        started = greenlet(self._body, self.hub)
        self._soon(started.switch, function, *args)
        return started

    def _body(self, function: Callable[..., Any], /, *args: Any) -> None:
        try:
            function(*args)
        except GreenletExit:
            return  # nobody knows it any more, so nobody could switch to it
        except BaseException as exc:
            self._escaped(exc, function)
        if not self._in_batch:
            self._soon(getcurrent().switch)
            self.hub.switch()

    def sleep(self, seconds: float) -> None:
        switch = getcurrent().switch
        if seconds <= 0:
            self._soon(switch)
        else:
            self._after(seconds, switch)
        self.switch_away()

    # Timers and descriptors

    def _after(self, seconds: float, function: Callable[..., Any], /, *args: Any) -> Timer:
        return self._timers.add(time.monotonic() + seconds, 0.0, function, args)

    def _repeat(self, seconds: float, function: Callable[[], Any]) -> Timer:
        return self._timers.add(time.monotonic() + seconds, seconds, function)

    def _tick(self) -> None:
        self._clock.clear()
        for timer in self._timers.due(time.monotonic()):
            self._soon(self._fire, timer)

    @staticmethod
    def _fire(timer: Timer) -> None:
        call = timer.take()
        if call is not None:
            call[0](*call[1])

    def _readable(self, fd: int, function: Callable[..., Any], /, *args: Any) -> Watch:
        return Watch(self, fd, function, *args)

    # From beginning to end

    def _run(self) -> None:
        if getcurrent() is not self.hub:
            raise RuntimeError("a loop is run by the greenlet that made it")
        if not self._stopping:
            self._run_extension()
        self._let_go()
        self._clock.close()
        if self._final is not None:
            raise self._final

    def _run_extension(self) -> None:
        server = self._server
        server.set_error_logger(ErrorLog)
        server.set_picoev_max_fd(self._max_fd)
        server.set_listen_socket([])  # raises if another loop runs
        with Handlers() as handlers:
            self._ready.extendleft(((self._find_epoll, ()), (handlers.put_back, ())))
            self._running = self._scheduled = True
            server.schedule_call(0, self._batch)
            try:
                server.run(None, True)
            finally:
                self._running = False
                if self._epoll is not None:
                    self._epoll.close()
                    self._epoll = None

    def _let_go(self) -> None:
        """A parked greenlet and the loop know each other, and such a cycle is never collected, with its descriptor."""
        self._last = None
        for watch in [*self.watches]:
            watch.let_go()

    def _find_epoll(self) -> None:
        self._epoll = self._extension.epoll()

    def stop(self) -> None:
        self._stopping = True
        self._notified = False
        self._notify()

    def _leave(self) -> None:
        """Wait for nothing any more: run() returns as soon as the caller parks.

        Whatever a greenlet tries after that, when it is collected say, must not get to meinheld: it has no loop then.
        """
        for watch in [*self.watches]:
            watch.cancel()
        for stream in self.streams:
            stream._unwatch()
        self._max_fd = 0
        self._running = False
        self._last = getcurrent()  # see _body: it must not be gone when meinheld looks at it once more
        self.hub.switch()


class Handlers:
    """Keeps the signals that run() takes for itself where they are: blocked until ``put_back`` has undone that.

    The C functions, because signal.signal knows nothing of handlers that others set, and only on the main thread.
    """

    def __enter__(self) -> Handlers:
        self._api = ctypes.pythonapi
        self._get, self._set = self._api.PyOS_getsig, self._api.PyOS_setsig
        self._get.argtypes, self._get.restype = [ctypes.c_int], ctypes.c_void_p
        self._set.argtypes, self._set.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
        self._mask: Any = signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)
        self._before = [(signum, self._get(signum)) for signum in TAKEN]
        return self

    def put_back(self) -> None:
        """Inside the loop, first of all. May be called again."""
        if self._mask is not None:
            for signum, handler in self._before:
                self._set(signum, handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            self._mask = None

    def __exit__(self, *args: object) -> None:
        self.put_back()


class ErrorLog:
    """For what meinheld itself catches. Without it meinheld would print, and end the process at a SystemExit."""

    @staticmethod
    def error(kind: Any, value: Any, tb: Any) -> None:
        LOG.error("Unexpected error in the loop", exc_info=(kind, value, tb))


class TimerDescriptor:
    """A timerfd (timerfd_create(2); os has it from Python 3.13 on)."""

    CLOCK_MONOTONIC = 1  # what time.monotonic reads
    ABSOLUTE = 1
    SECOND = 1_000_000_000

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._set = libc.timerfd_settime
        self.fd: int = libc.timerfd_create(self.CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = (ctypes.c_long * 4)()  # interval and value, each seconds and nanoseconds
        self._open = True

    def arm(self, when: float) -> None:
        """:param when: of time.monotonic(); at once if that has passed"""
        if self._open:
            self._spec[2], self._spec[3] = divmod(max(1, int(when * self.SECOND)), self.SECOND)
            self._set(self.fd, self.ABSOLUTE, self._spec, None)

    def clear(self) -> None:
        """Not readable until the next time."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        """Later calls of arm do nothing."""
        if self._open:
            self._open = False
            os.close(self.fd)


def descriptors() -> int:
    """How many the table is to have; the process is held to that, so that accept() says so as it always does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > MAX_DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_DESCRIPTORS, hard))
        return MAX_DESCRIPTORS
    return soft

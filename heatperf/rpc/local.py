"""Transport to the embedded engine over its unix socket (engine/server.py), without a thread of its own.

In: calls and casts. Out: what the engine answers. Raised: what the engine raised (rpc/remote.py);
heat.MessagingTimeout when it did not answer in time; heat.EngineLost when it went away with a request it may have
begun;
heat.EngineUnavailable when no engine took the request; Overloaded when too many wait already, here or there.

Correlation is pure code on the core that rpc/correlation.py has for every transport: requests and bytes in, frames and
outcomes out. Link ties one to a connection; LocalTransport
connects again when the engine comes back. Everything runs on the worker's loop thread. A request is sent a second time
only if the engine provably has not begun it: its frame was never handed to the kernel whole, or the engine said so.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from heatperf.context import RequestContext
from heatperf.engine.frames import PROTOCOL, Frames, FrameTooLarge, MalformedFrame, encode_frame
from heatperf.errors import Overloaded, heat
from heatperf.rpc import correlation, nesting, remote
from heatperf.rpc.correlation import Lost, NotDelivered
from heatperf.socketfile import check_path

LOG = logging.getLogger(__name__)

RECEIVE = 262_144


class Request(NamedTuple):
    """What goes on the wire. ``deadline`` is a moment of the monotonic clock."""

    context: dict[str, Any]
    method: str
    arguments: dict[str, Any]
    version: str
    deadline: float
    cast: bool


class Outcome(NamedTuple):
    """How a request ended: ``error`` is None where ``result`` counts."""

    result: Any = None
    error: Exception | None = None


class _Pending(correlation.Pending):
    """One request between ``begin`` and its end."""

    __slots__ = ("frame",)

    def __init__(self, token: Any, method: str, deadline: float, frame: bytes) -> None:
        super().__init__(token, method, deadline)
        self.frame = frame


class Correlation:
    """Requests of one connection and their answers. Pure: no I/O, no clock, no waiting.

    A token is whatever the caller wants to get back with the outcome.
    """

    def __init__(self) -> None:
        self._frames = Frames()
        self._pending: correlation.UnderWay[_Pending] = correlation.UnderWay()
        self._queue: deque[int] = deque()
        self._last = 0
        self._given: _Pending | None = None
        #: The engine has taken the connection. Before that, nothing should be sent.
        self.greeted = False
        #: The engine has said that it stops: it begins nothing more.
        self.leaving = False

    def __len__(self) -> int:
        """How many requests have no outcome yet."""
        return len(self._pending)

    def begin(self, request: Request, token: Any, now: float) -> int:
        """Queue a request.

        :returns: its number, for ``give_up``
        :raises heat.RequestLimitExceeded: larger than a frame may be
        :raises TypeError: an argument has no form in JSON
        """
        number = self._last + 1
        message = {
            "id": number,
            "method": request.method,
            "version": request.version,
            "ttl": request.deadline - now,
            "cast": request.cast,
            "context": request.context,
            "args": request.arguments,
        }
        try:
            frame = encode_frame(message)
        except FrameTooLarge as error:
            raise heat.RequestLimitExceeded(message=str(error)) from None
        self._last = number
        self._pending.begin(number, _Pending(token, request.method, request.deadline, frame))
        self._queue.append(number)
        return number

    def next_frame(self, now: float) -> bytes | None:
        """The next frame to write, None if there is none. Asking for the next says that the last one went out whole."""
        self._given = None
        while self._queue:
            number = self._queue.popleft()
            pending = self._pending.get(number)
            if pending is not None and pending.deadline > now:
                # While it is being written it may be whole already, as far as is known here.
                pending.left = True
                self._given = pending
                frame, pending.frame = pending.frame, b""
                return frame
        return None

    def feed(self, data: bytes) -> Iterator[tuple[Any, Outcome]]:
        """Take bytes as they came; iterate over (token, outcome) of the requests that they end.

        :raises MalformedFrame: while iterating, after the outcomes before it
        """
        for message in self._frames.feed(data):
            if message["id"] == 0:
                self._notice(message)
                continue
            pending = self._pending.end(message["id"])
            if pending is not None:  # else it was given up
                yield pending.token, self._outcome(message)

    def _notice(self, message: dict[str, Any]) -> None:
        if message.get("stopping"):
            self.leaving = True
        elif message.get("hello") == PROTOCOL:
            self.greeted = True
        else:
            raise MalformedFrame("an engine of another version")

    @staticmethod
    def _outcome(message: dict[str, Any]) -> Outcome:
        if "result" in message:
            return Outcome(message["result"])
        failure = message.get("failure")
        if isinstance(failure, dict):
            return Outcome(error=remote.rebuild(failure))
        if message.get("refused") == "busy":
            return Outcome(error=Overloaded("The queue of the engine is full", retry_after=1))
        if message.get("refused") == "stopping":
            return Outcome(error=NotDelivered())
        raise MalformedFrame("an answer that says nothing")

    def give_up(self, number: int, method: str) -> Exception:
        """Forget a request whose caller waits no longer; a late answer is dropped.

        :returns: what the caller is told if it was its deadline that ended the wait
        """
        pending = self._pending.end(number)
        if pending is None:  # the answer came in the moment of the deadline
            return heat.MessagingTimeout(f"Timed out waiting for a reply to {method}")
        error = pending.overdue()
        return correlation.told(error, method) if isinstance(error, NotDelivered) else error

    def lost(self, unsent: bool = False) -> Iterator[tuple[Any, Outcome]]:
        """The connection is gone: iterate over (token, outcome) of every request without an answer.

        :param unsent: the frame given out last provably did not go out whole
        """
        if unsent and self._given is not None:
            self._given.left = False
        self._queue.clear()
        for pending, error in self._pending.cut():
            if isinstance(error, Lost):
                text = f"The engine went away before it answered {pending.method}, which may or may not be carried out"
                yield pending.token, Outcome(error=heat.EngineLost(text))
            else:
                yield pending.token, Outcome(error=error)


class Link:
    """One connection to the engine: a greenlet that reads, and one that writes while there is something to write.

    :param streams: to receive and to send, of ``loop.connect_unix``
    """

    #: Seconds without the engine taking a byte after which the connection counts as dead.
    SEND_TIMEOUT = 30.0

    def __init__(self, loop: Any, streams: tuple[Any, Any]) -> None:
        self._loop = loop
        self._receiving, self._sending = streams
        self._sending.send_timeout = self.SEND_TIMEOUT
        self._core = Correlation()
        self._writing = False
        self._closing = False
        self._open = True
        self._greeting = loop.waiter()
        #: Why the connection ended; None while it has not
        self.ended_by: Exception | None = None
        loop.spawn_apart(self._read)

    @property
    def usable(self) -> bool:
        """Whether new requests may be sent over it."""
        return self._open and not self._closing and self._core.greeted and not self._core.leaving

    def settle(self, seconds: float) -> bool:
        """Park until the engine has taken the connection, to be called once; whether it is usable now."""
        with contextlib.suppress(TimeoutError):
            self._greeting.wait(seconds)
        return self.usable

    def exchange(self, request: Request) -> Any:
        """Send a request and park until its outcome.

        :raises NotDelivered: the engine has not begun it
        :raises Exception: see the module's text
        """
        waiter = self._loop.waiter()
        now = time.monotonic()
        number = self._core.begin(request, waiter, now)
        if not self._writing:
            self._writing = True
            self._loop.spawn_apart(self._write)
        try:
            outcome: Outcome = waiter.wait(max(0.0, request.deadline - now))
        except TimeoutError:
            LOG.error("The engine did not answer %s in time", request.method)
            raise self._core.give_up(number, request.method) from None
        except BaseException:  # this greenlet is being killed
            self._core.give_up(number, request.method)
            raise
        finally:
            self._close_if_done()
        if outcome.error is not None:
            raise outcome.error
        return outcome.result

    def close(self) -> None:
        """Hang up. The reading greenlet does it, as soon as it gets to run."""
        self._closing = True
        self._receiving.interrupt()

    def _close_if_done(self) -> None:
        # An engine that stops waits for its workers to hang up.
        if self._core.leaving and not len(self._core):
            self.close()

    def _write(self) -> None:
        try:
            while self._open and (frame := self._core.next_frame(time.monotonic())) is not None:
                self._sending.send_all(frame)
        except OSError as error:  # TimeoutError is one
            self._end(error)
        finally:
            self._writing = False
            if not self._open:
                self._sending.close()

    def _read(self) -> None:
        reason: Exception = EOFError("the engine closed it")
        try:
            while self._open and not self._closing and (data := self._receiving.recv(RECEIVE, wait_first=True)):
                for waiter, outcome in self._core.feed(data):
                    waiter.wake(outcome)
                if self._core.greeted:
                    self._greeting.wake()
                self._close_if_done()
        except Exception as error:  # noqa: BLE001 - also what the loop raises for interrupt(): this link ends
            reason = error
        finally:
            self._end(reason)
            self._receiving.close()

    def _end(self, reason: Exception) -> None:
        if not self._open:
            return
        self._open = False
        self.ended_by = reason
        self._greeting.wake()
        # Before the greeting, whoever waits for this link tells.
        ordinary = self._closing or not self._core.greeted or isinstance(reason, (OSError, EOFError))
        if len(self._core) or not ordinary:
            LOG.error("The connection to the engine ended with %d requests under way: %r", len(self._core), reason)
        # From here on the engine cannot get the rest of a frame that is being written. A writer parked in send_all
        # wakes with an error and closes its stream itself.
        self._sending.shutdown_write()
        if not self._writing:
            self._sending.close()
        self._receiving.interrupt()
        # While there is a writer, the last frame given out is not out whole: it neither returned nor asked for more.
        for waiter, outcome in self._core.lost(unsent=self._writing):
            waiter.wake(outcome)


class LocalTransport:
    """RPC to the embedded engine. See client.Transport.

    :param socket_path: the engine's socket
    :param timeout: seconds to wait for an answer where the caller names none
    :raises ConfigurationError: no socket can have that path
    """

    #: See jsontext.Encoded.
    takes_encoded = True
    #: Seconds to wait for an engine that is not there: its supervisor is about to start it again.
    CONNECT_DEADLINE = 5.0
    #: Seconds between two attempts to connect.
    RETRY_INTERVAL = 0.05
    #: Calls and casts that one worker has under way at most.
    MOST_UNDER_WAY = 1024

    def __init__(self, socket_path: str, timeout: float) -> None:
        self._path = check_path(socket_path)
        self._timeout = timeout
        self._loop: Any = None
        self._link: Link | None = None
        self._waiting: set[Any] = set()
        self._connecting = False
        self._under_way = 0

    def start(self, loop: Any) -> None:
        """Remember the loop; the first call connects."""
        self._loop = loop

    def stop(self) -> None:
        """Hang up. What is under way ends as if the engine had gone; later calls are refused."""
        self._loop = None
        link, self._link = self._link, None
        if link is not None:
            link.close()
        for waiter in self._waiting:
            waiter.wake(None)

    def call(
        self, context: RequestContext, method: str, arguments: dict[str, Any], version: str, timeout: float | None
    ) -> Any:
        """Send a call and park until its answer.

        :param timeout: seconds in which all of it happens, waiting for the engine to come back included
        """
        seconds = self._timeout if timeout is None else timeout
        return self._deliver(context, method, arguments, version, seconds, cast=False)

    def cast(self, context: RequestContext, method: str, arguments: dict[str, Any], version: str) -> None:
        """Send a message nobody answers; parks until the engine has taken it."""
        self._deliver(context, method, arguments, version, self._timeout, cast=True)

    def _deliver(
        self,
        context: RequestContext,
        method: str,
        arguments: dict[str, Any],
        version: str,
        seconds: float,
        cast: bool,
    ) -> Any:
        nesting.check(arguments)
        request = Request(context.to_rpc(), method, arguments, version, time.monotonic() + seconds, cast)
        if self._under_way >= self.MOST_UNDER_WAY:
            raise Overloaded("Too many requests wait for the engine", retry_after=1)
        reach_by = min(request.deadline, time.monotonic() + self.CONNECT_DEADLINE)
        self._under_way += 1
        try:
            while True:
                try:
                    return self._reach(reach_by).exchange(request)
                except NotDelivered:
                    loop = self._loop
                    if loop is None or time.monotonic() >= reach_by:
                        raise _unavailable() from None
                    loop.sleep(self.RETRY_INTERVAL)  # one who takes connections and ends them shall not keep us busy
        finally:
            self._under_way -= 1

    def _reach(self, by: float) -> Link:
        """The link to the engine; parks until there is one.

        :raises heat.EngineUnavailable: there is none by then
        """
        if self._link is not None and self._link.usable:
            return self._link
        if self._loop is None:
            raise heat.EngineUnavailable("This server is stopping; the request was not sent")
        waiter = self._loop.waiter()
        self._waiting.add(waiter)
        if not self._connecting:
            self._connecting = True
            self._loop.spawn_apart(self._connect)
        try:
            link: Link | None = waiter.wait(max(0.0, by - time.monotonic()))
        except TimeoutError:
            link = None
        finally:
            self._waiting.discard(waiter)
        if link is None:
            raise _unavailable()
        return link

    def _connect(self) -> None:
        """Try until there is a connection or nobody waits for one any more. One greenlet at a time runs this."""
        loop = self._loop
        told = False
        try:
            while self._waiting and self._loop is not None:
                reason: Any = "it does not take the connection"
                try:
                    link = Link(loop, loop.connect_unix(self._path))
                    if link.settle(self.CONNECT_DEADLINE) and self._loop is not None:
                        self._link = link
                        break
                    link.close()
                    reason = repr(link.ended_by) if link.ended_by else reason
                except OSError as error:
                    reason = error.strerror
                if not told:
                    LOG.warning("No engine at %s: %s", self._path, reason)
                    told = True
                loop.sleep(self.RETRY_INTERVAL)
        finally:
            self._connecting = False
        for waiter in self._waiting:
            waiter.wake(self._link)


def _unavailable() -> heat.EngineUnavailable:
    return heat.EngineUnavailable("The engine is not running at the moment; the request did not reach it")

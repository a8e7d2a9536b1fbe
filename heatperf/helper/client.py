"""The worker's end: have a helper do something, and park until it is done.

In: a task's name, its arguments and body. Out: its answer. Raised: what the task refuses with (server.REFUSALS);
Overloaded (503) when too many wait, or no helper takes the request in time; Failed when a task has a mistake, or has
ended two helpers. Everything runs on the worker's loop thread.

A helper that dies takes with it the task that it ran, which it has named before. That one is tried once more, as a
helper may die of something else; the second death counts against it. The rest goes to the next helper. No task that a
helper has begun ever runs in the worker.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from heatperf.errors import HeatperfError, Overloaded, heat
from heatperf.helper.frames import Frames, MalformedFrame, Message, beginning
from heatperf.helper.server import REFUSALS
from heatperf.socketfile import check_path

LOG = logging.getLogger(__name__)

RECEIVE = 262_144


class Failed(HeatperfError):
    """A task could not be carried out."""


class _Died(Exception):
    """The helper is gone. ``begun``: while it ran this task."""

    def __init__(self, begun: bool) -> None:
        super().__init__()
        self.begun = begun


class Answer(NamedTuple):
    """What a task returns."""

    head: dict[str, Any]
    body: bytes


class _Pending:
    """One request between its sending and its end. It has no repr of its own: requests hold secrets."""

    __slots__ = ("begun", "waiter")

    def __init__(self, waiter: Any) -> None:
        self.waiter = waiter
        self.begun = False


class Link:
    """One connection to a helper: a greenlet that reads, and one that writes while there is something to write.

    :param streams: to receive and to send, of ``loop.connect_unix``
    """

    #: Seconds without the helper taking a byte after which it counts as dead. It reads between two tasks.
    SEND_TIMEOUT = 60.0

    def __init__(self, loop: Any, streams: tuple[Any, Any]) -> None:
        self._loop = loop
        self._receiving, self._sending = streams
        self._sending.send_timeout = self.SEND_TIMEOUT
        self._frames = Frames()
        self._pending: dict[int, _Pending] = {}
        self._queue: deque[tuple[int, bytes, bytes]] = deque()
        self._last = 0
        self._writing = False
        #: Whether requests may be sent over it
        self.open = True
        loop.spawn_apart(self._read)

    def __len__(self) -> int:
        """How many requests have no outcome yet."""
        return len(self._pending)

    def exchange(self, task: str, arguments: dict[str, Any], body: bytes, seconds: float) -> Message:
        """Send a request and park until its outcome.

        :raises _Died: the helper is gone
        :raises TimeoutError: there was none in time
        """
        self._last += 1
        number = self._last
        pending = self._pending[number] = _Pending(self._loop.waiter())
        # The same clock on both ends (clock_gettime(2), CLOCK_MONOTONIC), so waiting in the socket counts, too.
        head = {"id": number, "task": task, "until": time.monotonic() + seconds, "arguments": arguments}
        self._queue.append((number, beginning(head, len(body)), body))
        if not self._writing:
            self._writing = True
            self._loop.spawn_apart(self._write)
        try:
            outcome: Message | None = pending.waiter.wait(seconds)
        finally:
            self._pending.pop(number, None)
        if outcome is None:
            raise _Died(pending.begun)
        return outcome

    def close(self) -> None:
        """Hang up. The reading greenlet does it, as soon as it gets to run."""
        self._receiving.interrupt()

    def _write(self) -> None:
        try:
            while self.open and self._queue:
                number, head, body = self._queue.popleft()
                if number in self._pending:  # else nobody waits for it any more
                    self._sending.send_all(head)
                    self._sending.send_all(body)
        except OSError:  # TimeoutError is one
            self._end()
        finally:
            self._writing = False
            if not self.open:
                self._sending.close()

    def _read(self) -> None:
        try:
            while self.open and (data := self._receiving.recv(RECEIVE, wait_first=True)):
                for message in self._frames.feed(data):
                    pending = self._pending.get(message.head["id"])
                    if pending is None:
                        continue
                    if "begun" in message.head:
                        pending.begun = True
                    else:
                        pending.waiter.wake(message)
        except MalformedFrame:
            LOG.exception("A helper cannot be understood")
        except Exception as error:  # noqa: BLE001 - also what the loop raises for interrupt(): this link ends
            LOG.debug("The connection to a helper ended: %r", error)
        finally:
            self._end()
            self._receiving.close()

    def _end(self) -> None:
        if not self.open:
            return
        self.open = False
        self._queue.clear()
        self._sending.shutdown_write()
        if not self._writing:
            self._sending.close()
        self._receiving.interrupt()
        for pending in list(self._pending.values()):
            pending.waiter.wake(None)


class Helpers:
    """The helpers of this host, as one worker uses them: one connection to each, made when it is first needed.

    :param paths: of their sockets
    :raises ConfigurationError: no socket can have one of these paths
    """

    #: Seconds to wait for a helper where there is none: the supervisor is about to start one.
    CONNECT_DEADLINE = 5.0
    RETRY_INTERVAL = 0.05
    #: Requests that one worker has under way at most; each holds a body in memory.
    MOST_UNDER_WAY = 128
    #: Bytes that they have together; a single one may have more.
    MOST_BYTES = 64 * 1024 * 1024
    #: Helpers that one task may end.
    MOST_DEATHS = 2

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = [check_path(path, "helper") for path in paths]
        self._links: dict[str, Link] = {}
        self._loop: Any = None
        self._under_way = self._bytes = 0

    def start(self, loop: Any) -> None:
        """Remember the loop; the first request connects. Called in the worker."""
        self._loop = loop
        # So that the workers of a host do not all begin with the same one.
        first = os.getpid() % len(self._paths)
        self._paths = self._paths[first:] + self._paths[:first]

    def stop(self) -> None:
        """Hang up; later requests are refused."""
        self._loop = None
        links, self._links = self._links, {}
        for link in links.values():
            link.close()

    def run(self, task: str, arguments: dict[str, Any], body: bytes, seconds: float) -> Answer:
        """Have a task done; parks.

        :param arguments: JSON
        :param seconds: in which all of it happens, waiting for a helper included
        :raises Exception: see the module's text
        """
        size = len(body)
        if self._under_way >= self.MOST_UNDER_WAY or (self._bytes and self._bytes + size > self.MOST_BYTES):
            raise Overloaded("Too many requests wait for a helper process", retry_after=1)
        end = time.monotonic() + seconds
        deaths = 0
        self._under_way += 1
        self._bytes += size
        try:
            while True:
                link = self._reach(min(end, time.monotonic() + self.CONNECT_DEADLINE))
                try:
                    message = link.exchange(task, arguments, body, max(0.0, end - time.monotonic()))
                except _Died as died:
                    deaths += died.begun
                    if deaths >= self.MOST_DEATHS:
                        LOG.error("Task %s has ended %d helper processes; it is not tried again", task, deaths)
                        raise Failed("What the request holds ends the process that reads it") from None
                except TimeoutError:
                    raise Overloaded("The helper processes are too busy", retry_after=5) from None
                else:
                    return _outcome(task, message)
        finally:
            self._under_way -= 1
            self._bytes -= size

    def _reach(self, by: float) -> Link:
        """The link that has least to do; parks until there is one.

        :raises Overloaded: there is none by then
        """
        while True:
            loop = self._loop
            if loop is None:
                raise Overloaded("This server is stopping")
            found: Link | None = None
            for path in self._paths:
                link = self._link(loop, path)
                if link is not None and (found is None or len(link) < len(found)):
                    found = link
            if found is not None:
                return found
            if time.monotonic() >= by:
                raise Overloaded("No helper process is running at the moment", retry_after=1)
            loop.sleep(self.RETRY_INTERVAL)

    def _link(self, loop: Any, path: str) -> Link | None:
        link = self._links.get(path)
        if link is None or not link.open:
            try:
                link = self._links[path] = Link(loop, loop.connect_unix(path))
            except OSError:
                return None
        return link


def _outcome(task: str, message: Message) -> Answer:
    head = message.head
    if "answer" in head:
        return Answer(head["answer"], message.body)
    if "busy" in head:
        raise Overloaded("The queue of the helper processes is full", retry_after=1)
    refused = head.get("refused")
    kind = REFUSALS.get(refused["class"]) if refused else None
    if refused is None or kind is None:
        raise Failed(f"Task {task} failed: {head.get('failed', 'an answer that says nothing')}")
    if issubclass(kind, heat.HeatError):
        raise kind(message=refused["text"])
    raise kind(refused["text"])

"""Native threads for work that blocks: one bounded pool per purpose.

Comes in: a function called from a greenlet of the loop. Goes out: its result, in that greenlet. Raises Overloaded when
the queue is full. All bookkeeping happens on the loop thread (submission by the caller, completion through
call_soon_threadsafe), so it needs no lock that a thread could hold while it waits for the GIL; pool threads touch only
the SimpleQueue. Threads start one by one as work arrives, none before the first, so nothing exists before the fork.
"""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from heatperf.errors import DeadlineExceeded, Overloaded

if TYPE_CHECKING:
    from heatperf.loops.base import Loop, Waiter

LOG = logging.getLogger("heatperf.offload")


class Job:
    """One call on its way to a thread. ``abandoned``: nobody waits any more, so it must not start."""

    __slots__ = ("abandoned", "args", "context", "function", "kwargs", "waiter")

    def __init__(
        self, waiter: Waiter, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.waiter = waiter
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.context = contextvars.copy_context()
        self.abandoned = False

    def run(self) -> tuple[BaseException | None, Any]:
        """Call the function; what it raises is returned, for the caller to raise in its greenlet."""
        if self.abandoned:
            return None, None
        try:
            return None, self.context.run(self.function, *self.args, **self.kwargs)
        except BaseException as error:
            return error, None


class ThreadPool:
    """See base.Pool. Works on any loop: it needs a Waiter and call_soon_threadsafe."""

    def __init__(self, loop: Loop, name: str, threads: int, queue_limit: int) -> None:
        """
        :param name: for thread names and for the message of Overloaded
        :param threads: most calls running at once, at least 1
        :param queue_limit: calls that may wait beyond those
        """
        self.name = name
        self.threads = max(1, threads)
        self.queue_limit = max(0, queue_limit)
        self.outstanding = 0
        self._loop = loop
        self._started: list[threading.Thread] = []
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._stopped = False

    def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return _result(self._submit(function, args, kwargs).waiter.wait())

    def run_within(self, seconds: float, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        job = self._submit(function, args, kwargs)
        try:
            outcome = job.waiter.wait(seconds)
        except TimeoutError:
            job.abandoned = True
            raise DeadlineExceeded(f"A blocking call ({self.name})") from None
        return _result(outcome)

    def _submit(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        if self._stopped or self.outstanding >= self.threads + self.queue_limit:
            raise Overloaded(f"The queue of blocking calls ({self.name}) is full", retry_after=1)
        self.outstanding += 1
        if self.outstanding > len(self._started) and len(self._started) < self.threads:
            self._start_thread()
        job = Job(self._loop.waiter(), function, args, kwargs)
        self._jobs.put(job)
        return job

    def stop(self) -> None:
        self._stopped = True
        for _ in self._started:
            self._jobs.put(None)

    def _start_thread(self) -> None:
        # Daemon: a call that hangs for ever must not keep a drained worker alive.
        name = f"{self.name}-{len(self._started)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        thread.start()
        self._started.append(thread)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome = job.run()
            self._loop.call_soon_threadsafe(self._finish, job.waiter, outcome)
            # An idle thread must not keep the last call's arguments, result or traceback alive.
            del job, outcome

    def _finish(self, waiter: Waiter, outcome: tuple[BaseException | None, Any]) -> None:
        self.outstanding -= 1
        waiter.wake(outcome)


def _result(outcome: tuple[BaseException | None, Any]) -> Any:
    error, result = outcome
    if error is not None:
        raise error
    return result

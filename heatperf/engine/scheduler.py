"""Runs actions that mostly wait: many generators on few threads.

Comes in: generators that yield the seconds after which they want to go on. Goes out: a call of ``done`` with the
exception that ended the action, or None. Raises: nothing. An action with a deadline gets TimedOut thrown into it, a
cancelled one gets what the canceller gave; both at its next step. So a resource that waits for ever costs a heap
entry, not a thread. ``done`` and the generators run on the step threads.
"""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Generator

LOG = logging.getLogger(__name__)

#: Actions whose steps may run at once. Steps are short, but a slow attribute holds its thread.
THREADS = 12

#: Seconds a thread waits before it looks at the queue again.
_LONGEST_WAIT = 3600.0


class TimedOut(BaseException):
    """Thrown into an action whose time is over. No Exception: no action swallows it."""


class Cancelled(BaseException):
    """Thrown into an action that its user cancelled; the text ends in events."""

    def __init__(self) -> None:
        super().__init__("user triggered cancel")


class Task:
    """One running action."""

    def __init__(
        self, steps: Generator[float, None, None], done: Callable[[BaseException | None], None], deadline: float | None
    ) -> None:
        self.steps = steps
        self.done = done
        self.deadline = deadline
        self.thrown: BaseException | None = None
        #: raised with every new place in the queue; an entry with an older number is void
        self.turn = 0
        self.running = False
        self.ended = False


class Scheduler:
    """A heap of tasks by the time they are due, and the threads that step them."""

    def __init__(self, name: str = "engine", threads: int = THREADS) -> None:
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int, int, Task]] = []
        self._order = itertools.count()
        self._tasks: set[Task] = set()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def start(
        self,
        steps: Generator[float, None, None],
        done: Callable[[BaseException | None], None],
        timeout: float | None = None,
        delay: float = 0.0,
    ) -> Task:
        """Run an action.

        :param timeout: seconds from now after which TimedOut is thrown into it
        :param delay: seconds before the first step
        """
        now = time.monotonic()
        task = Task(steps, done, None if timeout is None else now + timeout)
        with self._condition:
            self._tasks.add(task)
            self._push(task, now + delay)
        return task

    def cancel(self, task: Task, thrown: BaseException) -> None:
        """Throw into the action at its next step, which is now unless a step is running."""
        with self._condition:
            if task.ended or task.thrown is not None:
                return
            task.thrown = thrown
            if not task.running:
                self._push(task, time.monotonic())

    def close(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the actions to end, then run no more steps.

        :returns: whether all had ended. What had not is in the store as it stood, to be settled at the next start.
        """
        until = time.monotonic() + timeout
        with self._condition:
            self._condition.wait_for(lambda: not self._tasks, max(0.0, timeout))
            finished = not self._tasks
            self._stopping = True
            self._condition.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                # A step that runs now may write once more; it gets a moment, the store refuses it afterwards.
                thread.join(max(0.2, until - time.monotonic()))
        return finished

    def _push(self, task: Task, when: float) -> None:
        task.turn += 1
        heapq.heappush(self._heap, (when, next(self._order), task.turn, task))
        self._condition.notify()

    def _next(self) -> Task | None:
        """Wait for a task that is due and mark it running; None: stopping."""
        with self._condition:
            while not self._stopping:
                while self._heap and self._heap[0][2] != self._heap[0][3].turn:
                    heapq.heappop(self._heap)
                if not self._heap:
                    self._condition.wait()
                    continue
                delay = self._heap[0][0] - time.monotonic()
                if delay > 0:
                    # Python cannot wait for more than 292 years, and a client may ask for it.
                    self._condition.wait(min(delay, _LONGEST_WAIT))
                    continue
                task = heapq.heappop(self._heap)[3]
                task.running = True
                if self._heap:
                    # This thread was woken for one entry; others may be due too.
                    self._condition.notify()
                return task
        return None

    def _work(self) -> None:
        while (task := self._next()) is not None:
            outcome: BaseException | None = None
            delay: float | None = None
            try:
                delay = self._step(task)
            except BaseException as error:
                outcome = error
            if delay is not None:
                with self._condition:
                    task.running = False
                    when = time.monotonic() + max(0.0, delay)
                    if task.deadline is not None:
                        when = min(when, task.deadline)
                    self._push(task, time.monotonic() if task.thrown else when)
                continue
            self._finish(task, outcome)

    def _finish(self, task: Task, outcome: BaseException | None) -> None:
        try:
            task.done(outcome)
        except Exception:
            LOG.exception("An ended action could not be recorded")
        finally:
            with self._condition:
                task.ended = True
                self._tasks.discard(task)
                self._condition.notify_all()

    @staticmethod
    def _step(task: Task) -> float | None:
        """One step; None: the action is over."""
        try:
            if task.thrown is not None:
                thrown, task.thrown = task.thrown, None
                return task.steps.throw(thrown)
            if task.deadline is not None and time.monotonic() >= task.deadline:
                task.deadline = None
                return task.steps.throw(TimedOut())
            return next(task.steps)
        except StopIteration:
            return None

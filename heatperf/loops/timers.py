"""Timers for a loop whose library has none that are fine enough.

Comes in: what to call and when, and clock readings (time.monotonic). Goes out: what is due, and through ``arm`` the
moment at which to ask next. Raises nothing. Pure; loop thread.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

# Cancelled timers stay in the heap until they are due, or until they are many and the most of it.
MANY_CANCELLED = 100


class Timer:
    """See base.Handle."""

    __slots__ = ("args", "function", "interval", "_timers")

    def __init__(self, timers: Timers, interval: float, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.interval = interval
        self.function: Callable[..., Any] | None = function
        self.args = args
        self._timers: Timers | None = timers

    def cancel(self) -> None:
        self.function = None
        self.args = ()
        timers, self._timers = self._timers, None
        if timers is not None:
            timers.count_cancelled()

    def take(self) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
        """What to call now that it is due, None if it has been cancelled. A timer without interval is over then."""
        if self.function is None:
            return None
        call = self.function, self.args
        if not self.interval:
            self.function = None
            self.args = ()
        return call


class Timers:
    """All timers of one loop."""

    def __init__(self, arm: Callable[[float], None]) -> None:
        """:param arm: is told the moment of the earliest timer whenever that comes to be an earlier one"""
        self._arm = arm
        self._armed = float("inf")
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, interval: float, function: Callable[..., Any], args: tuple[Any, ...] = ()) -> Timer:
        """
        :param when: the moment
        :param interval: seconds from turn to turn, 0 for once
        """
        timer = Timer(self, interval, function, args)
        self._push(when, timer)
        return timer

    def _push(self, when: float, timer: Timer) -> None:
        heapq.heappush(self._heap, (when, next(self._numbers), timer))
        if when < self._armed:
            self._armed = when
            self._arm(when)

    def due(self, now: float) -> list[Timer]:
        """Take what is due, in order, and arm for the rest. Repeated ones stay, and turns they have missed are lost."""
        found = []
        again = []
        heap = self._heap
        while heap and heap[0][0] <= now:
            when, _, timer = heapq.heappop(heap)
            if timer.function is None:
                self._cancelled -= 1
                continue
            found.append(timer)
            if timer.interval:
                following = when + timer.interval
                again.append((following if following > now else now + timer.interval, timer))
            else:
                timer._timers = None
        self._armed = float("inf")
        for when, timer in again:
            heapq.heappush(heap, (when, next(self._numbers), timer))
        if heap:
            self._armed = heap[0][0]
            self._arm(self._armed)
        return found

    def count_cancelled(self) -> None:
        """One of those in the heap has been cancelled."""
        self._cancelled += 1
        if self._cancelled > MANY_CANCELLED and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].function is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

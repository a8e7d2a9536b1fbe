"""When a dead worker's slot may start the next one. Pure; supervisor only.

a worker that lived STABLE seconds or more:  next one at once, history forgotten
one that died younger:                       0, 1, 2, 4 ... MAXIMUM seconds
"""

from __future__ import annotations

STABLE = 10.0
MAXIMUM = 30.0


class Backoff:
    """One per slot."""

    def __init__(self) -> None:
        self._short_lives = 0

    def delay(self, lived: float) -> float:
        """
        :param lived: seconds from the fork of the worker to its death
        :returns: seconds to wait before the next fork
        """
        if lived >= STABLE:
            self._short_lives = 0
            return 0.0
        self._short_lives += 1
        if self._short_lives == 1:
            return 0.0
        return min(MAXIMUM, 2.0 ** min(self._short_lives - 2, 10))

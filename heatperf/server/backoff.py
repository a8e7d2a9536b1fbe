"""When a dead worker's slot may start the next one.

Comes in: lifetimes. Goes out: delays. Raises nothing. Supervisor only.

a worker that lived STABLE seconds or more:  next one at once, history forgotten
one that died younger:                       0, then 1, 2, 4 ... seconds, each a quarter more or less, at most MAXIMUM

The quarter keeps slots that died together, of a broker that went away say, from coming back together every time.
"""

from __future__ import annotations

import random
from collections.abc import Callable

STABLE = 10.0
MAXIMUM = 30.0
JITTER = 0.25
# The largest delay before jitter. Cutting at MAXIMUM after it would put most of the slots on the same second again.
LARGEST = MAXIMUM / (1.0 + JITTER)


class Backoff:
    """One per slot.

    :param chance: gives a number from 0 up to 1, a new one with each call
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._short_lives = 0
        self._chance = chance

    def delay(self, lived: float) -> float:
        """
        :param lived: seconds from the fork of the worker to its death
        :returns: seconds to wait before the next fork, from 0 to MAXIMUM
        """
        if lived >= STABLE:
            self._short_lives = 0
            return 0.0
        self._short_lives += 1
        if self._short_lives == 1:
            return 0.0
        # The exponent is bounded on its own: after a thousand deaths the power would be no float any more.
        nominal = min(LARGEST, 2.0 ** min(self._short_lives - 2, 10))
        return nominal * (1.0 + JITTER * (2.0 * self._chance() - 1.0))

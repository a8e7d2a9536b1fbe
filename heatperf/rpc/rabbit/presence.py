"""Is there an engine? Pure: fed with what the broker says of the queue's consumers, and with the time.

With all engines stopped, the broker still takes messages into their queue, and a client waits a minute for nothing. So
a look at the queue's consumers goes before publishing; an engine that is just being restarted gets a grace, in which
messages wait for it in the queue as they always did.
"""

from __future__ import annotations

#: Seconds for which a look that found an engine is believed. One that found none is not: the first request after an
#: engine has come back shall find it.
FRESH = 1.0
#: Seconds between looks while nobody asks for anything, so that the first request after a quiet hour gets an answer.
IDLE = 5.0
#: The least time between two looks, in seconds. Brokers log each look for a queue that is not there as an error.
APART = 0.1


class Presence:
    """Looks at the engine's queue, remembered.

    :param grace: seconds without an engine in which messages are still published
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._looked = float("-inf")
        self._tried = float("-inf")
        self._absent_since: float | None = None

    def due(self, now: float) -> bool:
        """Whether it is time to look again."""
        if self._absent_since is not None:
            return True
        # Where the broker does not say, because of a permission perhaps, it is not asked for each request.
        return now - max(self._looked, self._tried) > FRESH

    def overdue(self, now: float, waiting: bool) -> bool:
        """Whether it is time to look though no new request asks for it.

        :param waiting: requests are under way: if it is for want of an engine, the grace begins now
        """
        return now - max(self._looked, self._tried) > (FRESH if waiting else IDLE)

    def trying(self, now: float) -> float:
        """A look is about to be taken.

        :returns: seconds to wait before it
        """
        wait = max(self._tried + APART - now, 0.0)
        self._tried = now + wait
        return wait

    def seen(self, consumers: int, now: float) -> None:
        """The broker says how many engines listen."""
        self._looked = now
        if consumers > 0:
            self._absent_since = None
        elif self._absent_since is None:
            self._absent_since = now

    def absent(self, now: float) -> bool:
        """Whether there has been no engine for longer than the grace, as far as the last look tells."""
        return self._absent_since is not None and now - self._absent_since >= self._grace

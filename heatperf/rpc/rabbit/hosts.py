"""Which broker next: the hosts of transport_url in an order of this worker's own, and how long to wait between rounds.

Pure but for the shuffle. In: hosts, what became of each attempt. Out: the next host, the next pause in seconds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

#: The least time between two attempts while somebody waits for the outcome, in seconds.
URGENT_PAUSE = 0.25


@dataclass(frozen=True)
class Host:
    """One broker of a cluster. Its repr shows no password."""

    name: str
    port: int
    user: str
    password: str

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{name}:{self.port}"


@dataclass(frozen=True)
class Pace:
    """How patient oslo.messaging is: rabbit_retry_interval, rabbit_retry_backoff, rabbit_interval_max, and on top
    kombu_reconnect_delay and at most kombu_reconnect_splay. Seconds.
    """

    first: float = 1.0
    step: float = 2.0
    most: float = 30.0
    splay: float = 0.0
    delay: float = 0.0


class Hosts:
    """The order of one connection's attempts.

    :param hosts: at least one
    :param shuffle: start anywhere (kombu_failover_strategy shuffle picks anew each time, round-robin goes on in turn)
    """

    def __init__(self, hosts: Sequence[Host], pace: Pace, shuffle: bool = False) -> None:
        self._hosts = list(hosts)
        # oslo.messaging shuffles once at start under either strategy, so that not all servers sit on the first broker.
        random.shuffle(self._hosts)
        self._shuffle = shuffle
        self._pace = pace
        self._next = 0
        self._failures = 0

    def next(self) -> Host:
        """The host to try now."""
        if self._shuffle:
            return random.choice(self._hosts)
        return self._hosts[self._next % len(self._hosts)]

    def failed(self) -> float:
        """The attempt at ``next`` has failed, or what it gave is lost.

        :returns: seconds to wait before the next attempt; 0 where another host has not been tried yet in this round
        """
        self._next += 1
        self._failures += 1
        rounds, rest = divmod(self._failures, len(self._hosts))
        if rest:
            return 0.0
        pause = min(self._pace.first + (rounds - 1) * self._pace.step, self._pace.most)
        # Workers that lost the same broker at once shall not come back at once.
        return pause * random.uniform(0.75, 1.0) + self._pace.delay + random.uniform(0.0, self._pace.splay)

    def connected(self) -> None:
        """What the last attempt gave was of use. To be said before ``failed``, which then starts anew."""
        self._failures = 0

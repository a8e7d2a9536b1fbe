"""What is tried on a machine, and in which order.

In: the Hardware, the loops that are there. Out: candidates. Raises nothing. Pure.

Trying everything with everything would take minutes on a large machine, so one thing is varied at a time: first the
loop, then the number of workers with the loop that was best, then pinning with both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from heatperf.loops import available
from heatperf.server.hardware import MAX_SYSCTL, Hardware, Tree
from heatperf.server.sizing import bounds_of

STAGES = ("loop", "workers", "pinning")
MIGRATE_REQ = "/proc/sys/net/ipv4/tcp_migrate_req"


@dataclass(frozen=True)
class Candidate:
    """Settings to be tried."""

    loop: str
    workers: int
    pin: bool = False

    def __str__(self) -> str:
        count = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        return f"{self.loop}, {count}{', pinned' if self.pin else ''}"

    def changes(self, default: Candidate) -> int:
        """In how many settings it differs from another."""
        return (self.loop != default.loop) + (self.workers != default.workers) + (self.pin != default.pin)


@dataclass(frozen=True)
class Choices:
    """What may be varied.

    :param default: what serve does unless told otherwise
    :param loops: all to be tried, that of the default among them or not
    :param workers: the same for counts
    :param pin: whether to try pinned workers
    """

    default: Candidate
    loops: tuple[str, ...]
    workers: tuple[int, ...]
    pin: bool

    def stage(self, name: str, best: Candidate) -> Iterator[Candidate]:
        """
        :param name: one of STAGES
        :param best: of what was tried before
        """
        if name == "loop":
            yield from (replace(best, loop=loop) for loop in self.loops if loop != best.loop)
        elif name == "workers":
            yield from (replace(best, workers=count) for count in self.workers if count != best.workers)
        elif self.pin:
            yield replace(best, pin=True)

    @property
    def most(self) -> int:
        """How many candidates there can be, the default included."""
        best = self.default
        return 1 + sum(1 for name in STAGES for _ in self.stage(name, best))


def choices_for(
    machine: Hardware, loop: str, loops: Sequence[str] = (), workers: Sequence[int] = (), pin: bool = True
) -> Choices:
    """
    :param loop: of the default
    :param loops: to try; none: all that are there
    :param workers: counts to try; none: around what auto gives
    """
    bounds = bounds_of(machine)
    auto = max(1, min(bounds.values()))
    default = Candidate(loop, auto)
    return Choices(default, tuple(loops) or available(), tuple(workers) or around(auto, bounds), pin)


def around(auto: int, bounds: dict[str, int]) -> tuple[int, ...]:
    """
    :param bounds: of sizing.bounds_of
    :returns: counts to try, ascending; none that the memory has no room for
    """
    wanted = {auto - 1, auto, auto + 1, bounds["CPUs"]}
    most = max(auto, bounds.get("memory", auto + 1))
    return tuple(sorted(count for count in wanted if 1 <= count <= most))


def reuseport(root: str = "/") -> str:
    """:returns: the sentence about SO_REUSEPORT

    With a listener for each worker, connections in the queue of one that leaves are reset, unless the kernel moves
    them to another (tcp_migrate_req=1, Linux 5.14); without that no reload would be free of errors.
    """
    value = Tree(root).text(MIGRATE_REQ, MAX_SYSCTL)
    if value == "1":
        return (
            f"SO_REUSEPORT: not tried; {MIGRATE_REQ} is 1 and would allow it, but this server has one listener for all"
        )
    return f"SO_REUSEPORT: not tried; {MIGRATE_REQ} is {value or 'not there'}, so a reload would reset connections"

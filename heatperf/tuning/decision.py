"""What follows from measurements. Pure.

In: Measurements. Out: a Recommendation. Raises nothing.

What counts is ``capacity``: answers a second that the server would give if it had the machine for itself and the load
came from elsewhere. Where generator and other processes have had CPUs of their own, it is the rate; where they had to
share the server's, the rate is scaled by what they took:

    capacity = rate * wanted / min(wanted, CPUs - CPUs taken by generator and others)     wanted = min(workers, CPUs)

It is not the rate per CPU used: a server that leaves CPUs idle, because its connections are spread unevenly, say, must
not look better for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from heatperf.tuning.candidates import Candidate

#: What differs by less is the same, however quiet the machine seems.
LEAST_NOISE = 0.03
#: What can only be told apart by more says nothing about the machine.
MOST_NOISE = 0.25
#: Share of the CPUs; where others took more, what they took from whom is a guess that decides.
MOST_OTHERS = 0.25
#: Of a CPU, from which on a process of the generator counts as busy.
BUSY = 0.9


@dataclass(frozen=True)
class Sample:
    """One window of a trial. CPU is in CPUs: seconds of CPU per second."""

    rate: float
    server: float
    generator: float
    busiest: float
    others: float
    median: float  # latency, microseconds
    slow: float  # latency that one of a hundred exceeds, microseconds


@dataclass(frozen=True)
class Measurement:
    """What was seen of one candidate.

    :param cpus: that the server and the generator could have together: allowed ones, or the quota
    :param samples: none where it failed
    :param failure: why it could not be measured
    """

    candidate: Candidate
    cpus: float
    samples: tuple[Sample, ...] = ()
    failure: str = ""

    def _median(self, values: Iterable[float]) -> float:
        found = list(values)
        return median(found) if found else 0.0

    @property
    def rate(self) -> float:
        """Answers a second: the median of the windows, as the others."""
        return self._median(sample.rate for sample in self.samples)

    @property
    def server(self) -> float:
        """CPUs that its workers used."""
        return self._median(sample.server for sample in self.samples)

    @property
    def generator(self) -> float:
        """CPUs that the load took."""
        return self._median(sample.generator for sample in self.samples)

    @property
    def others(self) -> float:
        """CPUs that processes used which have nothing to do with it."""
        return self._median(sample.others for sample in self.samples)

    @property
    def median(self) -> float:
        """Latency, microseconds."""
        return self._median(sample.median for sample in self.samples)

    @property
    def slow(self) -> float:
        """Latency that one of a hundred exceeds, microseconds."""
        return self._median(sample.slow for sample in self.samples)

    @property
    def cost(self) -> float:
        """Microseconds of CPU of the workers for an answer."""
        return self._median(1e6 * sample.server / sample.rate for sample in self.samples if sample.rate)

    @property
    def wanted(self) -> float:
        """CPUs that its workers can use."""
        return min(float(self.candidate.workers), self.cpus)

    @property
    def capacity(self) -> float:
        """Answers a second without anything beside it, see the module's text."""
        return self._median(self._capacities())

    def _capacities(self) -> list[float]:
        wanted = self.wanted
        # The clocks of processes and of CPUs do not tick together: never believe that next to nothing was left.
        left = [max(self.cpus - each.generator - each.others, wanted / 4) for each in self.samples]
        return [each.rate * wanted / min(wanted, part) for each, part in zip(self.samples, left, strict=True)]

    @property
    def spread(self) -> float:
        """Largest distance of two windows, as a share of the capacity."""
        found = self._capacities()
        return (max(found) - min(found)) / self.capacity if self.capacity else 0.0

    @property
    def starved(self) -> bool:
        """Whether the generator was the limit: it had no CPU left while the workers had."""
        busiest = self._median(sample.busiest for sample in self.samples)
        return busiest >= BUSY and self.server < BUSY * min(self.wanted, self.cpus - self.generator - self.others)


@dataclass(frozen=True)
class Recommendation:
    """:param candidate: what to use
    :param gain: over the default, as a share; 0 where it is the default
    :param noise: share below which a difference is none
    :param moved: how far the default was from itself, measured first and last; None where it was measured once only
    :param others: largest share of the CPUs that processes took which have nothing to do with it
    """

    candidate: Candidate
    default: Candidate
    gain: float
    noise: float
    moved: float | None
    others: float = 0.0

    @property
    def unsure(self) -> bool:
        """Whether nothing can be recommended, as the noise is too much or not known; the candidate is the default."""
        return self.moved is None or self.noise > MOST_NOISE or self.others > MOST_OTHERS

    @property
    def values(self) -> dict[tuple[str, str], str]:
        """(group, option) -> value, of what differs from the default."""
        found = {}
        if self.candidate.loop != self.default.loop:
            found["heatperf", "loop"] = self.candidate.loop
        if self.candidate.pin != self.default.pin:
            found["heatperf", "pin_workers"] = "true" if self.candidate.pin else "false"
        if self.candidate.workers != self.default.workers:
            found["heat_api", "workers"] = str(self.candidate.workers)
        return found


def moved(baselines: Sequence[Measurement]) -> float:
    """
    :param baselines: of the same candidate
    :returns: largest distance of two, as a share of their mean
    """
    found = [each.capacity for each in baselines if each.capacity]
    return (max(found) - min(found)) / (sum(found) / len(found)) if found else 0.0


def noise_of(baselines: Sequence[Measurement]) -> float:
    """:returns: share below which a difference is none: what the same candidate differs from itself, over the whole
    time and within it, and never less than LEAST_NOISE
    """
    within = max((each.spread / 2 for each in baselines), default=0.0)
    return max(LEAST_NOISE, moved(baselines), within)


def better(first: Measurement, second: Measurement, noise: float) -> bool:
    """Whether the first answers more than the second, by more than the noise."""
    return first.capacity > second.capacity * (1 + noise)


def leader(measurements: Sequence[Measurement], noise: float) -> Candidate:
    """The best so far, to be varied further. A later one must beat those before it by more than the noise.

    :param measurements: the default first
    """
    best = measurements[0]
    for each in measurements[1:]:
        if better(each, best, noise):
            best = each
    return best.candidate


def recommend(measurements: Sequence[Measurement], default: Candidate) -> Recommendation:
    """
    :param measurements: in any order, the default more than once
    :returns: of the candidates that are not worse than the best one by more than the noise, that which changes least
        and then has the fewest workers; the default, where nothing beats it by more than the noise, or where that
        is more than MOST_NOISE or not known, or others took more than MOST_OTHERS
    """
    baselines = [each for each in measurements if each.candidate == default and each.samples]
    noise = noise_of(baselines)
    movement = moved(baselines) if len(baselines) > 1 else None
    base = sum(each.capacity for each in baselines) / len(baselines) if baselines else 0.0
    tried = [each for each in measurements if each.samples and each.candidate != default]
    winners = [each for each in tried if base and each.capacity > base * (1 + noise)]
    others = max((each.others / each.cpus for each in measurements if each.samples), default=0.0)
    stay = Recommendation(default, default, 0.0, noise, movement, others)
    if not winners or stay.unsure:
        return stay
    most = max(each.capacity for each in winners)
    good = [each for each in winners if each.capacity * (1 + noise) >= most]
    best = min(good, key=lambda each: (each.candidate.changes(default), each.candidate.workers, -each.capacity))
    return Recommendation(best.candidate, default, best.capacity / base - 1, noise, movement, others)

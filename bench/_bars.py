"""The bars: what heatperf is meant to reach, and what was measured. Pure; in: Results, out: a verdict per bar."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from _results import Results, Spread

#: The requests whose median the bars speak of: the whole pipeline, no engine.
PIPELINE = ("notfound", "denied", "options")
REFERENCE, OURS = "uwsgi", "heatperf"


@dataclass(frozen=True)
class Verdict:
    """:param value: None where nothing was measured
    :param detail: what the value is made of
    """

    value: float | None
    detail: str = ""


@dataclass(frozen=True)
class Bar:
    """:param goal: number that the value must reach
    :param at_least: whether more is better
    :param form: format of value and goal, with their unit
    """

    name: str
    goal: float
    form: str
    measured: Callable[[Results], Verdict]
    at_least: bool = True

    def target(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.form.format(self.goal)}"

    def met(self, verdict: Verdict) -> bool | None:
        if verdict.value is None:
            return None
        return verdict.value >= self.goal if self.at_least else verdict.value <= self.goal


def _name(results: Results, workload: str) -> str:
    record = results.workloads.get(workload)
    return str(record["name"]) if record else workload


def _median(results: Results, spreads: dict[str, Spread | None], form: str) -> Verdict:
    found = {key: spread for key, spread in spreads.items() if spread}
    if len(found) < len(spreads):
        return Verdict(None)
    text = ", ".join(
        f"{_name(results, key)} {form.format(one.middle)} ({form.format(one.low)} to {form.format(one.high)})"
        for key, one in found.items()
    )
    return Verdict(statistics.median(one.middle for one in found.values()), text)


def _cpu(*workloads: str) -> Callable[[Results], Verdict]:
    def measured(results: Results) -> Verdict:
        spreads = {
            key: results.ratio(
                "compare", "cpu_us", {"workload": key, "server": REFERENCE}, {"workload": key, "server": OURS}
            )
            for key in workloads
        }
        return _median(results, spreads, "{:.1f}")

    return measured


def _of_bare(*workloads: str) -> Callable[[Results], Verdict]:
    def measured(results: Results) -> Verdict:
        spreads = {key: results.of_bare(key, workload=key, server=OURS) for key in workloads}
        return _median(results, spreads, "{:.0%}")

    return measured


def _memory(results: Results) -> Verdict:
    ours, theirs = results.added_worker(OURS), results.added_worker(REFERENCE)
    if not ours or not theirs:
        return Verdict(None)
    return Verdict(theirs / ours, f"{theirs / 1e6:.1f} MB and {ours / 1e6:.1f} MB")


def _ready(results: Results) -> Verdict:
    found = results.spread("startup", "seconds", server=OURS)
    theirs = results.spread("startup", "seconds", server=REFERENCE)
    if not found:
        return Verdict(None)
    beside = f"; upstream {theirs.middle:.2f} s" if theirs else ""
    return Verdict(found.middle, f"{found.low:.2f} to {found.high:.2f} s{beside}")


def _idle(results: Results) -> Verdict:
    records = results.records("idle")
    if not records:
        return Verdict(None)
    return Verdict(records[0]["bytes_each"] / 1000, f"{records[0]['connections']} connections")


def _router(results: Results) -> Verdict:
    times = results.values("router", "us")
    if not times:
        return Verdict(None)
    return Verdict(statistics.median(times), f"{len(times)} routes, {min(times):.1f} to {max(times):.1f} µs")


BARS = (
    Bar("CPU of upstream per request, divided by ours: 404, 403, OPTIONS", 15, "{:.1f}", _cpu(*PIPELINE)),
    Bar("CPU of upstream per request, divided by ours: version document", 5, "{:.1f}", _cpu("version")),
    Bar("rate of one worker, of the bare loop's: 404, 403, OPTIONS", 0.5, "{:.0%}", _of_bare(*PIPELINE)),
    Bar("rate of one worker, of the bare loop's: version document", 0.7, "{:.0%}", _of_bare("version")),
    Bar("memory that one more worker takes (PSS): upstream's, divided by ours", 3, "{:.1f}", _memory),
    Bar("from start to the first answer, 2 workers", 1.5, "{:.2f} s", _ready, at_least=False),
    Bar("memory of an idle keep-alive connection", 15, "{:.1f} kB", _idle, at_least=False),
    Bar("routing of one request", 3, "{:.1f} µs", _router, at_least=False),
)

"""The bars: what heatperf is meant to reach, and what was measured. Pure; in: Results, out: a verdict per bar."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from _results import Results, Spread

#: The requests whose median the bars speak of: the whole pipeline, no engine.
PIPELINE = ("notfound", "denied", "options")
REFERENCE, OURS = "uwsgi", "heatperf"
#: The client that the bars speak of.
CLIENT = "lean-gevent"


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
    :param stretch: what it would be fine to reach
    :param form: format of value and goal, with their unit
    """

    name: str
    goal: float
    form: str
    measured: Callable[[Results], Verdict]
    at_least: bool = True
    stretch: float | None = None

    def target(self) -> str:
        text = f"{'at least' if self.at_least else 'at most'} {self.form.format(self.goal)}"
        return text if self.stretch is None else f"{text} (stretch {self.form.format(self.stretch)})"

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


def _clients(other: str, **task: Any) -> Callable[[Results], Verdict]:
    def measured(results: Results) -> Verdict:
        ours, theirs = {"client": CLIENT, **task}, {"client": other, **task}
        found = results.ratio("rpc-client", "cpu_us", theirs, ours)
        costs = [results.spread("rpc-client", "cpu_us", **where) for where in (theirs, ours)]
        if not found or not costs[0] or not costs[1]:
            return Verdict(None)
        text = f"{found.low:.1f} to {found.high:.1f}; {costs[0].middle:.0f} and {costs[1].middle:.0f} µs"
        return Verdict(found.middle, text)

    return measured


def _rpc_cpu(phase: str, workload: str) -> Callable[[Results], Verdict]:
    def measured(results: Results) -> Verdict:
        theirs, ours = ({"workload": workload, "server": server} for server in (REFERENCE, OURS))
        found = results.ratio(phase, "cpu_us", theirs, ours)
        costs = [results.spread(phase, "cpu_us", **where) for where in (theirs, ours)]
        if not found or not costs[0] or not costs[1]:
            return Verdict(None)
        text = f"{found.low:.1f} to {found.high:.1f}; {costs[0].middle:.0f} and {costs[1].middle:.0f} µs"
        return Verdict(found.middle, text)

    return measured


def _rpc_rate(workload: str) -> Callable[[Results], Verdict]:
    def measured(results: Results) -> Verdict:
        ours = {"workload": workload, "server": OURS}
        found = {
            str(server["name"]): ratio
            for key, server in results.servers.items()
            if key != OURS and (ratio := results.ratio("rpc-http", "rate", ours, {"workload": workload, "server": key}))
        }
        if not found:
            return Verdict(None)
        best = min(found, key=lambda name: found[name].middle)
        return Verdict(found[best].middle, f"{found[best].low:.1f} to {found[best].high:.1f}; {best}")

    return measured


def _of(phase: str, field: str, below: str | None = None) -> Callable[[Results], Verdict]:
    def measured(results: Results) -> Verdict:
        if below is None:
            found = results.spread(phase, field, server=OURS)
        else:
            found = results.quotient(phase, field, below, server=OURS)
        return Verdict(found.middle, f"{found.low:.2f} to {found.high:.2f}") if found else Verdict(None)

    return measured


def _connections(results: Results) -> Verdict:
    values = results.values("rpc-flight", "connections", server=OURS)
    theirs = [record["connections"] for record in results.records("rpc-flight") if record["server"] != OURS]
    return (
        Verdict(max(values), f"upstream {min(theirs)} to {max(theirs)}" if theirs else "") if values else Verdict(None)
    )


_SMALL = {"payload": "small", "concurrency": 32}
_RPC = (
    Bar("RPC client, CPU per call, fast responder, 32 at once: oslo.messaging's with threads, divided by ours", 12,
        "{:.1f}", _clients("stock-threads", what="call", server="fast", **_SMALL), stretch=15),
    Bar("the same per confirmed cast", 12, "{:.1f}",
        _clients("stock-threads", what="cast", server="fast", **_SMALL), stretch=15),
    Bar("the same per call of a stock server", 5, "{:.1f}",
        _clients("stock-threads", what="call", server="stock", **_SMALL), stretch=6),
    Bar("RPC client, CPU per create_stack of 55 kB: Heat's client with its serializer, divided by ours", 25, "{:.1f}",
        _clients("heat", what="call", server="fast", payload="big", concurrency=32), stretch=35),
    Bar("API, CPU per stack list of 1, fast responder: upstream's, divided by ours", 25, "{:.1f}",
        _rpc_cpu("rpc-http", "rpc-list-1")),
    Bar("API, stack lists of 1 per second: ours, divided by upstream's in its best configuration", 12, "{:.1f}",
        _rpc_rate("rpc-list-1")),
    Bar("p99 of a stack list of 1 at half of capacity", 10, "{:.1f} ms", _of("rpc-latency", "p99_ms"), at_least=False),
    Bar("API, CPU per stack list of 1, stock heat-engine: upstream's, divided by ours", 12, "{:.1f}",
        _rpc_cpu("rpc-engine", "engine-list-1")),
    Bar("CPU of a stack list of 10 000, divided by orjson's alone", 1.7, "{:.2f}",
        _of("rpc-lists", "cpu_us", "floor_us"), at_least=False),
    Bar("p99 of others during lists of 10 000, divided by p99 without", 3, "{:.1f}",
        _of("rpc-lists", "busy_p99_ms", "idle_p99_ms"), at_least=False),
    Bar("500 calls of 1 s each in one worker", 1.5, "{:.2f} s", _of("rpc-flight", "seconds"), at_least=False),
    Bar("connections of a worker to the broker", 2, "{:.0f}", _connections, at_least=False),
)  # fmt: skip

BARS = (
    Bar("CPU of upstream per request, divided by ours: 404, 403, OPTIONS", 15, "{:.1f}", _cpu(*PIPELINE)),
    Bar("CPU of upstream per request, divided by ours: version document", 5, "{:.1f}", _cpu("version")),
    Bar("rate of one worker, of the bare loop's: 404, 403, OPTIONS", 0.5, "{:.0%}", _of_bare(*PIPELINE)),
    Bar("rate of one worker, of the bare loop's: version document", 0.7, "{:.0%}", _of_bare("version")),
    Bar("memory that one more worker takes (PSS): upstream's, divided by ours", 3, "{:.1f}", _memory),
    Bar("from start to the first answer, 2 workers", 1.5, "{:.2f} s", _ready, at_least=False),
    Bar("memory of an idle keep-alive connection", 15, "{:.1f} kB", _idle, at_least=False),
    Bar("routing of one request", 3, "{:.1f} µs", _router, at_least=False),
    *_RPC,
)

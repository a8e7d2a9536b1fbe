"""The results file: written by _compare.py, read by _report.py and _plots.py. Standard library only.

One JSON object: ``run`` (when, how, at which commit), ``machine``, ``versions``, ``servers`` and ``workloads`` (what
they were), and a list of records per phase of _measure.py. A record of load holds what _load.drive returns, and

compare      workload, server, round
ceiling      workload, server (bare, bare-log, heatperf), round; of bare also beside, the workload or server that was
             measured right after it
loops        workload, server (plain, bare, heatperf), loop, round
workers      server, workers, round; or server, workers, pss_total and pss_workers, in bytes
connections  server, connections, round
startup      server, round, seconds
idle         server, connections, bytes_each
router       route, us; or error
rpc-client   client, server (fast, stock), what (call, cast), payload (small, big), concurrency, round, rate, cpu_us,
             and broker_us and server_us, the CPU that these took for a message
rpc-http     as compare; also engine_us and broker_us
rpc-engine   as rpc-http
rpc-latency  server, round, capacity (requests per second), and what _load.Paced returns
rpc-lists    server, round, cpu_us, floor_us, idle_p99_ms, busy_p99_ms, idle_p50_ms, busy_p50_ms
rpc-flight   server, round, calls, seconds, connections

A phase that was left out is not there.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

SCHEMA = 1
Record = dict[str, Any]


class Spread(NamedTuple):
    """A median, and what it lay between."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


class Results:
    """:param data: the object in the file"""

    def __init__(self, data: dict[str, Any]) -> None:
        if data.get("schema") != SCHEMA:
            raise ValueError(f"results of schema {data.get('schema')!r}; this program reads {SCHEMA}")
        self.data = data
        self.servers: dict[str, Record] = {server["key"]: server for server in data["servers"]}
        self.workloads: dict[str, Record] = {workload["key"]: workload for workload in data["workloads"]}

    @classmethod
    def read(cls, path: Path) -> "Results":
        return cls(json.loads(path.read_text()))

    def workloads_of(self, phase: str) -> list[Record]:
        """What a phase has driven."""
        return [each for each in self.workloads.values() if each.get("phase", "compare") == phase]

    def records(self, phase: str, **where: Any) -> list[Record]:
        """Of a phase, those whose fields have these values; in the order of measurement."""
        found = self.data.get(phase, [])
        return [record for record in found if all(record.get(name) == value for name, value in where.items())]

    def values(self, phase: str, field: str, **where: Any) -> list[float]:
        """One field of those records that have it, a value per round."""
        return [record[field] for record in self.records(phase, **where) if field in record]

    def spread(self, phase: str, field: str, **where: Any) -> Spread | None:
        """None if there is no such record."""
        values = self.values(phase, field, **where)
        return Spread.of(values) if values else None

    def ratio(self, phase: str, field: str, above: Record, below: Record) -> Spread | None:
        """How many times ``above`` is ``below``, round by round.

        :param above: fields that choose the records above the line
        """
        upper, lower = self.values(phase, field, **above), self.values(phase, field, **below)
        pairs = [a / b for a, b in zip(upper, lower, strict=True) if b] if len(upper) == len(lower) else []
        return Spread.of(pairs) if pairs else None

    def quotient(self, phase: str, above: str, below: str, **where: Any) -> Spread | None:
        """One field divided by another, record by record."""
        values = [record[above] / record[below] for record in self.records(phase, **where) if record.get(below)]
        return Spread.of(values) if values else None

    def of_bare(self, beside: str, **where: Any) -> Spread | None:
        """The share of the bare loop's rate, measured right before it."""
        return self.ratio("ceiling", "rate", where, {"server": "bare", "beside": beside})

    def added_worker(self, server: str) -> float | None:
        """Bytes that the largest measured number of workers takes beyond the smallest, per worker."""
        totals = {
            record["workers"]: record["pss_total"]
            for record in self.records("workers", server=server)
            if "pss_total" in record
        }
        if len(totals) < 2:
            return None
        fewest, most = min(totals), max(totals)
        return float(totals[most] - totals[fewest]) / (most - fewest)


def write(path: Path, data: dict[str, Any]) -> None:
    """One record per line, so that a difference can be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = []
    for name, value in data.items():
        if isinstance(value, list) and value:
            lines = ",\n  ".join(json.dumps(record) for record in value)
            parts.append(f" {json.dumps(name)}: [\n  {lines}\n ]")
        else:
            parts.append(f" {json.dumps(name)}: {json.dumps(value)}")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")

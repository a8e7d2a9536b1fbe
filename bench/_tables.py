"""Numbers and tables as benchmarks.md has them. Pure; standard library only."""

from collections.abc import Callable, Iterable, Sequence

from _bars import OURS, REFERENCE
from _results import Record, Results, Spread


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; the first column to the left, numbers to the right."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(found: Spread | None, unit: Callable[[float], str] = number) -> str:
    """Median, and what it lay between."""
    return f"{unit(found.middle)} ({unit(found.low)} to {unit(found.high)})" if found else "-"


def middle(found: Spread | None) -> str:
    return number(found.middle) if found else "-"


def described(workloads: Iterable[Record]) -> str:
    """What was sent, and why."""
    rows = [
        (each["name"], f"`{each['method']} {each['path']}`", str(each["status"]), each["why"]) for each in workloads
    ]
    return table(("workload", "request", "answer", "what it shows"), rows).replace("---:", "---")


def contest(results: Results, phase: str) -> str:
    """One row per workload and server."""
    rows = []
    for workload in results.workloads_of(phase):
        for server in results.servers.values():
            where = {"workload": workload["key"], "server": server["key"]}
            ours = {"workload": workload["key"], "server": OURS}
            ratio = results.ratio(phase, "cpu_us", where, ours) if server["key"] != OURS else None
            rate = results.ratio(phase, "rate", ours, where) if server["key"] != OURS else None
            found = {name: results.spread(phase, name, **where) for name in ("cpu_us", "rate", "p50_ms", "p99_ms")}
            if not found["rate"]:
                continue
            rows.append(
                (
                    workload["name"] if server["key"] == REFERENCE else "",
                    server["name"],
                    middle(found["cpu_us"]),
                    spread(ratio) if ratio else "1",
                    middle(found["rate"]),
                    spread(rate) if rate else "1",
                    middle(found["p50_ms"]),
                    middle(found["p99_ms"]),
                )
            )
    return table(
        ("workload", "server", "CPU µs/req", "CPU, times ours", "req/s", "ours, times this", "p50 ms", "p99 ms"), rows
    )

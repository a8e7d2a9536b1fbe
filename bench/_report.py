"""From bench/results/latest.json to the tables in benchmarks.md and the plots. ``make bench-report``

benchmarks.md is written by hand but for what stands between ``<!-- NAME: made by bench/_report.py -->`` and
``<!-- end -->``. Measures nothing, so texts and plots can be improved at any time. Standard library only; the plots are
drawn by _plots.py in an environment of their own.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from _bars import BARS, OURS, REFERENCE
from _results import Record, Results, Spread

ROOT = Path(__file__).resolve().parents[1]
TEXT = ROOT / "benchmarks.md"
RESULTS = ROOT / "bench" / "results" / "latest.json"
PAINTER = ROOT / ".peers" / "bench" / "bin" / "python"
_SECTION = re.compile(r"(<!-- (\w+): made by bench/_report\.py -->\n).*?(<!-- end -->)", re.S)


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


def conditions(results: Results) -> str:
    """Machine, versions, command."""
    run, machine, versions = (results.data[name] for name in ("run", "machine", "versions"))
    plan = run["plan"]
    libraries = {
        name: ", ".join(f"{each} {version}" for each, version in versions[name].items())
        for name in ("upstream", "heatperf")
    }
    state = f"{run['commit'] or 'unknown'}{', with changes not committed' if run['modified'] else ''}"
    lines = [
        f"* `{run['command']}`, {run['date']}, commit {state}, load average before it {run['load_average']}",
        f"* {machine['cpus']} CPUs ({machine['cpu']}), {machine['memory_gib']} GiB, {machine['system']}, Linux"
        f" {machine['kernel']}, Python {machine['python']}, wrk {versions['wrk']}",
        f"* upstream: {libraries['upstream']}",
        f"* heatperf: {libraries['heatperf']}",
        f"* {plan['rounds']} rounds of {plan['seconds']} s per workload and server, {plan['connections']} connections,"
        f" {plan['workers']} workers; sweeps: {plan['sweep_rounds']} of {plan['sweep_seconds']} s",
    ]
    if run["partial"]:
        lines.insert(0, "* **A short run, to see that everything works. Its numbers are no evidence.**")
    return "\n".join(lines)


def bars(results: Results, measured_only: bool = False) -> str:
    """Targets, values, verdicts."""
    rows = []
    for bar in BARS:
        verdict = bar.measured(results)
        if measured_only and verdict.value is None:
            continue
        said = {True: "met", False: "**not met**", None: "not measured"}[bar.met(verdict)]
        value = "-" if verdict.value is None else bar.form.format(verdict.value)
        rows.append((bar.name, bar.target(), value, said, verdict.detail or "-"))
    return table(("bar", "target", "measured", "", "of which"), rows)


def servers(results: Results) -> str:
    return "\n".join(f"* **{server['name']}**: {server['how']}" for server in results.servers.values())


def workloads(results: Results) -> str:
    rows = [
        (each["name"], f"`{each['method']} {each['path']}`", str(each["status"]), each["why"])
        for each in results.workloads_of("compare")
    ]
    return table(("workload", "request", "answer", "what it shows"), rows).replace("---:", "---")


def compare(results: Results) -> str:
    """One row per workload and server."""
    rows = []
    for workload in results.workloads_of("compare"):
        for server in results.servers.values():
            where = {"workload": workload["key"], "server": server["key"]}
            ours = {"workload": workload["key"], "server": OURS}
            ratio = results.ratio("compare", "cpu_us", where, ours) if server["key"] != OURS else None
            rate = results.ratio("compare", "rate", ours, where) if server["key"] != OURS else None
            found = {name: results.spread("compare", name, **where) for name in ("cpu_us", "rate", "p50_ms", "p99_ms")}
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


def ceiling(results: Results) -> str:
    """The bare loop, and what the pipeline leaves of it."""
    rows = []
    keys = dict.fromkeys(record["workload"] for record in results.records("ceiling", server=OURS))
    asked: list[tuple[str, str, Record]] = [
        ("bare loop, no access log", "", {"server": "bare"}),
        ("bare loop, access log on", "bare-log", {"server": "bare-log"}),
        *((f"heatperf, {_shown(results, key)}", key, {"server": OURS, "workload": key}) for key in keys),
    ]
    for name, beside, where in asked:
        rate, cpu = (results.spread("ceiling", field, **where) for field in ("rate", "cpu_us"))
        share = spread(results.of_bare(beside, **where), "{:.0%}".format) if beside else "100%"
        rows.append((name, spread(rate), middle(cpu), share))
    return table(("one worker on one CPU", "req/s", "CPU µs/req", "of the bare loop"), rows)


def _shown(results: Results, workload: str) -> str:
    record = results.workloads.get(workload)
    return str(record["name"]) if record else workload


def _sweep(results: Results, phase: str, over: str) -> str:
    counts = sorted({record[over] for record in results.records(phase)})
    rows = [
        (server["name"], *(middle(results.spread(phase, "rate", server=server["key"], **{over: n})) for n in counts))
        for server in results.servers.values()
    ]
    return table((f"req/s with ... {over}", *map(str, counts)), rows)


def workers(results: Results) -> str:
    return _sweep(results, "workers", "workers")


def connections(results: Results) -> str:
    return _sweep(results, "connections", "connections")


def memory(results: Results) -> str:
    """PSS of whole servers, and of one more worker."""
    sized: list[Record] = [record for record in results.records("workers") if "pss_total" in record]
    counts = sorted({record["workers"] for record in sized})
    rows = []
    for server in results.servers.values():
        totals = {record["workers"]: record["pss_total"] for record in sized if record["server"] == server["key"]}
        added = results.added_worker(server["key"])
        cells = [number(totals[count] / 1e6) if count in totals else "-" for count in counts]
        rows.append((server["name"], *cells, number(added / 1e6) if added else "-"))
    return table(("PSS in MB", *(f"{count} workers" for count in counts), "each worker more"), rows)


def startup(results: Results) -> str:
    rows = [
        (server["name"], spread(results.spread("startup", "seconds", server=server["key"]), "{:.2f}".format))
        for server in results.servers.values()
    ]
    return table(("from start to the first answer", "seconds"), rows)


SECTIONS: dict[str, Callable[[Results], str]] = {
    made.__name__: made
    for made in (
        conditions, bars, servers, workloads, compare, ceiling, workers, connections, memory, startup
    )
}  # fmt: skip


def render(text: str, results: Results) -> str:
    """The text with its sections made anew.

    :raises KeyError: it has a section that nobody makes
    """
    return _SECTION.sub(lambda match: f"{match[1]}\n{SECTIONS[match[2]](results)}\n\n{match[3]}", text)


def summary(results: Results) -> str:
    """For a terminal: what was measured."""
    phases = {"compare": compare, "ceiling": ceiling, "workers": memory, "startup": startup}
    parts = [made(results) for phase, made in phases.items() if results.records(phase)]
    return "\n\n".join(("", *parts, bars(results, measured_only=True), ""))


def publish() -> int:
    """Make text and plots of the kept results.

    :returns: exit code
    """
    TEXT.write_text(render(TEXT.read_text(), Results.read(RESULTS)))
    if not PAINTER.exists():
        print(f"benchmarks.md is new, its plots are not: {PAINTER.relative_to(ROOT)} is missing (make bench-report)")
        return 1
    return subprocess.run([PAINTER, ROOT / "bench" / "_plots.py"], check=False).returncode


if __name__ == "__main__":
    sys.exit(publish())

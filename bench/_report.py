"""From bench/results/latest.json to the tables in benchmarks.md and the plots. ``make bench-report``

benchmarks.md is written by hand but for what stands between ``<!-- NAME: made by bench/_report.py -->`` and
``<!-- end -->``. Measures nothing, so texts and plots can be improved at any time. Standard library only; the plots are
drawn by _plots.py in an environment of their own.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import _report_rpc
from _bars import BARS, OURS
from _results import Record, Results
from _tables import contest, described, middle, number, spread, table

ROOT = Path(__file__).resolve().parents[1]
TEXT = ROOT / "benchmarks.md"
RESULTS = ROOT / "bench" / "results" / "latest.json"
PAINTER = ROOT / ".peers" / "bench" / "bin" / "python"
_SECTION = re.compile(r"(<!-- (\w+): made by bench/_report\.py -->\n).*?(<!-- end -->)", re.S)


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
        *_report_rpc.conditions(plan),
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
    return described(results.workloads_of("compare"))


def compare(results: Results) -> str:
    return contest(results, "compare")


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


def loops(results: Results) -> str:
    """Each loop, bare and with the pipeline."""
    found = dict.fromkeys((each["loop"], each["server"], each["workload"]) for each in results.records("loops"))
    names = {"plain": "gevent and httptools, nothing else", "bare": "this server's HTTP layer, two bytes"}
    rows = []
    for loop, server, workload in found:
        where = {"loop": loop, "server": server, "workload": workload}
        rate, cpu = (results.spread("loops", field, **where) for field in ("rate", "cpu_us"))
        share = results.ratio("loops", "rate", where, {"server": "plain", "loop": "gevent"})
        name = names.get(server) or f"heatperf, {_shown(results, workload)}"
        rows.append((loop, name, spread(rate), middle(cpu), spread(share, "{:.0%}".format)))
    return table(("loop", "", "req/s", "CPU µs/req", "of gevent and httptools"), rows)


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
        conditions, bars, servers, workloads, compare, ceiling, loops, workers, connections, memory, startup
    )
} | _report_rpc.SECTIONS  # fmt: skip


def render(text: str, results: Results) -> str:
    """The text with its sections made anew.

    :raises KeyError: it has a section that nobody makes
    """
    return _SECTION.sub(lambda match: f"{match[1]}\n{SECTIONS[match[2]](results)}\n\n{match[3]}", text)


def summary(results: Results) -> str:
    """For a terminal: what was measured."""
    phases = {"compare": compare, "ceiling": ceiling, "loops": loops, "workers": memory, "startup": startup}
    phases |= _report_rpc.PHASES
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

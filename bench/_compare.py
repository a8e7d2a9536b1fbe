"""heatperf beside upstream's heat-api: the same cloud, token and load, in turns. ``make bench``

Starts a private broker and Keystone, the servers of _servers.py on one heat.conf, and drives them with the workloads of
_workloads.py; for the phases rpc-* also stand-ins for engines, and a stock heat-engine (_rpc.py). Prints a summary. A
full run is kept in bench/results/latest.json, and benchmarks.md and its plots are made from that (_report.py); a quick
one, or a part of one, goes to .cache/bench.json and changes nothing else.

A wrong answer anywhere ends the run with exit code 1, and nothing is kept. Needs wrk and the environments of
``make peers``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import _measure
import _report
import _results
import _rpc
import _servers
import _system
import _workloads
from _cloud import Surroundings
from _load import WrongAnswer
from _paths import CACHE, RESULTS, ROOT
from _rig import Plan, Rig
from stack import StackError
from stack.paths import HEAT_PEER, peer

PHASES = {**_measure.PHASES, **_rpc.PHASES}
QUICK = Plan(
    rounds=2,
    seconds=1,
    sweep_rounds=1,
    sweep_seconds=1,
    sweep_workers=(1, 2),
    sweep_connections=(1, 32),
    starts=1,
    idle=2000,
    warm=0,
    client_rounds=1,
    client_seconds=0.3,
    rpc_rounds=1,
    rpc_seconds=1,
    heavy_rounds=1,
    rpc_share=0.2,
    engine_rounds=1,
    engine_rows=300,
    latency_seconds=2,
)
#: Phase -> the workloads it drives, where it drives a choice.
GROUPS = {"compare": _workloads.HTTP, "rpc-http": _workloads.RPC, "rpc-engine": _workloads.ENGINE}
OF_UPSTREAM = ("openstack-heat", "uWSGI", "gunicorn", "keystonemiddleware", "oslo.messaging")
OURS = ("gevent", "httptools", "keystonemiddleware", "oslo.messaging", "orjson")
_VERSIONS = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few and short measurements: does it work at all?")
    parser.add_argument("--rounds", type=int, help="of the comparison and the ceiling")
    parser.add_argument("--seconds", type=int, help="of one measurement of the comparison")
    parser.add_argument("--connections", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--phases", default=",".join(PHASES), help="default: %(default)s")
    parser.add_argument("--servers", default=",".join(kind.key for kind in _servers.COMPARED), help="of the comparison")
    keys = ",".join(workload.key for workload in _workloads.WORKLOADS)
    parser.add_argument("--workloads", default=keys, help="of the comparison; default: %(default)s")
    parser.add_argument("--engine-delay", type=float, help="of the fast responder in rpc-http, in milliseconds")
    parser.add_argument(
        "--publish", action="store_true", help="keep even a quick or partial run, and say that it is one"
    )
    return parser.parse_args()


def plan_of(options: argparse.Namespace) -> Plan:
    """Quick or full, with what was asked for instead."""
    chosen = asdict(QUICK if options.quick else Plan())
    for name in ("rounds", "seconds", "connections", "workers", "engine_delay"):
        if getattr(options, name) is not None:
            chosen[name] = getattr(options, name)
    return Plan(**chosen)


def partial(options: argparse.Namespace) -> bool:
    """Whether less is measured than benchmarks.md shows."""
    plan, full = plan_of(options), Plan()
    less = plan.rounds < full.rounds or plan.seconds < full.seconds or plan.engine_delay != full.engine_delay
    everything = ",".join(PHASES), {kind.key for kind in _servers.COMPARED}, {*_workloads.BY_KEY}
    servers, workloads = set(options.servers.split(",")), set(options.workloads.split(","))
    return less or options.phases != everything[0] or not (everything[1] <= servers and everything[2] <= workloads)


def versions() -> dict[str, Any]:
    """Of what was measured, and with what."""
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout.split()
    return {
        "upstream": json.loads(_output(str(peer(HEAT_PEER, "python")), "-c", _VERSIONS, *OF_UPSTREAM)),
        "heatperf": json.loads(_output(sys.executable, "-c", _VERSIONS, "heatperf", *OURS)),
        "wrk": wrk[1].partition("/")[2] or wrk[1] if len(wrk) > 1 else "",
    }


def _output(*words: str) -> str:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def run_record(options: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    """When and how."""
    words = " ".join(sys.argv[1:])
    try:
        # Results and texts do not change what was measured.
        changes = _output("git", "status", "--porcelain", "--untracked-files=no", "--", "heatperf", "requirements")
        commit, modified = _output("git", "rev-parse", "--short=12", "HEAD"), bool(changes)
    except (OSError, subprocess.CalledProcessError):
        commit, modified = "", False
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": f'make bench ARGS="{words}"' if words else "make bench",
        "partial": partial(options),
        "commit": commit,
        "modified": modified,
        "load_average": round(os.getloadavg()[0], 2),
        "plan": asdict(plan),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start everything, run the phases.

    :returns: the object for the results file
    :raises StackError: a part is missing or does not start
    :raises WrongAnswer: a server did not answer as upstream
    """
    plan = plan_of(options)
    kinds = [_servers.BY_KEY[key] for key in options.servers.split(",")]
    workloads = [_workloads.BY_KEY[key] for key in options.workloads.split(",")]
    data: dict[str, Any] = {"schema": _results.SCHEMA, "run": run_record(options, plan)}
    data |= {"machine": _system.machine(), "versions": versions()}
    data["servers"] = [{"key": kind.key, "name": kind.name, "how": kind.how} for kind in kinds]
    data["workloads"] = [
        {"key": each.key, "phase": phase, "name": each.name, "method": each.method, "path": each.path}
        | {"status": each.status, "why": each.why}
        for phase, group in GROUPS.items()
        for each in group
        if each in workloads
    ]
    phases = options.phases.split(",")
    with tempfile.TemporaryDirectory(prefix="heatperf-bench-") as name, Surroundings(Path(name)) as surroundings:
        rig = Rig(Path(name), surroundings, plan, kinds, workloads)
        if not {*phases} <= {*_rpc.PHASES}:
            rig.learn()
        for phase in phases:
            began = time.monotonic()
            data[phase] = []
            for record in PHASES[phase](rig):
                data[phase].append(record)
                _results.write(CACHE / "bench.json", data)
            print(f"{phase}: {len(data[phase])} records in {time.monotonic() - began:.0f} s", flush=True)
    return data


def main() -> int:
    """:returns: exit code"""
    options = arguments()
    for phase in options.phases.split(","):
        if phase not in PHASES:
            sys.exit(f"--phases {phase}: there are {', '.join(PHASES)}")
    try:
        data = measure(options)
    except (StackError, WrongAnswer) as error:
        print(error, file=sys.stderr)
        return 1
    print(_report.summary(_results.Results(data)))
    if data["run"]["partial"] and not options.publish:
        print(f"kept in {(CACHE / 'bench.json').relative_to(ROOT)}; benchmarks.md is made from full runs")
        return 0
    _results.write(RESULTS, data)
    return _report.publish()


if __name__ == "__main__":
    sys.exit(main())

"""heatperf beside upstream's heat-api under uWSGI: the same cloud, the same load, in turns.

Starts a private broker, Keystone and heat-engine, then for each workload drives the two servers with wrk, A B A B.
Prints, per server, medians over the rounds: CPU per request (user and system time of all processes of the server from
/proc, divided by requests), requests per second, and the ratio of CPU with its spread over the rounds. An answer of
another status than expected ends the run. Needs wrk and the environments of ``make test``.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import requests

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests")]

from stack import Cloud, Heatperf, Keystone, RabbitMQ, UpstreamApi, free_port  # noqa: E402
from stack.api import ApiServer  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Workload:
    """What is asked, with a token or without, and the status of the right answer."""

    name: str
    path: str
    status: int
    authenticated: bool = True


WORKLOADS = (
    Workload("version document", "/", 300, authenticated=False),
    Workload("authenticated 404, no RPC", "/v1/{project}/nosuch", 404),
    Workload("build_info, one RPC", "/v1/{project}/build_info", 200),
    Workload("stack list, one RPC", "/v1/{project}/stacks", 200),
)


@dataclass
class Score:
    """Measurements of one server at one workload, one entry per round."""

    cpu_ms: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)


def processes(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo.extend(children.get(pid, ()))
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of a process tree so far, children it has reaped included, in seconds."""
    ticks = 0
    for pid in processes(root):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(value) for value in fields[11:15])
    return ticks / TICKS


def drive(
    server: ApiServer, url: str, status: int, headers: dict[str, str], seconds: int, connections: int
) -> tuple[float, float]:
    """Load one URL; returns CPU milliseconds per request and requests per second.

    :param status: expected of every answer; wrk tells apart only those below 400 from the others

    :raises SystemExit: wrk saw socket errors or unexpected statuses
    """
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
    for name, value in headers.items():
        words += ["-H", f"{name}: {value}"]
    before = cpu_seconds(server.process.pid)
    printed = subprocess.run([*words, url], capture_output=True, text=True, check=True).stdout
    spent = cpu_seconds(server.process.pid) - before
    done = int(re.search(r"(\d+) requests in", printed)[1])
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", printed)
    if "Socket errors" in printed or (int(refused[1]) if refused else 0) != (done if status >= 400 else 0):
        sys.exit(f"{server.name}: {printed}")
    return 1000 * spent / done, float(re.search(r"Requests/sec:\s+([\d.]+)", printed)[1])


def token(keystone: Keystone) -> tuple[str, str]:
    """A token of the ordinary user, and its project's id."""
    user = keystone.user
    domain = {"name": "Default"}
    body = {
        "auth": {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": user.username, "domain": domain, "password": user.password}},
            },
            "scope": {"project": {"name": user.project, "domain": domain}},
        }
    }
    answer = requests.post(f"{user.auth_url}/auth/tokens", json=body, timeout=30)
    answer.raise_for_status()
    return answer.headers["X-Subject-Token"], answer.json()["token"]["project"]["id"]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="per measurement")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="heatperf-bench-") as name, ExitStack() as running:
        folder = Path(name)
        broker = running.enter_context(RabbitMQ(folder / "rabbitmq"))
        keystone = running.enter_context(Keystone(folder / "keystone", free_port()))
        cloud = running.enter_context(Cloud(folder / "cloud", broker, keystone))
        ours = Heatperf(folder / "heatperf", cloud.config_file, workers=options.workers)
        upstream = UpstreamApi(folder / "upstream", cloud.config_file, workers=options.workers)
        servers = [running.enter_context(upstream), running.enter_context(ours)]
        secret, project = token(keystone)
        print(f"{'workload':28} {'server':14} {'CPU ms/req':>10} {'req/s':>8}   CPU upstream/heatperf (min-max)")
        for workload in WORKLOADS:
            headers = {"X-Auth-Token": secret} if workload.authenticated else {}
            scores = [Score() for _ in servers]
            for _ in range(options.rounds):
                for server, score in zip(servers, scores, strict=True):
                    url = server.url + workload.path.format(project=project)
                    status = requests.get(url, headers=headers, timeout=60).status_code
                    if status != workload.status:
                        sys.exit(f"{server.name} answered {status} to {workload.name}")
                    cpu, rate = drive(server, url, workload.status, headers, options.seconds, options.connections)
                    score.cpu_ms.append(cpu)
                    score.rate.append(rate)
            ratios = [a / b for a, b in zip(scores[0].cpu_ms, scores[1].cpu_ms, strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            for server, score, note in zip(servers, scores, ("", spread), strict=True):
                cpu, rate = statistics.median(score.cpu_ms), statistics.median(score.rate)
                print(f"{workload.name:28} {server.name:14} {cpu:10.2f} {rate:8.0f}   {note}", flush=True)


if __name__ == "__main__":
    main()

"""The HTTP layer alone: what a worker costs when the application does nothing. ``python bench/_ceiling.py``

Starts the server with one worker, pinned to the first CPU, around an application that answers two bytes, and drives it
with wrk pinned to the second. Prints the CPU time of the worker per request, threads included, and requests per second:
the median and each round. With the access log it is the one of production: oslo.log's format, into a file.

As ``_ceiling:load`` it is also the server's Factory, which each generation imports.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from oslo_config import cfg

from heatperf.config import load as configuration
from heatperf.config import logs
from heatperf.server.application import Service
from heatperf.server.settings import Bind, ServerSettings
from heatperf.server.supervisor import serve

REQUEST_ID = "req-01234567-89ab-cdef-0123-456789abcdef"
HEADERS = {
    "minimal": {},
    # What an OpenStack client sends with a Fernet token.
    "realistic": {
        "User-Agent": "python-heatclient",
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "keep-alive",
        "X-Auth-Token": "g" * 180,
        "X-OpenStack-Request-ID": REQUEST_ID,
    },
}
TICK = os.sysconf("SC_CLK_TCK")


class TwoBytes:
    """The application. Writes down the pid of its worker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def wsgi(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(
            "200 OK",
            [("Content-Type", "text/plain"), ("Content-Length", "2"), ("X-OpenStack-Request-ID", REQUEST_ID)],
        )
        return [b"ok"]

    def start(self, _loop: Any) -> None:
        os.sched_setaffinity(0, {0})
        (self._folder / "pid.new").write_text(str(os.getpid()))
        (self._folder / "pid.new").rename(self._folder / "pid")

    def stop(self) -> None:
        """Nothing to stop."""


def load(arguments: dict[str, Any]) -> Service:
    """The Factory."""
    folder = Path(arguments["folder"])
    conf = cfg.ConfigOpts()
    (folder / "heat.conf").write_text(f"[DEFAULT]\nlog_file = {folder}/heat.log\n")
    assignments = configuration.load(conf, ["--config-file", str(folder / "heat.conf")])
    settings = ServerSettings(
        workers=1,
        binds=(Bind("127.0.0.1", arguments["port"]),),
        access_log=arguments["access_log"],
        loop=arguments["loop"],
    )
    return Service(settings, TwoBytes(folder), logs=logs.setup(conf, assignments))


def cpu_of(pid: int) -> float:
    """Seconds of CPU, user and system, of all threads of a process so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICK


class Server:
    """A server of one worker, in a process of its own."""

    def __init__(self, loop: str, access_log: bool, port: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.port = port
        arguments = {"folder": self._folder.name, "port": port, "access_log": access_log, "loop": loop}
        self._process = os.fork()
        if self._process == 0:
            # Each generation is a new interpreter, which has to find this module.
            os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
            os._exit(serve("_ceiling:load", arguments))
        pid = Path(self._folder.name) / "pid"
        deadline = time.monotonic() + 30
        while not pid.exists():
            if time.monotonic() > deadline:
                raise TimeoutError("the worker did not start")
            time.sleep(0.05)
        self.worker = int(pid.read_text())
        time.sleep(0.3)  # from ready to serving

    def close(self) -> None:
        """Stop it."""
        os.kill(self._process, signal.SIGTERM)
        os.waitpid(self._process, 0)
        self._folder.cleanup()


def drive(server: Server, headers: str, options: argparse.Namespace) -> tuple[float, float]:
    """One round of wrk; microseconds of CPU per request, and requests per second."""
    words = ["taskset", "-c", "1", "wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s"]
    for name, value in HEADERS[headers].items():
        words += ["-H", f"{name}: {value}"]
    path = "/v1/0123456789abcdef0123456789abcdef/stacks/none" if headers == "realistic" else "/"
    before = cpu_of(server.worker)
    printed = subprocess.run([*words, f"http://127.0.0.1:{server.port}{path}"], capture_output=True, text=True)
    spent = cpu_of(server.worker) - before
    requests = re.search(r"(\d+) requests in", printed.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", printed.stdout)
    if printed.returncode or not requests or not rate or "Non-2xx" in printed.stdout:
        raise RuntimeError(f"{printed.stdout}\n{printed.stderr}")
    return spent / int(requests[1]) * 1e6, float(rate[1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--loop", default="gevent", help="as of heatperf serve")
    parser.add_argument("--headers", choices=[*HEADERS, "both"], default="both", help="what the client sends")
    parser.add_argument("--access-log", choices=["on", "off", "both"], default="both")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    kinds = list(HEADERS) if options.headers == "both" else [options.headers]
    switches = ["off", "on"] if options.access_log == "both" else [options.access_log]
    servers = {switch: Server(options.loop, switch == "on", 18091 + number) for number, switch in enumerate(switches)}
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    try:
        for _ in range(options.rounds):  # in turns, so that a noisy neighbour meets all of them
            for headers in kinds:
                for switch, server in servers.items():
                    found.setdefault((headers, switch), []).append(drive(server, headers, options))
    finally:
        for server in servers.values():
            server.close()
    for (headers, switch), rounds in found.items():
        costs, rates = zip(*rounds, strict=True)
        shown = " ".join(f"{cost:.1f}" for cost in costs)
        print(
            f"{options.loop}, {headers} headers, access log {switch}: {statistics.median(costs):.1f} us CPU/request"
            f" ({shown}), {statistics.median(rates):.0f} requests/s"
        )


if __name__ == "__main__":
    main()

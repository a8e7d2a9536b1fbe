"""The HTTP layer alone: how fast a worker answers when the application does nothing. ``python bench/_ceiling.py``

Starts the server with one worker, pinned to the first CPU, around an application that answers two bytes, and drives it
with wrk pinned to the second. Prints requests per second of each round, without and with the access log.
"""

import argparse
import logging
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from typing import Any

from heatperf.server.settings import Bind, ServerSettings
from heatperf.server.supervisor import serve


class TwoBytes:
    """The application."""

    @staticmethod
    def wsgi(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    def start(self, _loop: Any) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""


def measure(port: int, access_log: bool, options: argparse.Namespace) -> list[float]:
    """Start a server, return requests per second of each round."""
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {0})
        if access_log:
            logging.basicConfig(filename=os.devnull, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
        settings = ServerSettings(workers=1, binds=(Bind("127.0.0.1", port),), access_log=access_log)
        sys.exit(serve(settings, TwoBytes()))
    time.sleep(2)  # a benchmark, not a test: the first round would tell if it was too short
    rates = []
    try:
        for _ in range(options.rounds):
            words = ["taskset", "-c", "1", "wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s"]
            printed = subprocess.run([*words, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True)
            found = re.search(r"Requests/sec:\s+([\d.]+)", printed.stdout)
            rates.append(float(found[1]) if found else 0.0)
    finally:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
    return rates


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    for access_log, port in ((False, 18091), (True, 18092)):
        rates = measure(port, access_log, options)
        shown = " ".join(f"{rate:.0f}" for rate in rates)
        print(f"access log {'on ' if access_log else 'off'}: median {statistics.median(rates):.0f} req/s ({shown})")


if __name__ == "__main__":
    main()

"""One candidate under load: a private server on loopback, watched from outside.

In: a Candidate, the Hardware, a time. Out: a Measurement; one that says why, where the server cannot be started with
that candidate or answers wrongly. Raises nothing else but OSError where no process can be had. Runs in the process of
``heatperf tune``.

The server is ``heatperf serve --dev``: the whole pipeline of api-paste.ini, but for Keystone, with its log, access log
included, in /dev/null. Two kinds of requests go to it in turn, the version document and a path that does not exist:
both pass what the settings under test concern, and neither waits for an engine. No stack is made.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heatperf.errors import HeatperfError
from heatperf.server.control_client import ControlError, call
from heatperf.server.hardware import Hardware
from heatperf.server.pinning import order
from heatperf.tuning.candidates import Candidate
from heatperf.tuning.decision import Measurement, Sample
from heatperf.tuning.generator import Generator, LoadError, Request

REQUESTS = (Request("/", 300), Request("/v1/demo/nosuch", 404))
#: Seconds for a server to start, and to end.
PATIENCE = 30.0
WINDOWS = 3
#: Of a trial's load, before it counts.
WARM_UP = 0.2
CONNECTIONS_PER_WORKER, MOST_CONNECTIONS = 16, 512
MOST_TEXT = 300


class TrialError(HeatperfError):
    """A candidate cannot be measured."""


class Server:
    """A private server. Use it as a context manager; it serves once entered.

    :param folder: for its socket and state
    :raises TrialError: on entering, it does not come to serve
    """

    def __init__(self, candidate: Candidate, folder: Path) -> None:
        self._control = folder / "control"
        self._log = folder / "stderr"
        self._process: subprocess.Popen[bytes] | None = None
        isolation = ["-I"] if sys.flags.isolated else ["-s"] * bool(sys.flags.no_user_site)
        self._command = [sys.executable, "-P", *isolation, "-m", "heatperf", "serve", "--dev", "--tuned", "none"]
        self._command += ["--bind", "127.0.0.1:0", "--control", str(self._control), "--state", str(folder / "state")]
        self._command += ["--loop", candidate.loop, "--workers", str(candidate.workers)]
        self._command += ["--pin" if candidate.pin else "--no-pin"]
        self.status: dict[str, Any] = {}

    def __enter__(self) -> Server:
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, our own command
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGINT)  # at once: nobody waits for an answer any more
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()  # its workers see the end of it and leave
            process.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        assert self._process is not None  # noqa: S101 - set on entering
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise TrialError(self._last_words() or f"its server ended with code {self._process.returncode}")
            with contextlib.suppress(ControlError):
                self.status = call(self._control, "status", timeout=1.0)["status"]
                if self.status["state"] == "serving":
                    return
            time.sleep(0.03)
        raise TrialError(f"its server does not serve after {PATIENCE:g} s")

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        errors = [line for line in lines if "ERROR" in line]
        return (errors or lines or [""])[-1][:MOST_TEXT]

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, _, port = self.status["listeners"][0].rpartition(":")
        return host, int(port)

    @property
    def pids(self) -> list[int]:
        """Of its workers."""
        return [row["pid"] for row in self.status["workers"]]


def measure(candidate: Candidate, machine: Hardware, until: float, windows: int = WINDOWS) -> Measurement:
    """Start a server, put load on it, end it.

    :param until: time.monotonic() by which the load should have ended
    :param windows: how many stretches of time to take samples of
    """
    cpus = cpus_of(machine)
    spare = order(machine)[candidate.workers :]
    processes = max(1, min(len(spare) or candidate.workers, math.ceil(candidate.workers / 2)))
    connections = max(processes, min(CONNECTIONS_PER_WORKER * candidate.workers, MOST_CONNECTIONS))
    try:
        with (
            tempfile.TemporaryDirectory(prefix="heatperf-tune-") as folder,
            Server(candidate, Path(folder)) as server,
            Generator(server.address, REQUESTS, processes, connections, spare or None) as load,
        ):
            left = max(until - time.monotonic(), 0.1 * (windows + 1))
            load.run(WARM_UP * left)
            length = (1 - WARM_UP) * left / windows
            samples = [_sample(load, server.pids, machine, length) for _ in range(windows)]
    except (TrialError, LoadError) as error:
        return Measurement(candidate, cpus, failure=str(error))
    return Measurement(candidate, cpus, tuple(samples))


def cpus_of(machine: Hardware) -> float:
    """CPUs that server and generator have together."""
    allowed = float(max(1, len(machine.allowed)))
    return allowed if machine.quota.value is None else min(allowed, float(machine.quota.value))


def _sample(load: Generator, pids: Sequence[int], machine: Hardware, seconds: float) -> Sample:
    cpu, busy, began = _cpu(pids), _busy(machine), time.monotonic()
    window = load.run(seconds)
    lasted = time.monotonic() - began
    server, generator = (_cpu(pids) - cpu) / lasted, window.cpu / window.seconds
    others = max(0.0, (_busy(machine) - busy) / lasted - server - generator)
    return Sample(window.rate, server, generator, window.busiest, others, window.latency(0.5), window.latency(0.99))


def _cpu(pids: Sequence[int]) -> float:
    """Seconds of CPU that processes have used so far, to the nanosecond, threads that have ended included.

    :raises TrialError: one of them is gone
    """
    try:
        # The clock of a process: clock_getcpuclockid(3) makes the same number of its pid (CPUCLOCK_SCHED).
        return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)
    except OSError:
        raise TrialError("a worker has ended under load") from None


def _busy(machine: Hardware) -> float:
    """Seconds that processes, and other guests of the host, have had of the allowed CPUs so far."""
    tick = os.sysconf("SC_CLK_TCK")
    busy = 0
    with contextlib.suppress(OSError), open("/proc/stat") as file:
        for line in file:
            name, *fields = line.split()
            if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in machine.allowed:
                # user, nice, system, idle, iowait, irq, softirq, steal: interrupts are the load's own, and what the
                # hypervisor gave to others is gone as well
                busy += sum(int(fields[index]) for index in (0, 1, 2, 7) if index < len(fields))
    return busy / tick

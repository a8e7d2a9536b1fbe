"""``heatperf profile``: watch what running workers do, with py-spy, and write it down as a flame graph.

In: parsed flags. Out: one file for each worker, their names on standard output, and an exit code: 0 done, 1 a worker
could not be watched for all of the time, 2 no server could be asked or nothing could be started. Raises
ConfigurationError for what has to be corrected first. Changes nothing in the server or the kernel: a worker only pauses
for some hundred microseconds with each sample.

Native frames (py-spy --native) are not offered: a greenlet that waits keeps its part of the C stack on the heap, so
what an unwinder finds below the frames of the one that runs belongs to others.
"""

import argparse
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heatperf.errors import ConfigurationError
from heatperf.server.control import candidates
from heatperf.server.control_client import ControlError, call, call_first
from heatperf.server.ptrace import obstacle

#: --format -> name of the format for py-spy, ending of the file
FORMATS = {"svg": ("flamegraph", "svg"), "speedscope": ("speedscope", "speedscope.json")}
FOLDER = "profiles"
EXIT_OK, EXIT_PARTLY, EXIT_UNREACHABLE, EXIT_INTERRUPTED = 0, 1, 2, 130
#: Seconds for py-spy to find its way in and to write its file, beside those that it samples.
SLACK = 60.0
COMM = "heatperf-worker"
#: Share of the samples below which there is hardly anything to see.
FEW = 0.05


@dataclass(frozen=True)
class Target:
    """A worker to be watched."""

    slot: int
    pid: int
    loop: str

    def __str__(self) -> str:
        return f"worker {self.slot} (pid {self.pid})"


@dataclass
class Recording:
    """py-spy at work on one worker."""

    target: Target
    process: subprocess.Popen[str]
    began: float
    unfinished: Path
    file: Path


def profile(options: argparse.Namespace, argv: Sequence[str]) -> int:
    """
    :param options: of flags.profile_parser
    :param argv: what they were parsed from, for the remedy
    :returns: exit code
    :raises ConfigurationError: py-spy is missing, the folder cannot be written, or there is no such worker
    """
    program = find_py_spy()
    folder = _folder(options.output)
    try:
        if options.control:
            answer = call(Path(options.control), "status", timeout=options.timeout)
        else:
            answer = call_first(candidates(os.environ, os.geteuid()), "status", timeout=options.timeout)
    except ControlError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return EXIT_UNREACHABLE
    if not answer["ok"]:
        print(answer["text"], file=sys.stderr)
        return EXIT_UNREACHABLE
    targets = choose(answer["status"].get("workers") or [], options.worker)
    for target in targets:
        _check_namespace(target)
    names = ", ".join(map(str, targets))
    print(f"Watching {names} for {options.seconds} s, {options.rate} samples a second each", file=sys.stderr)
    recordings = [_start(program, options, folder, target) for target in targets]
    try:
        codes = [_finish(recording, options, argv) for recording in recordings]
    except KeyboardInterrupt:
        return _interrupted(recordings)
    return max(codes)


def choose(workers: Sequence[Mapping[str, Any]], wanted: str | None) -> list[Target]:
    """
    :param workers: of the status, see server/status.py
    :param wanted: number of a slot, "all", or None for the first that serves
    :returns: at least one, in the order of their slots; of a slot's processes the one that serves, not one that drains
    :raises ConfigurationError: none is there
    """
    found: dict[int, Target] = {}
    for row in sorted(workers, key=lambda row: (row["slot"], row["state"] == "serving", row["generation"])):
        if row["pid"] and row["state"] in ("serving", "draining"):
            found[row["slot"]] = Target(row["slot"], row["pid"], str(row.get("loop", "loop")))
    if wanted == "all" and found:
        return list(found.values())
    serving = [found[row["slot"]] for row in workers if row["state"] == "serving" and row["slot"] in found]
    if wanted is None and serving:
        return [min(serving, key=lambda target: target.slot)]
    if wanted not in (None, "all"):
        slot = int(wanted)
        if slot in found:
            return [found[slot]]
        states = [row["state"] for row in workers if row["slot"] == slot]
        if not states:
            slots = ", ".join(str(number) for number in sorted({row["slot"] for row in workers}))
            raise ConfigurationError(f"there is no worker {slot}", remedy=f"give all or one of {slots or 'none'}")
        raise ConfigurationError(f"worker {slot} is {states[0]}", remedy="heatperf status says why; try again later")
    raise ConfigurationError("no worker serves", remedy="heatperf status says why; try again later")


def find_py_spy() -> str:
    """
    :returns: path of the program, beside this Python before others
    :raises ConfigurationError: it is not installed
    """
    beside = os.path.dirname(sys.executable)
    found = shutil.which("py-spy", path=beside) or shutil.which("py-spy")
    if not found:
        raise ConfigurationError("py-spy is not installed", remedy="pip install 'heatperf[profile]'")
    return found


def _folder(given: str | None) -> Path:
    """--output, else ./profiles where that exists, as in a checkout, else here."""
    folder = Path(given) if given else Path(FOLDER) if os.path.isdir(FOLDER) else Path()
    if not folder.is_dir():
        raise ConfigurationError(f"--output {folder} is not a directory", remedy="make it, or choose another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"this user may not write into {folder.absolute()}", remedy="choose an --output")
    return folder


def _check_namespace(target: Target) -> None:
    """Numbers of processes mean something in one PID namespace only, and the socket reaches beyond."""
    try:
        with open(f"/proc/{target.pid}/comm") as file:
            comm = file.read().strip()
    except OSError:
        comm = ""
    if comm != COMM:
        raise ConfigurationError(
            f"{target} is none here: it has just ended, or the server lives in a container of its own",
            remedy="try again, or run heatperf profile in that container",
        )


def _start(program: str, options: argparse.Namespace, folder: Path, target: Target) -> Recording:
    form, ending = FORMATS[options.format]
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-worker-{target.slot}-{target.loop}"
    unfinished = folder / f".{name}.{os.getpid()}.{ending}"
    what = [f"--{each}" for each in ("gil", "idle") if getattr(options, each)]
    command = [program, "record", "--pid", str(target.pid), "--duration", str(options.seconds)]
    command += ["--rate", str(options.rate), "--format", form, "--output", str(unfinished), *what]
    process = subprocess.Popen(  # noqa: S603 - py-spy, numbers and a path
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    return Recording(target, process, time.monotonic(), unfinished, folder / f"{name}.{ending}")


def _finish(recording: Recording, options: argparse.Namespace, argv: Sequence[str]) -> int:
    """Wait for one of them; print its file, or why there is none."""
    left = recording.began + options.seconds + SLACK - time.monotonic()
    try:
        said = recording.process.communicate(timeout=max(left, 1.0))[0]
    except subprocess.TimeoutExpired:
        recording.process.kill()
        said = recording.process.communicate()[0] + f"\nit did not end within {SLACK:g} s more than it was given"
    lasted = time.monotonic() - recording.began
    target = recording.target
    kept = _keep(recording)
    if kept and (_lives(target.pid) or "process exited" not in said):
        _say_if_idle(target, said, options)
        return EXIT_OK
    if not _lives(target.pid):
        _say(f"{target} has ended after {lasted:.1f} s of {options.seconds} s", "heatperf status and the log say why")
    elif "ermission denied" in said.lower() or "not permitted" in said:
        why, remedy = obstacle(target.pid, shlex.join([os.path.abspath(sys.argv[0]), "profile", *argv]))
        _say(f"{target} cannot be looked into: {why}", remedy)
    elif "No stack counts" in said:
        _say(f"{target} has done nothing in {options.seconds} s", "send it requests meanwhile, or add --idle")
    else:
        lines = [line.removeprefix("Error: ") for line in said.splitlines() if line and not line.startswith("py-spy>")]
        _say(f"{target}: py-spy ended with code {recording.process.returncode}: {' '.join(lines[:4])}", None)
    return EXIT_PARTLY


def _say_if_idle(target: Target, said: str, options: argparse.Namespace) -> None:
    """A worker without requests only writes its heartbeat, and a graph of that tells nothing."""
    found = re.search(r"Samples: (\d+)", said)
    expected = options.seconds * options.rate
    if found and int(found[1]) < FEW * expected:
        print(
            f"NOTE: {target} was at work in {found[1]} of {expected} samples; send it requests meanwhile",
            file=sys.stderr,
        )


def _keep(recording: Recording) -> bool:
    """Give the file its name if it is whole, and print that."""
    if recording.process.returncode:
        recording.unfinished.unlink(missing_ok=True)
        return False
    recording.unfinished.replace(recording.file)
    print(recording.file, flush=True)
    return True


def _interrupted(recordings: Sequence[Recording]) -> int:
    """Ctrl-C: py-spy, which has had it too if it came from a terminal, writes what it has."""
    for recording in recordings:
        if recording.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                recording.process.send_signal(signal.SIGINT)
    for recording in recordings:
        try:
            recording.process.wait(10.0)
        except subprocess.TimeoutExpired:
            recording.process.kill()
        _keep(recording)
    return EXIT_INTERRUPTED


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def _say(message: str, remedy: str | None) -> None:
    print(f"ERROR: {ConfigurationError(message, remedy=remedy)}", file=sys.stderr)

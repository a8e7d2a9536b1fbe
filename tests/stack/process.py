"""Child processes: start in a session of their own, wait with a deadline, stop without leftovers, keep the log.

In: a command line and a run directory. Out: a running process whose output is in ``<directory>/<name>.log``. StackError
when it ends early or does not become ready in time, with the end of the log in its text.
"""

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
# Below Linux' default range of ephemeral ports (from 32768): no outgoing connection takes the port between the probe
# and the part's own bind.
_PORTS = range(15000, 32000)


class StackError(Exception):
    """A real part is missing, did not start, or ended; the text says which and shows the end of its log."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 that was free a moment ago."""
    for _ in range(200):
        port = random.choice(_PORTS)
        # Without SO_REUSEADDR a port whose last connections are in TIME_WAIT counts as taken: good, since not every
        # part sets that option.
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise StackError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


def tail(path: Path, lines: int = 30, start: int = 0) -> str:
    """The last lines of a text file, looking no further back than byte offset ``start``; empty when there is none."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
        stream.seek(max(start, path.stat().st_size - 64 * 1024))
        return "\n".join(stream.read().decode("utf-8", "replace").splitlines()[-lines:])
    return ""


def wait_until(
    ready: Callable[[], T], timeout: float, what: str, process: "Process | None" = None, interval: float = 0.05
) -> T:
    """Poll ``ready`` until it returns something true, and return that.

    :param timeout: seconds
    :param what: ends the sentence "... did not ...", for the error
    :param process: whose early end ends the wait
    :raises StackError: after the timeout, or when the process ended
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = ready()
        if answer:
            return answer
        log = f"\n{tail(process.log)}" if process else ""
        if process and not process.running:
            raise StackError(f"{process.name} ended with {process.returncode} and did not {what}{log}")
        if time.monotonic() > deadline:
            raise StackError(f"{process.name if process else 'it'} did not {what} within {timeout:g} s{log}")
        time.sleep(interval)


def listening(port: int) -> bool:
    """Whether something accepts TCP connections on 127.0.0.1:port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def run(
    command: Sequence[str | Path], timeout: float, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Run a command to its end and return its standard output; StackError with its output when it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
    except FileNotFoundError as error:
        raise StackError(f"{words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise StackError(f"{' '.join(words)} took longer than {timeout:g} s") from error
    if done.returncode:
        raise StackError(f"{' '.join(words)} ended with {done.returncode}\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def environment(**changes: str) -> dict[str, str]:
    """The caller's environment without what would lead a part to somebody's real cloud, plus ``changes``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "RABBITMQ_", "PYTHON"))}
    return kept | changes


def _follow_parent() -> None:
    # A killed test run must not leave servers behind. The setting survives exec; "parent" means the starting thread.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Process:
    """One child process in its own session; its output goes to a log file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        directory: Path,
        env: Mapping[str, str] | None = None,
        stop_timeout: float = 20.0,
    ) -> None:
        self.name = name
        self.command = [str(word) for word in command]
        self.directory = directory
        self.env = environment() if env is None else dict(env)
        self.stop_timeout = stop_timeout
        self.log = directory / f"{name}.log"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, stdin: int = subprocess.DEVNULL) -> None:
        """Start it; StackError when the program is not installed.

        :param stdin: its standard input
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            try:
                self._child = subprocess.Popen(
                    self.command,
                    cwd=self.directory,
                    env=self.env,
                    stdin=stdin,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    preexec_fn=_follow_parent,
                )
            except FileNotFoundError as error:
                raise StackError(f"{self.command[0]} is not installed") from error

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its session and process group."""
        if self._child is None:
            raise StackError(f"{self.name} was not started")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def returncode(self) -> int | None:
        return self._child.returncode if self._child else None

    def kill(self) -> None:
        """SIGKILL to the process and its group, and wait for its end."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()

    def stop(self) -> None:
        """SIGTERM to the process, SIGKILL after ``stop_timeout`` seconds, and to whatever is left of its group."""
        if self._child is None:
            return
        if self._child.poll() is None:
            self._child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(self.stop_timeout)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()


class Part:
    """Base of the real parts: a run directory, start/stop, the log files worth showing when a test fails.

    Subclasses write ``_start`` and ``_stop``; a start that fails is stopped again before the error goes on.
    """

    name = "part"

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def logs(self) -> list[Path]:
        """Existing log files, the most telling first."""
        return sorted(self.directory.glob("*.log"))

    def start(self) -> Self:
        """Start and wait until it serves; StackError when it does not."""
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def stop(self) -> None:
        """Stop it and everything it started; harmless when it does not run."""
        self._stop()

    def _start(self) -> None:
        raise NotImplementedError

    def _stop(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

"""The place of one worker in a generation, and what is known of who stands there. Pure; supervisor only.

A slot keeps its number when its process changes. Times are readings of a Clock, in seconds.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from heatperf.server import worker_protocol as protocol
from heatperf.server.backoff import Backoff


class Stage(enum.Enum):
    """Where the slot's process is in its life."""

    WAITING = "waiting"  # nobody here; ``due`` says when the next one starts
    FORKING = "forking"  # the zygote has been asked
    BOOTING = "booting"
    READY = "ready"  # waits for its generation's gate
    SERVING = "serving"
    DRAINING = "draining"
    REAPING = "reaping"  # its report has ended: dead, exit code not known yet


ALIVE = (Stage.FORKING, Stage.BOOTING, Stage.READY, Stage.SERVING, Stage.DRAINING)


class Watch:
    """Tells for how long a heartbeat has not changed, in time during which the supervisor itself was awake."""

    def __init__(self) -> None:
        self._beat = -1
        self._since = 0.0

    def silent(self, beat: int, awake: float) -> float:
        """
        :param beat: the heartbeat word
        :param awake: reading of a Clock
        :returns: seconds without a change
        """
        if beat != self._beat:
            self._beat, self._since = beat, awake
        return awake - self._since


class Clock:
    """A clock that stands still while the supervisor does. After docker pause, SIGSTOP or a paused virtual machine the
    workers' heartbeats are as old as the supervisor's last look, and nobody has had the time to do what was due.

    :param stride: most seconds that may lie between two readings of a supervisor that runs
    :param source: seconds that only grow
    """

    def __init__(self, stride: float, source: Callable[[], float] = time.monotonic) -> None:
        self._stride = stride
        self._source = source
        self._last = source()
        self._reading = 0.0

    def __call__(self) -> float:
        """:returns: seconds since the start, but for times in which nobody asked"""
        now = self._source()
        self._reading += min(now - self._last, self._stride)
        self._last = now
        return self._reading


@dataclass
class Slot:
    """See the module's text."""

    number: int
    seat: int
    stage: Stage = Stage.WAITING
    due: float | None = 0.0  # when to fork the next worker; None: not planned
    pid: int = 0  # 0: not known
    born: float = 0.0
    report_fd: int = -1
    report: bytes = b""
    kill_at: float | None = None  # KILL follows then
    reap_at: float | None = None  # ask for the exit code then
    ended: float = 0.0  # when its report has ended
    leaving: bool = False  # will not be replaced
    boot_failed: bool = False
    late: str = ""  # why the supervisor kills it
    lived: bool = False  # it was ready once
    restarts: int = 0
    reason: str = ""  # of the last death
    backoff: Backoff = field(default_factory=Backoff)
    watch: Watch = field(default_factory=Watch)

    @property
    def alive(self) -> bool:
        """Whether there is, or will be in a moment, a process that has not ended."""
        return self.stage in ALIVE

    def begin(self, report_fd: int, now: float) -> None:
        """A worker has been asked for."""
        self.stage, self.pid, self.born, self.due = Stage.FORKING, 0, now, None
        self.report_fd, self.report = report_fd, b""
        self.kill_at = self.reap_at = None
        self.late, self.lived, self.boot_failed = "", False, False
        self.watch = Watch()

    def hear(self, data: bytes) -> None:
        """Take a part of the report, and the pid and the stage that it tells."""
        # Somebody may ask for stacks again and again.
        self.report = (self.report + data)[: 4 * protocol.MAX_REPORT]
        head = protocol.HEAD.match(self.report)
        if head is None:
            return
        self.pid = int(head["pid"])
        stage = Stage.SERVING if head["serving"] else Stage.READY if head["ready"] else Stage.BOOTING
        self.lived = self.lived or stage is not Stage.BOOTING
        if self.stage in (Stage.FORKING, Stage.BOOTING, Stage.READY):
            self.stage = stage

    def _rest(self) -> tuple[bytes, bytes]:
        """The report in two: what it says of the worker's stage, and what follows."""
        head = protocol.HEAD.match(self.report)
        end = head.end() if head is not None else 0
        return self.report[:end], self.report[end:]

    @property
    def stacks(self) -> str:
        """What the worker's signal handler has written."""
        return self._rest()[1].decode("utf-8", "replace").strip() if self.lived else ""

    def forget_stacks(self) -> None:
        """What has been written so far is old."""
        self.report = self._rest()[0]

    def failure(self) -> tuple[str, str]:
        """:returns: the reason why it could not start, and its traceback; empty where it gave none"""
        rest = self._rest()[1]
        if not rest.startswith(protocol.FAILED):
            return "", ""
        reason, _, trace = rest[len(protocol.FAILED) :].decode("utf-8", "replace").partition("\n")
        return reason, trace.strip()


def how_it_ended(code: int | None) -> str:
    """
    :param code: exit code, negative for a signal, None where nobody knows
    :returns: "was killed by SIGKILL", "left with exit code 1", "has ended"
    """
    if code is None:
        return "has ended"
    if code >= 0:
        return f"left with exit code {code}"
    return f"was killed by {protocol.signal_name(-code)}"

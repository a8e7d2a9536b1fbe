"""One generation as the supervisor sees it: its zygote process, its slots, and what happens to them.

Comes in: messages of the zygote, reports of workers, the time. Goes out: commands to the zygote, signals to workers,
and a ``phase`` that the supervisor acts on. Raises nothing that the supervisor would have to handle: what goes wrong is
in ``failure`` (this generation cannot serve) or in the log.

    LOADING    the zygote imports, reads, builds
    LOADED     settings are here; the supervisor opens the listeners and calls start()
    STARTING   workers boot, nobody serves; the supervisor waits for ``acceptable``, then calls open_gate()
    SERVING    dead workers are replaced
    RETIRING   workers drain, nobody is replaced
    ENDED      no worker is left

A zygote reaps a worker only when it is told to, and it is told only after the worker's report has ended. So a pid that
this module sends a signal to is that of its worker and nobody else's.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from heatperf.errors import ConfigurationError
from heatperf.server import channel as channels
from heatperf.server import places
from heatperf.server import worker_protocol as protocol
from heatperf.server.child import EXIT_CONFIGURATION, EXIT_FAILED
from heatperf.server.link import Link
from heatperf.server.places import Place
from heatperf.server.scoreboard import Scoreboard, Seat
from heatperf.server.settings import ServerSettings
from heatperf.server.slot import Clock, Slot, Stage, how_it_ended
from heatperf.server.sockets import Listener

LOG = logging.getLogger("heatperf.server")

# From the start of the zygote to its settings: imports, files, and nothing that waits for a network.
LOAD_DEADLINE = 120.0
# A zygote does nothing but wait for commands.
ANSWER_DEADLINE = 15.0
# The same, when it is only about the exit codes of workers that have left.
HASTY_DEADLINE = 2.0
# How long a stuck worker gets to write its stacks before it is killed.
STACKS_DEADLINE = 1.0
# Between two looks for the exit code of a worker whose report has ended.
REAP_INTERVAL = 0.02
# After KILL; a report that is still open then has leaked into another process.
DEATH_DEADLINE = 5.0
# Commands that a zygote may have to answer at the same time.
MOST_ASKED = 32
NO_SEAT = -1


class Phase(enum.Enum):
    """See the module's text."""

    LOADING = 0
    LOADED = 1
    STARTING = 2
    SERVING = 3
    RETIRING = 4
    ENDED = 5


BEFORE_SERVING = (Phase.LOADING, Phase.LOADED, Phase.STARTING)


@dataclass
class Failure:
    """Why a generation cannot serve.

    :param text: for the operator; "" where the zygote has printed it
    """

    text: str
    exit_code: int


@dataclass
class Common:
    """What all generations of a supervisor share.

    :param lifeline: end of a pipe that ends with the supervisor
    :param served: requests answered by slot number, of workers that are gone
    """

    lifeline: int
    board: Scoreboard
    free_seats: list[int]
    clock: Clock
    served: dict[int, int] = field(default_factory=dict)


class Generation:
    """:param entry: "module:function" of the Factory
    :param arguments: for the factory; JSON
    :param needed: how many workers must be ready before it may serve; None: all of them
    :raises OSError: there is no process, or no descriptor, to be had
    """

    def __init__(
        self, number: int, entry: str, arguments: dict[str, Any], common: Common, needed: int | None = None
    ) -> None:
        self.number = number
        self.phase = Phase.LOADING
        self.failure: Failure | None = None
        self.settings = ServerSettings(workers=1, binds=())  # until the zygote has told
        self.slots: list[Slot] = []
        self.listeners: list[Listener] = []
        self.places: list[Place] = []
        self._killed = False
        self._leave_by = protocol.DRAIN
        self._refusal: Failure | None = None
        self._needed = needed
        self._common = common
        self._clock = common.clock
        self._asked: dict[int, float] = {}  # seat -> until when the zygote must have answered
        self._reasons: set[str] = set()
        self._kill_at: float | None = None
        self._load_by = self._clock() + LOAD_DEADLINE
        self._link = Link(number, entry, arguments, common.lifeline, common.board.fd)

    # What the supervisor looks at

    @property
    def zygote_gone(self) -> bool:
        """Whether nobody can be forked any more."""
        return self._link.gone

    @property
    def pid(self) -> int:
        """Of the zygote."""
        return self._link.pid

    @property
    def workers(self) -> int:
        """How many workers there shall be."""
        return sum(not slot.leaving for slot in self.slots)

    def count(self, *stages: Stage) -> int:
        """:returns: how many slots are in one of the stages"""
        return sum(slot.stage in stages for slot in self.slots)

    @property
    def acceptable(self) -> bool:
        """Whether enough workers are ready."""
        needed = len(self.slots) if self._needed is None else self._needed
        going_on = self.phase is Phase.STARTING and self.failure is None and not self._link.ending
        return going_on and bool(self.slots) and self.count(Stage.READY) >= needed

    def descriptors(self) -> Iterator[int]:
        """What to poll for reading."""
        if not self.zygote_gone:
            yield self._link.fileno()
        for slot in self.slots:
            if slot.report_fd >= 0:
                yield slot.report_fd

    def deadlines(self) -> Iterator[float]:
        """Moments at which tick() has something to do."""
        if self.phase is Phase.LOADING and self.failure is None:
            yield self._load_by
        if self._kill_at is not None:
            yield self._kill_at
        yield from self._asked.values()
        for slot in self.slots:
            if slot.due is not None and self._may_ask:
                yield slot.due
            yield from (moment for moment in (slot.kill_at, slot.reap_at) if moment is not None)

    @property
    def _may_ask(self) -> bool:
        """Whether the zygote can take another command that it answers; its socket holds some hundred."""
        return not self.zygote_gone and not self._link.ending and len(self._asked) < MOST_ASKED

    # What the supervisor tells it

    def start(self, listeners: list[Listener]) -> None:
        """Hand over the listeners, and start as many workers as settings say."""
        self.listeners = listeners
        self.phase = Phase.STARTING
        fds = [listener.sock.fileno() for listener in listeners]
        self._link.tell("listen", fds, binds=[asdict(listener.bind) for listener in listeners])
        self.resize(max(1, self.settings.workers))

    def refuse(self, message: str, remedy: str | None, option: str | None) -> None:
        """Let the zygote say where in the configuration an error of the supervisor's comes from, and end."""
        self.phase = Phase.STARTING  # asked once
        self._refusal = Failure(f"ERROR: {ConfigurationError(message, remedy, option=option)}", EXIT_CONFIGURATION)
        self._link.tell("refuse", message=message, remedy=remedy, option=option)
        self._link.ending = True
        self._asked[NO_SEAT] = self._clock() + ANSWER_DEADLINE

    def open_gate(self) -> None:
        """Let the workers that are ready serve, and those that will be."""
        self.phase = Phase.SERVING
        self._link.open_gate()
        for slot in self.slots:
            if slot.boot_failed and slot.due is None:
                slot.due = self._clock() + slot.backoff.delay(0.0)

    def resize(self, workers: int) -> None:
        """Have as many workers; those in the highest slots drain if there are more."""
        staying = [slot for slot in self.slots if not slot.leaving]
        for slot in staying[workers:]:
            self._release(slot)
        taken = {slot.number for slot in self.slots}
        free = (number for number in range(len(taken) + workers + 1) if number not in taken)
        for _ in range(workers - len(staying)):
            if not self._common.free_seats:
                LOG.error("There is no room for more workers")
                break
            self.slots.append(Slot(next(free), self._common.free_seats.pop(), due=self._clock()))
        self.slots.sort(key=lambda slot: slot.number)

    def _release(self, slot: Slot) -> None:
        slot.leaving, slot.due = True, None
        if slot.stage is Stage.WAITING:
            self._forget(slot)
            return
        slot.kill_at = self._clock() + self.settings.drain_timeout
        self._send_signal(slot, protocol.DRAIN)

    def retire(self, signum: signal.Signals, patience: float) -> None:
        """Have the workers leave; called again, have them leave faster.

        :param signum: DRAIN, HAND_OVER or QUIT of worker_protocol
        :param patience: seconds after which those that still live are killed
        """
        self.phase = Phase.RETIRING
        self._kill_at = self._clock() + patience
        self._leave_by = signum
        self._link.tell("leave-addresses")
        for slot in list(self.slots):
            slot.leaving, slot.due = True, None
            if slot.stage is Stage.WAITING:
                self._forget(slot)
            else:
                self._send_signal(slot, signum)
        self._end_if_empty()

    def fail(self, text: str, exit_code: int = EXIT_FAILED) -> None:
        """It cannot serve. What there is of it is killed: no request has reached it."""
        if self.failure is None:
            self.failure = Failure(text, exit_code)
        self.kill()

    def kill(self) -> None:
        """End it now. A zygote that has loaded does nothing but wait, and may write what the log has for it first."""
        if self.phase is Phase.LOADING:
            self._link.kill()
        self._killed = True
        self.phase = Phase.RETIRING
        for slot in list(self.slots):
            slot.leaving, slot.due = True, None
            if slot.stage is Stage.WAITING:
                self._forget(slot)
            else:
                self._kill(slot)
        self._end_if_empty()

    def dismiss(self) -> subprocess.Popen[bytes]:
        """Close what is left of it.

        :returns: the zygote, to be waited for
        """
        for slot in self.slots:
            self._kill(slot)
            self._close_report(slot)
        return self._link.close()

    def log(self, record: dict[str, Any]) -> bool:
        """Have the zygote write a log record where the configuration wants it; whether that was possible."""
        return self.phase is not Phase.LOADING and self._link.log(record)

    def signal_workers(self, signum: signal.Signals) -> None:
        """Send a signal to every worker."""
        for slot in self.slots:
            if slot.lived:
                self._send_signal(slot, signum)

    # What happens to it

    def on_readable(self, fd: int) -> bool:
        """Deal with one of descriptors(); whether it was one of this generation's."""
        if not self.zygote_gone and fd == self._link.fileno():
            self._listen_to_zygote()
            return True
        for slot in self.slots:
            if slot.report_fd == fd:
                self._read_report(slot)
                return True
        return False

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.phase is Phase.LOADING and self.failure is None and now >= self._load_by:
            self.fail(f"the configuration was not loaded within {LOAD_DEADLINE:g} s")
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            for slot in self.slots:
                if slot.alive:
                    LOG.warning("Worker %d (pid %d) is still busy and is killed", slot.number, slot.pid)
                    self._kill(slot)
        if any(now >= moment for moment in self._asked.values()):
            self._asked.clear()
            self._link.kill()
            LOG.error("%s does not answer and is killed", self._link)
        for slot in list(self.slots):
            self._tick_slot(slot, now)

    def _tick_slot(self, slot: Slot, now: float) -> None:
        if slot.due is not None and now >= slot.due and slot.stage is Stage.WAITING and self._may_ask:
            self._fork(slot, now)
        if slot.kill_at is not None and now >= slot.kill_at:
            if slot.stage is Stage.BOOTING:
                slot.late = f"it was not ready within {self.settings.boot_deadline:g} s"
            elif slot.stacks:
                LOG.error("Stacks of worker %d (pid %d):\n%s", slot.number, slot.pid, slot.stacks)
            self._kill(slot)
        if slot.reap_at is not None and now >= slot.reap_at:
            self._reap(slot, now)

    def look_at_heartbeats(self, awake: float) -> None:
        """Find workers whose loop stands still.

        :param awake: reading of an AwakeClock
        """
        limit = self.settings.watchdog_timeout
        for slot in self.slots:
            if not limit or slot.stage not in (Stage.READY, Stage.SERVING, Stage.DRAINING) or slot.late:
                continue
            seen = self.seat(slot).read()
            silent = slot.watch.silent(seen.heartbeat, awake)
            if silent >= limit:
                slot.late = f"its loop has stood still for {silent:.0f} s"
                began = f"; the latest request was {seen.latest_line}" if seen.latest_line else ""
                oldest = f", the oldest {seen.oldest_line}" if seen.in_flight else ""
                LOG.error(
                    "Worker %d (pid %d) is stuck: %s%s; %d requests were in flight then%s; it is killed",
                    slot.number, slot.pid, slot.late, began, seen.in_flight, oldest,
                )  # fmt: skip
                slot.forget_stacks()
                self._send_signal(slot, protocol.SHOW_STACKS)
                slot.kill_at = self._clock() + STACKS_DEADLINE

    # The zygote

    def _listen_to_zygote(self) -> None:
        try:
            for message in self._link.messages():
                handler = getattr(self, "_on_" + message.kind.replace("-", "_"))
                handler(message)
        except channels.Closed:
            self._on_zygote_gone()
        except Exception as error:  # of another version, or out of its mind; not our end in any case
            LOG.exception("%s cannot be understood", self._link)
            self._link.kill()
            if self.phase in BEFORE_SERVING:
                self.fail(f"ERROR: what loads the configuration cannot be understood ({error!r}); restart the service")

    def _on_loaded(self, message: channels.Message) -> None:
        self.settings = ServerSettings.from_values(message["settings"])
        self.places = places.from_values(message["places"])
        if self.failure is None:
            self.phase = Phase.LOADED

    def _on_failed(self, message: channels.Message) -> None:
        self._link.ending = True
        if self.phase in BEFORE_SERVING:
            self.fail(message["text"], message["exit_code"])
        else:  # its workers know nothing of it, and serve on
            LOG.error("%s failed: %s", self._link, message["text"])

    def _on_forked(self, message: channels.Message) -> None:
        slot = self._answered(message)
        if slot is None:
            return
        slot.pid = message["pid"]
        if slot.stage is Stage.FORKING:
            slot.stage = Stage.BOOTING
            self._on_born(slot)

    def _on_born(self, slot: Slot) -> None:
        """Its pid is known now: the zygote has said so, or the worker itself if the zygote could not any more."""
        slot.kill_at = slot.born + self.settings.boot_deadline
        if self._killed:
            self._kill(slot)
        elif slot.leaving:
            self._send_signal(slot, self._leave_by)

    def _on_not_forked(self, message: channels.Message) -> None:
        slot = self._answered(message)
        if slot is not None:
            self._close_report(slot)
            slot.late = f"cannot fork: {message['text']}"
            self._bury(slot, None)

    def _on_reaped(self, message: channels.Message) -> None:
        slot = self._answered(message)
        if slot is None or slot.stage is not Stage.REAPING:
            return
        now = self._clock()
        if message["gone"]:
            self._bury(slot, message["code"])
            return
        slot.reap_at = now + REAP_INTERVAL
        if now >= slot.ended + DEATH_DEADLINE:  # it has closed its report, and lives on
            with contextlib.suppress(ProcessLookupError):
                os.kill(slot.pid, signal.SIGKILL)

    def _answered(self, message: channels.Message) -> Slot | None:
        seat = message["seat"]
        self._asked.pop(seat, None)
        return next((slot for slot in self.slots if slot.seat == seat), None)

    def _on_zygote_gone(self) -> None:
        code = self._link.end()
        self._asked.clear()
        if self.phase in BEFORE_SERVING and self.failure is None:
            refusal = self._refusal or Failure(f"the process that loads the configuration {how_it_ended(code)}", 1)
            self.fail(refusal.text, refusal.exit_code)
        elif self.phase is Phase.SERVING:
            LOG.error("%s %s", self._link, how_it_ended(code))
        for slot in list(self.slots):
            if slot.stage is Stage.REAPING or (slot.stage is Stage.FORKING and slot.report_fd < 0):
                self._bury(slot, None)
        self._end_if_empty()

    # Workers

    def seat(self, slot: Slot) -> Seat:
        """The slot's record of the scoreboard."""
        return self._common.board.seat(slot.seat)

    def _fork(self, slot: Slot, now: float) -> None:
        try:
            read_end, write_end = os.pipe()
        except OSError as error:
            slot.begin(-1, now)
            slot.late = f"cannot make a pipe for it: {error.strerror}"
            self._bury(slot, None)
            return
        os.set_blocking(read_end, False)
        self.seat(slot).clear()
        slot.begin(read_end, now)
        self._asked[slot.seat] = now + self._patience
        self._link.tell("fork", [write_end], slot=slot.number, seat=slot.seat)
        os.close(write_end)

    def _send_signal(self, slot: Slot, signum: signal.Signals) -> None:
        if not slot.pid or not slot.alive:
            return
        if signum in protocol.LEAVING:
            slot.stage = Stage.DRAINING
        with contextlib.suppress(ProcessLookupError):
            os.kill(slot.pid, signum)

    def _kill(self, slot: Slot) -> None:
        slot.kill_at = None
        if slot.pid and slot.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(slot.pid, signal.SIGKILL)
            slot.reap_at = self._clock() + DEATH_DEADLINE

    def _read_report(self, slot: Slot) -> None:
        """Take what the worker has said so far, without waiting for more."""
        before = slot.stage
        try:
            while data := os.read(slot.report_fd, protocol.MAX_REPORT):
                slot.hear(data)
        except BlockingIOError:
            pass
        else:
            self._close_report(slot)
            self._on_end(slot)
            return
        if before is Stage.FORKING and slot.stage is not before:
            self._on_born(slot)
        if slot.stage is not before and slot.stage in (Stage.READY, Stage.SERVING):
            slot.kill_at = None

    @staticmethod
    def _close_report(slot: Slot) -> None:
        if slot.report_fd >= 0:
            os.close(slot.report_fd)
            slot.report_fd = -1

    def _on_end(self, slot: Slot) -> None:
        """The report has ended: the worker has, or will have in a moment."""
        asked_to_fork = slot.stage is Stage.FORKING
        slot.stage, slot.kill_at, slot.ended = Stage.REAPING, None, self._clock()
        if self.zygote_gone:
            self._bury(slot, None)
        elif asked_to_fork and not slot.pid:
            slot.reap_at = self._clock() + REAP_INTERVAL  # its pid is on the way
        else:
            self._reap(slot, self._clock())

    def _reap(self, slot: Slot, now: float) -> None:
        slot.stage, slot.reap_at = Stage.REAPING, None
        if not slot.pid or len(self._asked) >= MOST_ASKED and not self._link.ending:
            slot.reap_at = now + REAP_INTERVAL
        elif self._link.tell("reap", seat=slot.seat, pid=slot.pid):
            self._asked[slot.seat] = now + self._patience
        elif self.zygote_gone:
            self._bury(slot, None)
        else:  # it ends, and then whoever inherits its children reaps
            slot.reap_at = now + REAP_INTERVAL

    @property
    def _patience(self) -> float:
        """For an answer: who wants to leave does not wait long for the dead."""
        return HASTY_DEADLINE if self.phase is Phase.RETIRING else ANSWER_DEADLINE

    def _bury(self, slot: Slot, code: int | None) -> None:
        """Account for a worker that is gone, and plan its replacement."""
        self._close_report(slot)
        served = self._common.served
        served[slot.number] = served.get(slot.number, 0) + self.seat(slot).read().requests
        self.seat(slot).clear()
        pid, slot.pid, slot.stage, slot.reap_at = slot.pid, 0, Stage.WAITING, None
        if slot.leaving:
            self._forget(slot)
            return
        lived, now = self._clock() - slot.born, self._clock()
        slot.reason = slot.late or slot.failure()[0] or how_it_ended(code)
        if not slot.lived:
            self._on_failed_boot(slot, pid, code)
            if self.phase is not Phase.SERVING:
                return
        slot.restarts += 1
        delay = slot.backoff.delay(lived)
        slot.due = now + delay
        LOG.error("Worker %d (pid %d) %s; its replacement starts %s", slot.number, pid,
                  slot.late if code is None and slot.late else how_it_ended(code),
                  f"in {delay:.1f} s" if delay else "now")  # fmt: skip

    def _forget(self, slot: Slot) -> None:
        self.slots.remove(slot)
        self._common.free_seats.append(slot.seat)
        self._end_if_empty()

    def _end_if_empty(self) -> None:
        if self.phase is Phase.RETIRING and not self.slots:
            self.phase = Phase.ENDED

    def _on_failed_boot(self, slot: Slot, pid: int, code: int | None) -> None:
        """Say why, once per reason. A generation that cannot get enough workers has failed."""
        reason, trace = slot.failure()
        reason = reason or slot.late or f"it {how_it_ended(code)} before it was ready"
        if reason not in self._reasons:
            self._reasons.add(reason)
            LOG.error("Worker %d (pid %d) cannot start: %s\n%s", slot.number, pid, reason, trace)
        slot.boot_failed = True
        if self.phase is not Phase.STARTING:
            return
        needed = len(self.slots) if self._needed is None else self._needed
        if sum(not each.boot_failed for each in self.slots) < needed:
            who = "no worker" if all(each.boot_failed for each in self.slots) else "not every worker"
            self.fail(f"ERROR: {who} could start: {'; '.join(sorted(self._reasons))}")

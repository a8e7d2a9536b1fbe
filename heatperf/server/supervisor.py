"""The supervisor: starts generations, replaces one by the next, watches, and stops them.

Comes in: the name of a factory, signals, requests on the control socket. Goes out: an exit code. Runs in the process
the operator started, on its main thread. It imports nothing of what it serves, and reads no configuration: each
generation does that in a process of its own (see generation.py and zygote.py), so nothing that is wrong with a
configuration, or with a package that it names, can harm this process.

One loop does what is due, computes the next deadline, polls, and deals with what came:

    TERM, QUIT  nobody new gets in; workers answer what the kernel has accepted; killed after drain_timeout
    INT         stop now
    HUP         reload: a new generation; it replaces this one when it can serve, and is dropped when it cannot
    TTIN, TTOU  one worker more or less, until the next reload
    USR1        nothing
    USR2        every worker writes a report, if the application has set one up
    CHLD        reap

Reload, step by step: the zygote of the new generation loads; the supervisor opens what addresses are new; the workers
boot; when all are ready the gate opens and they accept beside the old ones, from the same sockets; then the old ones
drain. Until the gate opens, whatever fails leaves the old generation as it was.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from heatperf.errors import ConfigurationError
from heatperf.server import activation, limits, sockets
from heatperf.server import worker_protocol as protocol
from heatperf.server.backoff import Backoff
from heatperf.server.child import EXIT_FAILED, EXIT_OK
from heatperf.server.control import ControlServer, Request
from heatperf.server.generation import Common, Failure, Generation, Phase
from heatperf.server.notify import Notifier
from heatperf.server.relay import Relay, write_stderr
from heatperf.server.scoreboard import Scoreboard
from heatperf.server.settings import Specification
from heatperf.server.side import Side
from heatperf.server.signals import Signals
from heatperf.server.sizing import MAXIMUM, counted
from heatperf.server.slot import Clock, Stage
from heatperf.server.tally import status_of

LOG = logging.getLogger("heatperf.server")

# How long workers may take to leave after INT before they are killed.
QUICK_STOP = 2.0
# How often heartbeats are looked at, in seconds.
LOOK = 1.0
# Between two attempts at an address that another process has.
RETRY_INTERVAL = 0.25
# Generations alive at the same time: one serves, one starts, the others drain. Another reload waits for its turn.
MAX_GENERATIONS = 4
# How long the new workers get to accept once the gate is open, before the old ones are told to drain all the same.
HANDOVER = 5.0
# How long a zygote may take to leave.
FAREWELL = 3.0
# What a shell expects of a program that Ctrl-C has ended before it did anything.
EXIT_INTERRUPTED = 128 + signal.SIGINT


def serve(
    entry: str,
    arguments: dict[str, Any],
    control: Path | None = None,
    insist: bool = False,
    sides: Sequence[Specification] = (),
) -> int:
    """Serve until told to stop.

    :param entry: "module:function" of an application.Factory, imported by each generation
    :param arguments: for the factory; JSON
    :param control: path of the control socket; None for none
    :param insist: refuse to start where the control socket cannot be made, instead of going on without
    :param sides: processes that the application needs beside its workers whatever the configuration says
    :returns: 0 after TERM, 1 when no worker could start, 2 for a configuration that cannot be used, 130 when INT came
        before there was a worker; what the factory's SystemExit says
    :raises ConfigurationError: the sockets that came with the process, or the control socket, cannot be used
    """
    with Signals() as signals:
        inherited = sockets.inherit(activation.inherited(os.environ))
        notifier = Notifier()
        supervisor = Supervisor(entry, arguments, inherited, signals, notifier, control, sides)
        relay = Relay(supervisor.log)
        root = logging.getLogger()
        root.addHandler(relay)
        root.setLevel(logging.DEBUG)
        try:
            before, now = limits.raise_nofile()
            LOG.debug("Limit of open files: %d, was %d", now, before)
            if insist:
                supervisor.open_control()
            return supervisor.run()
        finally:
            root.removeHandler(relay)


class Supervisor:
    """The generations and what happens to them."""

    def __init__(
        self,
        entry: str,
        arguments: dict[str, Any],
        inherited: list[sockets.Listener],
        signals: Signals,
        notifier: Notifier,
        control: Path | None = None,
        sides: Sequence[Specification] = (),
    ) -> None:
        self.current: Generation | None = None
        self.candidate: Generation | None = None
        self.generations: list[Generation] = []  # all that have a process, the two above included
        self.listeners: list[sockets.Listener] = list(inherited)
        self.announced = False  # a worker has served
        self.stopping = False
        self.clock = Clock(2 * LOOK)
        self.born = self.clock()
        self.sides: list[Side] = []
        self._lasting = list(sides)
        self.reloads_done = self.reloads_refused = 0
        self.last_reload: tuple[float, bool, str] | None = None  # when, whether it was done, why not
        self._entry = entry
        self._arguments = arguments
        self._inherited = inherited
        self._signals = signals
        self._notifier = notifier
        self._control_path = control
        self._control: ControlServer | None = None
        self._exit_code = EXIT_OK
        self._number = 0
        self._reload_wanted = True  # the first generation is one, too
        self._reload_at = 0.0
        self._waiting: list[Request] = []  # for the reload that has not begun
        self._clients: list[Request] = []  # for the one under way
        self._listen_by: float | None = None
        self._retry_at = 0.0
        self._predecessor: Generation | None = None  # serves until the current one does
        self._handover_by = 0.0
        self._rebirth = Backoff()
        self._departing: list[tuple[subprocess.Popen[bytes], float]] = []  # zygotes, and when to kill them
        self._look_at = 0.0
        self._watchdog_at = 0.0
        self._lifeline = os.pipe()
        board = Scoreboard.create((MAX_GENERATIONS + 1) * MAXIMUM)
        self.common = Common(self._lifeline[0], board, list(range((MAX_GENERATIONS + 1) * MAXIMUM))[::-1], self.clock)

    def open_control(self) -> None:
        """
        :raises ConfigurationError: the control socket cannot be made
        """
        if self._control_path is not None and self._control is None:
            self._control = ControlServer.open(self._control_path)

    def run(self) -> int:
        """Start a generation and keep the service up until told to stop; no process is left when it returns or raises.

        :returns: exit code, see serve
        """
        try:
            while True:
                self._settle()
                if self.stopping and not self.generations and all(side.ended for side in self.sides):
                    return self._exit_code
                self._wait()
        finally:
            self._leave()

    def _leave(self) -> None:
        sockets.close(self.listeners)
        for generation in self.generations:
            self._departing.append((generation.dismiss(), 0.0))
        for side in self.sides:
            side.kill()
        for process, _kill_at in self._departing:
            try:
                process.wait(FAREWELL)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for end in self._lifeline:
            os.close(end)
        if self._control is not None:
            self._control.close()
        self._notifier.close()

    def log(self, record: dict[str, Any]) -> bool:
        """Write a log record the way the generation that serves is configured; whether that was possible."""
        for generation in (self.current, self.candidate, *self.generations):
            if generation is not None and generation.log(record):
                return True
        return False

    @property
    def _parts(self) -> list[Generation | Side]:
        return [*self.generations, *self.sides]

    # Waiting

    def _wait(self) -> None:
        """Sleep until something comes or the next deadline, and deal with what came."""
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        for fd in self._control.descriptors() if self._control is not None else ():
            poll.register(fd, select.POLLIN)
        for part in self._parts:
            for fd in part.descriptors():
                poll.register(fd, select.POLLIN)
        deadline = min(self._deadlines())
        # Rounded up, or the loop would spin through the last millisecond.
        ready = [fd for fd, _events in poll.poll(max(0, int((deadline - self.clock()) * 1000) + 1))]
        for signum in self._signals.read():
            self._on_signal(signum)
        for fd in ready:
            any(part.on_readable(fd) for part in self._parts)
        if self._control is not None:
            for request in self._control.ready(ready):
                self._on_request(request)

    def _deadlines(self) -> Iterator[float]:
        yield self._look_at
        if self._watchdog_at:
            yield self._watchdog_at
        if self._listen_by is not None:
            yield self._retry_at
        if self._reload_wanted and self._may_begin:
            yield self._reload_at
        if self._predecessor is not None:
            yield self._handover_by
        if self._control is not None and (moment := self._control.deadline()) is not None:
            yield self.clock() + moment - time.monotonic()
        for part in self._parts:
            yield from part.deadlines()

    # What follows from the state of things

    def _settle(self) -> None:
        now = self.clock()
        for generation in self.generations:
            generation.tick(now)
            if now >= self._look_at:
                generation.look_at_heartbeats(now)
        if now >= self._look_at:
            self._look_at = now + LOOK
        self._settle_sides(now)
        if not self.stopping:
            self._settle_candidate(now)
            self._settle_current(now)
        self._clear_away(now)
        self._tell_service_manager(now)

    def _settle_sides(self, now: float) -> None:
        """Have the side processes that any generation wants; those that none wants any more end."""
        wanted = [*self._lasting, *(side for each in self.generations for side in each.settings.sides)]
        if self.stopping and not self.generations:
            wanted = []
        for side in list(self.sides):
            side.tick(now)
            if side.specification not in wanted:
                side.stop(now)
                if side.ended and not self.stopping:
                    self.sides.remove(side)
            elif side.failure is not None and not self.stopping:
                if self.current is None:
                    self._give_up(side.failure)
                else:
                    side.retry()
        known = [side.specification for side in self.sides]
        for specification in wanted:
            if specification not in known and not self.stopping:
                known.append(specification)
                self.sides.append(Side(specification, self.clock))

    def _settle_candidate(self, now: float) -> None:
        candidate = self.candidate
        if candidate is None:
            if self._reload_wanted and now >= self._reload_at and self._may_begin:
                self._begin()
        elif candidate.failure is not None:
            self._drop(candidate, candidate.failure)
        elif candidate.phase is Phase.LOADED:
            self._open_listeners(candidate, now)
        elif candidate.acceptable and (self.current is not None or all(side.ready for side in self.sides)):
            self._commit(candidate, now)

    def _settle_current(self, now: float) -> None:
        current = self.current
        if current is None:
            return
        serving = current.count(Stage.SERVING)
        if serving and not self.announced:
            self.announced = True
            for listener in self.listeners:
                LOG.info("Starting %s on %s", self.title, listener.bind)
            try:
                self.open_control()
                if self._control is None:
                    LOG.info("There is no control socket; signals reload and stop this server")
            except ConfigurationError as error:  # nobody has asked for it
                LOG.warning("heatperf reload, stop and status cannot reach this server: %s", error)
        if self._predecessor is not None:
            if serving >= current.workers or (serving and now >= self._handover_by):
                self._hand_over(self._predecessor, current)
            elif now >= self._handover_by:
                self._fall_back(self._predecessor, current)
        if current.zygote_gone and not self._reload_wanted and self.candidate is None:
            delay = self._rebirth.delay(now - self._reload_at)
            LOG.error("Workers cannot be replaced without it; loading a new generation %s",
                      f"in {delay:.1f} s" if delay else "now")  # fmt: skip
            self._reload_wanted, self._reload_at = True, now + delay

    def _clear_away(self, now: float) -> None:
        for generation in [each for each in self.generations if each.phase is Phase.ENDED]:
            if generation is self.candidate:
                continue  # failed; _drop has yet to say so
            self.generations.remove(generation)
            self._departing.append((generation.dismiss(), now + FAREWELL))
        self._departing = [(process, kill_at) for process, kill_at in self._departing if process.poll() is None]
        for process, kill_at in self._departing:
            if now >= kill_at:
                process.kill()
        if os.getpid() == 1:
            self._reap_strangers()

    def _reap_strangers(self) -> None:
        """As process 1 of a container, be the parent of whatever has lost its own."""
        ours = {process.pid for process, _kill_at in self._departing} | {part.pid for part in self._parts}
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in ours:  # ours are waited for where they belong; then look again
                return
            os.waitpid(found.si_pid, 0)

    @property
    def title(self) -> str:
        """What is served, for the log."""
        return self.current.settings.title if self.current is not None else "heatperf"

    # Generations

    @property
    def _may_begin(self) -> bool:
        """Whether there is room for another generation, and the latest has taken over completely."""
        return self.candidate is None and self._predecessor is None and len(self.generations) < MAX_GENERATIONS

    def _begin(self) -> None:
        """Start to load."""
        self._reload_wanted = False
        self._reload_at = self.clock()
        self._clients, self._waiting = self._waiting, []
        self._number += 1
        first = self.current is None
        arguments = {
            **self._arguments,
            "first": first,
            "inherited": [str(listener.bind) for listener in self._inherited],
        }
        if not first:
            LOG.info("Reloading: loading generation %d", self._number)
            self._notifier.reloading()
        # At the start one worker is enough to serve, and a slot that fails is tried again beside it. A reload has
        # something to lose, and must be as good as what it replaces.
        needed = 1 if first else None
        try:
            self.candidate = Generation(self._number, self._entry, arguments, self.common, needed)
        except OSError as error:
            self._refuse(Failure(f"ERROR: cannot start a process: {error.strerror}", EXIT_FAILED))
        else:
            self.generations.append(self.candidate)

    def _open_listeners(self, candidate: Generation, now: float) -> None:
        if now < self._retry_at:
            return
        if self._listen_by is None:
            # A predecessor may be about to leave the address: another server at a start, at a reload one of our own
            # generations that drains.
            patient = self.current is None or len(self.generations) > 2
            self._listen_by = now + (candidate.settings.bind_retry if patient else 0.0)
        try:
            listeners = self._inherited or sockets.listen(candidate.settings, self.listeners, candidate.places)
        except ConfigurationError as error:
            if isinstance(error, sockets.Taken) and now < self._listen_by:
                if not self._retry_at:
                    LOG.warning("%s; trying for %.0f s", error.message, candidate.settings.bind_retry)
                self._retry_at = now + RETRY_INTERVAL
                return
            candidate.refuse(error.message, error.remedy, error.option)
        except OSError as error:  # no descriptor to be had
            candidate.refuse(f"cannot listen: {error.strerror}", None, None)
        else:
            candidate.start(listeners)
        self._listen_by, self._retry_at = None, 0.0

    def _drop(self, candidate: Generation, failure: Failure) -> None:
        """It cannot serve; what serves goes on."""
        self.candidate = None
        self._listen_by, self._retry_at = None, 0.0
        sockets.close([listener for listener in candidate.listeners if listener not in self.listeners])
        self._refuse(failure)

    def _refuse(self, failure: Failure) -> None:
        if self.current is None:
            self._give_up(failure)
            return
        self.reloads_refused += 1
        reason = failure.text.strip() or "see the log"
        self.last_reload = (self.clock(), False, reason)
        LOG.error("Reload refused, generation %d serves on: %s", self.current.number, reason)
        for client in self._clients:
            client.reply(False, reason, generation=self.current.number)
        self._clients = []
        self._notifier.reloaded(self.summary())

    def _give_up(self, failure: Failure) -> None:
        """There is nothing that could serve."""
        if failure.text:
            write_stderr(failure.text.rstrip())
        self._stop(signal.SIGTERM, 0.0)
        self._exit_code = failure.exit_code

    def _commit(self, candidate: Generation, now: float) -> None:
        """All is ready: from here on the new generation serves."""
        self._predecessor, self.current, self.candidate = self.current, candidate, None
        self._handover_by = now + HANDOVER
        if not self._inherited:
            for listener, place in zip(candidate.listeners, candidate.places, strict=True):
                if listener in self.listeners:
                    sockets.adopt(listener, place, candidate.settings)
        if self._predecessor is None:
            self.listeners = list(candidate.listeners)
        candidate.open_gate()

    def _hand_over(self, predecessor: Generation, current: Generation) -> None:
        """The new one serves; let the old one finish."""
        self._predecessor = None
        leftover = [listener for listener in self.listeners if listener not in current.listeners]
        sockets.plug(leftover)
        self.listeners = list(current.listeners)
        # Where nobody else accepts any more, they must: see worker.ACCEPT_GRACE.
        how = protocol.DRAIN if leftover else protocol.HAND_OVER
        predecessor.retire(how, current.settings.drain_timeout)
        sockets.close(leftover)
        self.reloads_done += 1
        self.last_reload = (self.clock(), True, "")
        text = f"generation {current.number} serves with {counted(current.workers)}"
        LOG.info("Reloaded: %s", text)
        for client in self._clients:
            client.reply(True, text, generation=current.number)
        self._clients = []
        self._notifier.reloaded(self.summary())

    def _fall_back(self, predecessor: Generation, current: Generation) -> None:
        """All were ready, and none serves: what still serves goes on."""
        self._predecessor, self.current = None, predecessor
        reasons = sorted({slot.reason for slot in current.slots if slot.reason})
        current.kill()
        sockets.close([listener for listener in current.listeners if listener not in self.listeners])
        reason = "; ".join(reasons) or f"nobody accepted a connection within {HANDOVER:g} s"
        self._refuse(Failure(f"ERROR: its workers were ready and do not serve: {reason}", EXIT_FAILED))

    # Signals and requests

    def _on_signal(self, signum: int) -> None:
        if signum in (signal.SIGTERM, signal.SIGQUIT):
            self._stop(protocol.DRAIN, self._drain_timeout)
        elif signum == signal.SIGINT:
            self._stop(protocol.QUIT, QUICK_STOP)
        elif signum == signal.SIGHUP:
            self._reload(None)
        elif signum in (signal.SIGTTIN, signal.SIGTTOU):
            self._resize(1 if signum == signal.SIGTTIN else -1)
        elif signum == signal.SIGUSR2 and self.current is not None:
            self.current.signal_workers(protocol.WRITE_REPORT)

    @property
    def _drain_timeout(self) -> float:
        return self.current.settings.drain_timeout if self.current is not None else 0.0

    def _on_request(self, request: Request) -> None:
        if request.command == "status":
            request.reply(True, status=status_of(self))
        elif request.command == "stop":
            request.hold("stopping")
            self._stop(protocol.DRAIN, self._drain_timeout)
        elif self.stopping:
            request.reply(False, "the server is stopping")
        else:
            self._reload(request)

    def _reload(self, request: Request | None) -> None:
        """Reload as soon as nothing else is being loaded: what is under way may have read the files already."""
        if self.stopping or (self.current is None and request is None and self.candidate is None):
            return
        self._reload_wanted, self._reload_at = True, 0.0
        if request is not None:
            self._waiting.append(request)

    def _resize(self, difference: int) -> None:
        current = self.current
        if current is None or self.stopping:
            return
        wanted = min(MAXIMUM, max(1, current.workers + difference))
        LOG.info("%s instead of %d, until the next reload", counted(wanted), current.workers)
        current.resize(wanted)

    def _stop(self, signum: signal.Signals, patience: float) -> None:
        """Begin to stop, or, with INT during a drain, stop faster."""
        if self.stopping and signum is not protocol.QUIT:
            return
        if not self.stopping:
            self.stopping = True
            self._begin_to_stop(signum)
        for generation in self.generations:
            if generation.phase not in (Phase.RETIRING, Phase.ENDED) or signum is protocol.QUIT:
                generation.retire(signum, patience)

    def _begin_to_stop(self, signum: signal.Signals) -> None:
        if self.current is not None:
            LOG.info("Stopping %s (%s)", self.title, signum.name)
        elif self.candidate is not None:
            LOG.info("Stopping (%s) before it could start", signum.name)
            self._exit_code = EXIT_INTERRUPTED if signum is protocol.QUIT else EXIT_OK
        self._notifier.stopping("Stopping")
        for client in self._clients + self._waiting:
            client.reply(False, "the server is stopping")
        self._clients = self._waiting = []
        self._reload_wanted = False
        if self._predecessor is not None and self.current is not None:  # what either of them serves from
            self.listeners += [listener for listener in self.current.listeners if listener not in self.listeners]
        self._predecessor = self._listen_by = None
        # Before the workers empty the queue: nobody may come in behind them.
        sockets.plug(self.listeners)
        candidate, self.candidate = self.candidate, None
        if candidate is not None:
            candidate.kill()
            sockets.close([listener for listener in candidate.listeners if listener not in self.listeners])
        sockets.close(self.listeners)
        self.listeners = []

    # Telling

    def summary(self) -> str:
        """One line on how things are, for systemctl status."""
        current = self.current
        if current is None:
            return "Starting"
        serving, workers = current.count(Stage.SERVING), current.workers
        text = f"Serving with {counted(workers)}"
        if serving < workers:
            text = f"Degraded: {serving} of {counted(workers)} serving"
            if reasons := {slot.reason for slot in current.slots if slot.reason and slot.stage is not Stage.SERVING}:
                text += f" ({', '.join(sorted(reasons))})"
        if current.zygote_gone:
            text += "; workers cannot be replaced until a reload succeeds"
        for side in self.sides:
            if not side.ready:
                text += f"; the {side.specification.name} is not running"
        if self.last_reload is not None and not self.last_reload[1]:
            text += f"; reload refused: {self.last_reload[2].splitlines()[-1]}"
        return text

    def _tell_service_manager(self, now: float) -> None:
        if self.announced and not self.stopping and self.candidate is None and self._predecessor is None:
            self._notifier.ready(self.summary())
            self._notifier.status(self.summary())
        interval = self._notifier.watchdog_interval
        if interval is not None and now >= self._watchdog_at:
            self._watchdog_at = now + interval
            self._notifier.watchdog()

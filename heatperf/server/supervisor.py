"""The supervisor: forks workers of the loaded application, replaces the dead, drains and stops them.

Comes in: ServerSettings and an Application built by the caller. Goes out: an exit code. Raises ConfigurationError while
nothing has been forked yet. Runs in the process the operator started, on its main thread; it never creates a loop, a
connection or a thread, because its workers would inherit halves of them.

Signals only write a byte into a socket (see signals). One loop starts what is due, computes the next deadline, polls,
and deals with what came:

    TERM  stop accepting, let workers answer what they have begun, kill those still alive after drain_timeout
    INT   stop now
    CHLD  reap, and plan a replacement
    HUP   noted; reloading comes with a later version
    USR2  the handler that the caller has installed (the guru meditation report) runs because poll wakes for it, here
          and in workers; without a handler it is ignored in all of them

TERM and INT count from the first line of serve: what waits for a taken address ends for them too.

Threads that the caller has started (oslo.reports' file watcher is one) stay in this process, since fork copies the
calling thread alone; workers do not have them. Signals may reach such a thread instead of the main one, which changes
nothing: the byte arrives all the same. A lock that it holds at the moment of the fork stays locked in the worker; one
that cannot get ready for it is killed at boot_deadline and replaced.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import ssl
import sys
import time
from dataclasses import dataclass, field

from heatperf import loops
from heatperf.server import sockets, worker
from heatperf.server.application import Application
from heatperf.server.backoff import Backoff
from heatperf.server.notify import notify
from heatperf.server.settings import ServerSettings
from heatperf.server.signals import HANDLED, Signals, Stopped
from heatperf.server.sizing import counted

LOG = logging.getLogger("heatperf.server")

# How long workers may take to leave after INT before they are killed.
QUICK_STOP = 2.0
EXIT_OK, EXIT_NO_WORKER = 0, 1
# What a shell expects of a program that Ctrl-C has ended before it did anything.
EXIT_INTERRUPTED = 128 + signal.SIGINT


def serve(settings: ServerSettings, application: Application) -> int:
    """Serve until told to stop.

    :returns: 0 after TERM or INT, 1 when no worker could start, 130 when INT ended the wait for a taken address
    :raises ConfigurationError: TLS files, addresses or the loop cannot be used
    """
    loops.check(settings.loop)
    with Signals() as signals:
        ssl_context = sockets.tls_context(settings.tls) if settings.tls is not None else None
        try:
            listeners = sockets.listen(settings, signals.pause)
        except Stopped as stopped:
            LOG.info("Stopping %s (%s) before it could start", settings.title, stopped.signum.name)
            return EXIT_INTERRUPTED if stopped.signum is signal.SIGINT else EXIT_OK
        supervisor = Supervisor(settings, application, listeners, ssl_context, signals)
        try:
            loops.preload(settings.loop)
            return supervisor.run()
        finally:
            supervisor.close_listeners()


@dataclass
class Slot:
    """The place of one worker; the number stays when the process changes."""

    number: int
    pid: int = 0  # 0: nobody here
    born: float = 0.0
    ready: bool = False
    overdue: bool = False  # killed for not getting ready; only waited for
    report_fd: int = -1
    report: bytes = b""
    due: float | None = 0.0  # when to fork the next worker; None: not planned
    boot_failed: bool = False
    backoff: Backoff = field(default_factory=Backoff)


class Supervisor:
    """The slots and what happens to them.

    :param listeners: open; closed by close_listeners, which run calls when it begins to stop
    :param ssl_context: for every connection, None for plain HTTP
    :param signals: entered, and left by the caller after run
    """

    def __init__(
        self,
        settings: ServerSettings,
        application: Application,
        listeners: list[sockets.Listener],
        ssl_context: ssl.SSLContext | None,
        signals: Signals,
    ) -> None:
        self.settings = settings
        self.application = application
        self.slots = [Slot(number) for number in range(max(1, settings.workers))]
        self._listeners = listeners
        self._ssl_context = ssl_context
        self._announced = False  # a worker has been ready
        self._stopping = False
        self._kill_at: float | None = None
        self._reasons: set[str] = set()
        self._exit_code = EXIT_OK
        self._lifeline: tuple[int, int] = (-1, -1)
        self._signals = signals

    def run(self) -> int:
        """Fork the workers and keep them until told to stop; no worker is left when it returns or raises.

        :returns: exit code, see serve
        """
        self._lifeline = os.pipe()
        # What exists now is shared with the workers: keep the collector from touching, and so copying, its pages.
        gc.collect()
        gc.freeze()
        try:
            self._loop()
        finally:
            self._kill_all()
            for end in self._lifeline:
                os.close(end)
        return self._exit_code

    def _loop(self) -> None:
        while True:
            self._start_due()
            if self._stopping and not any(slot.pid for slot in self.slots):
                return
            for signum in self._wait():
                self._on_signal(signum)
            self._read_reports()
            self._reap()
            self._enforce_deadlines()

    # Waiting

    def _wait(self) -> set[int]:
        """Sleep until a signal, a report or the next deadline. Returns the signals that arrived."""
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        for slot in self.slots:
            if slot.report_fd >= 0:
                poll.register(slot.report_fd, select.POLLIN)
        deadline = self._next_deadline()
        # Rounded up, or the loop would spin through the last millisecond.
        timeout = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000) + 1)
        poll.poll(timeout)
        return self._signals.read()

    def _next_deadline(self) -> float | None:
        moments = [slot.due for slot in self.slots if slot.due is not None and not self._stopping]
        moments += [self._boot_deadline(slot) for slot in self.slots if self._boots(slot)]
        if self._kill_at is not None:
            moments.append(self._kill_at)
        return min(moments, default=None)

    @staticmethod
    def _boots(slot: Slot) -> bool:
        return bool(slot.pid) and not slot.ready and not slot.overdue

    def _boot_deadline(self, slot: Slot) -> float:
        return slot.born + self.settings.boot_deadline

    def _enforce_deadlines(self) -> None:
        now = time.monotonic()
        for slot in self.slots:
            if self._boots(slot) and now >= self._boot_deadline(slot):
                slot.overdue = True
                self._kill(slot, signal.SIGKILL)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            for slot in self.slots:
                if slot.pid:
                    LOG.warning("Worker %d (pid %d) is still busy and is killed", slot.number, slot.pid)
                    self._kill(slot, signal.SIGKILL)

    # Signals

    def _on_signal(self, signum: int) -> None:
        if signum == signal.SIGTERM:
            self._stop(signal.SIGTERM, self.settings.drain_timeout)
        elif signum == signal.SIGINT:
            self._stop(signal.SIGINT, QUICK_STOP)

    def _stop(self, signum: signal.Signals, patience: float) -> None:
        """Begin to stop, or, with INT during a drain, stop faster."""
        if self._stopping and signum is signal.SIGTERM:
            return
        if not self._stopping:
            LOG.info("Stopping %s (%s)", self.settings.title, signum.name)
            notify("STOPPING=1")
        self._stopping = True
        # Before the workers close theirs: from here on the kernel refuses new connections as soon as they have.
        self.close_listeners()
        self._kill_at = time.monotonic() + patience
        for slot in self.slots:
            slot.due = None
            if slot.pid:
                self._kill(slot, signum)

    def close_listeners(self) -> None:
        """Close this process's copies of the listeners and remove unix socket files; later calls do nothing."""
        listeners, self._listeners = self._listeners, []
        sockets.close(listeners)

    # Workers

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in self.slots:
            if slot.due is not None and slot.due <= now and not slot.pid:
                self._fork(slot)

    def _fork(self, slot: Slot) -> None:
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        # Until the child has its own handlers, a signal must wait: ours would write into the supervisor's pipe.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            pid = os.fork()
            if pid == 0:
                self._become_worker(slot, write_end, read_end)
        except OSError as exc:
            delay = slot.backoff.delay(0.0)
            LOG.error("Cannot fork worker %d: %s; trying again in %.0f s", slot.number, exc.strerror, delay or 1.0)
            slot.due = time.monotonic() + (delay or 1.0)
            os.close(read_end)
            os.close(write_end)
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(write_end)
        slot.pid, slot.born, slot.due = pid, time.monotonic(), None
        slot.ready, slot.overdue, slot.report_fd, slot.report = False, False, read_end, b""
        LOG.debug("Worker %d is pid %d", slot.number, pid)

    def _become_worker(self, slot: Slot, report_fd: int, read_end: int) -> None:
        """In the child; never returns."""
        code = worker.EXIT_CRASHED
        try:
            self._signals.forget()
            # A copy of the lifeline's writing end would keep siblings from seeing the supervisor die.
            os.close(self._lifeline[1])
            for fd in [read_end] + [other.report_fd for other in self.slots if other.report_fd >= 0]:
                os.close(fd)
            code = worker.main(
                slot.number, self.settings, self.application, self._listeners, self._ssl_context,
                report_fd, self._lifeline[0],
            )  # fmt: skip
        except BaseException:
            LOG.exception("Worker %d crashed", slot.number)
        finally:
            worker.leave(code)

    def _read_reports(self) -> None:
        for slot in self.slots:
            if slot.report_fd >= 0:
                self._read_report(slot)

    def _read_report(self, slot: Slot) -> None:
        """Take what the worker has said so far, without waiting for more."""
        try:
            while data := os.read(slot.report_fd, worker.MAX_REPORT):
                slot.report += data
        except BlockingIOError:
            return
        finally:
            if slot.report == worker.READY and not slot.ready:
                self._on_ready(slot)
        self._close_report(slot)

    @staticmethod
    def _close_report(slot: Slot) -> None:
        if slot.report_fd >= 0:
            os.close(slot.report_fd)
            slot.report_fd = -1

    def _on_ready(self, slot: Slot) -> None:
        slot.ready = True
        if self._announced or self._stopping:
            return
        self._announced = True
        for listener in self._listeners:
            LOG.info("Starting %s on %s", self.settings.title, listener.bind)
        notify(f"READY=1\nSTATUS=Serving with {counted(len(self.slots))}")
        now = time.monotonic()
        for other in self.slots:
            if other.boot_failed:
                other.boot_failed = False
                other.due = now + other.backoff.delay(0.0)

    def _reap(self) -> None:
        # By pid, never waitpid(-1): the application may have child processes of its own.
        for slot in self.slots:
            if not slot.pid:
                continue
            try:
                pid, status = os.waitpid(slot.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = slot.pid, 0
            if pid:
                if slot.report_fd >= 0:
                    self._read_report(slot)
                    self._close_report(slot)
                self._on_death(slot, os.waitstatus_to_exitcode(status))

    def _on_death(self, slot: Slot, code: int) -> None:
        """Plan the replacement. ``code`` is negative for a signal."""
        pid, slot.pid = slot.pid, 0
        if self._stopping:
            return
        if not slot.ready:
            self._on_failed_boot(slot, pid, code)
            if not self._announced:
                return
        delay = slot.backoff.delay(time.monotonic() - slot.born)
        slot.due = time.monotonic() + delay
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"left with exit code {code}"
        LOG.error("Worker %d (pid %d) %s; its replacement starts %s", slot.number, pid, how,
                  f"in {delay:.0f} s" if delay else "now")  # fmt: skip

    def _on_failed_boot(self, slot: Slot, pid: int, code: int) -> None:
        """Say why, once per reason. Before any worker has been ready, failing everywhere means giving up."""
        text = slot.report[1:].decode("utf-8", "replace") if slot.report[:1] == worker.FAILED else ""
        reason, _, trace = text.partition("\n")
        if not reason and slot.overdue:
            reason = f"it was not ready within {self.settings.boot_deadline:g} s"
        reason = reason or f"it ended with {'signal' if code < 0 else 'exit code'} {abs(code)} before it was ready"
        if reason not in self._reasons:
            self._reasons.add(reason)
            LOG.error("Worker %d (pid %d) cannot start: %s\n%s", slot.number, pid, reason, trace.strip())
        if not self._announced:
            slot.boot_failed = True
            self._give_up_if_none_left()

    def _give_up_if_none_left(self) -> None:
        if not all(slot.boot_failed for slot in self.slots) or any(slot.pid for slot in self.slots):
            return
        self._exit_code = EXIT_NO_WORKER
        self._stopping = True
        reasons = "; ".join(sorted(self._reasons))
        print(f"ERROR: no worker could start: {reasons}", file=sys.stderr, flush=True)

    def _kill(self, slot: Slot, signum: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(slot.pid, signum)

    def _kill_all(self) -> None:
        """Leave no worker behind, also when the supervisor itself fails."""
        for slot in self.slots:
            if slot.pid:
                self._kill(slot, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(slot.pid, 0)
                slot.pid = 0

"""One worker process: start the application on a loop, serve, drain, leave.

Comes in: what the supervisor prepared before the fork. Goes out: a report on a pipe (READY, or FAILED with the reason),
answers to clients, an exit code. Everything here runs in the worker, on its main thread.

It leaves on TERM (drain), on INT (at once) and when the supervisor is gone, which it sees as the end of a pipe that
only the supervisor holds open: the kernel closes it however the supervisor dies.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import ssl
import sys
import threading
import traceback

from heatperf import loops
from heatperf.loops.connection import HttpServer
from heatperf.server.application import Application
from heatperf.server.settings import ServerSettings
from heatperf.server.sockets import Listener

LOG = logging.getLogger("heatperf.server")

READY, FAILED = b"R", b"F"
EXIT_OK, EXIT_CRASHED, EXIT_BOOT_FAILED = 0, 1, 3
MAX_REPORT = 16_384
# The supervisor kills at drain_timeout; a worker without one ends itself a moment later.
DRAIN_SLACK = 1.0
# How long the last words may take, in seconds.
LEAVE_TIMEOUT = 2.0


def main(
    slot: int,
    settings: ServerSettings,
    application: Application,
    listeners: list[Listener],
    ssl_context: ssl.SSLContext | None,
    report_fd: int,
    lifeline_fd: int,
) -> int:
    """Run one worker to its end, with the termination signals still blocked as the supervisor left them for the fork.

    :param slot: stable number of this worker's place
    :param report_fd: pipe to write READY or FAILED to
    :param lifeline_fd: pipe whose end tells that the supervisor is gone
    :returns: exit code for os._exit
    """
    worker = Worker(slot, settings, application, report_fd)
    worker.attach(lifeline_fd)
    return worker.run(listeners, ssl_context)


def leave(code: int) -> None:
    """End the process without running the supervisor's exit handlers, of which the fork made copies.

    :param code: exit code of the process
    """
    # A native thread may hold the lock of a log handler or of a stream for ever (blocked in a write to a full pipe,
    # say), and both steps below take it. A thread keeps the time, because signal handlers run on the one that is stuck.
    bound = threading.Timer(LEAVE_TIMEOUT, os._exit, (code,))
    bound.daemon = True
    with contextlib.suppress(RuntimeError):  # no thread to be had
        bound.start()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


class Worker:
    """The parts of one worker and the order in which they start and end.

    :param slot: stable number of this worker's place, for the log
    :param report_fd: pipe to write READY or FAILED to; closed after that
    """

    def __init__(self, slot: int, settings: ServerSettings, application: Application, report_fd: int) -> None:
        self.slot = slot
        self.settings = settings
        self.application = application
        self.loop = loops.create(settings.loop)
        self.http = HttpServer(self.loop, application.wsgi, settings.limits, settings.access_log)
        self._report_fd = report_fd
        self._serving = False
        self._leaving = False
        self._code = EXIT_OK

    def attach(self, lifeline_fd: int) -> None:
        """Take over the signals, and watch the supervisor."""
        self.loop.on_signal(signal.SIGTERM, self.drain)
        self.loop.on_signal(signal.SIGINT, self.quit)
        # HUP goes to the supervisor; a terminal that closes sends it to the whole process group.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        self.loop.on_readable(lifeline_fd, self._orphaned)

    def run(self, listeners: list[Listener], ssl_context: ssl.SSLContext | None) -> int:
        """Start the application, serve, and come back when drain, quit or a failed start has stopped the loop.

        :param ssl_context: for every connection, None for plain HTTP
        :returns: exit code: EXIT_OK, or EXIT_BOOT_FAILED when the application could not start
        """
        self.loop.spawn(self._boot, listeners, ssl_context)
        self.loop.run()
        return self._code

    def _boot(self, listeners: list[Listener], ssl_context: ssl.SSLContext | None) -> None:
        try:
            self.application.start(self.loop)
        except BaseException as exc:
            self._code = EXIT_BOOT_FAILED
            reason = "".join(traceback.format_exception_only(exc)).strip()
            self._report(FAILED + f"{reason}\n{traceback.format_exc()}".encode("utf-8", "replace"))
            self.loop.stop()
            return
        if self._leaving:
            return
        for listener in listeners:
            self.loop.serve(listener.sock, self.http.handle, ssl_context)
        self._serving = True
        self._report(READY)

    def _report(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more: the lifeline will say so too
            os.write(self._report_fd, message[:MAX_REPORT])
        os.close(self._report_fd)

    def _orphaned(self) -> None:
        LOG.error("The supervisor is gone; worker %d answers what it has begun and leaves", self.slot)
        self.drain()

    def drain(self) -> None:
        """Answer what is in flight, then leave."""
        if self._leaving:
            return
        self._leaving = True
        if self._serving:
            self.loop.call_later(self.settings.drain_timeout + DRAIN_SLACK, self._overdue)
            self.loop.stop_accepting()
            self.http.drain()
            try:
                self.application.stop()
            except Exception:
                LOG.exception("The application did not stop cleanly in worker %d", self.slot)
        self.loop.stop()

    def _overdue(self) -> None:
        LOG.warning("Worker %d did not finish its requests in time", self.slot)
        self.loop.stop()

    def quit(self) -> None:
        """Leave at once."""
        self._leaving = True
        self.loop.stop()

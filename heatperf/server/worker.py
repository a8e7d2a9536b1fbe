"""One worker process: start the application on a loop, wait for the gate, serve, drain, leave.

Comes in: what its zygote prepared before the fork. Goes out: a report on a pipe, its seat of the scoreboard, answers to
clients, an exit code. Everything here runs in the worker, on its main thread.

The report (see worker_protocol) says READY once the application has started and SERVING once connections are accepted.
After that faulthandler writes into it: the stacks of all threads, on USR1, even while Python is stuck. The pipe stays
open for as long as the worker lives, and its end is how the supervisor learns of its death.

It leaves on TERM (drain), on INT (at once) and when the supervisor is gone, which it sees as the end of a pipe that
only the supervisor holds open: the kernel closes it however the supervisor dies.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import socket
import ssl
import traceback
from dataclasses import dataclass
from functools import partial

from heatperf import loops
from heatperf.loops import access_log
from heatperf.loops.access_log import Sink
from heatperf.loops.connection import HttpServer
from heatperf.server import pinning
from heatperf.server import worker_protocol as protocol
from heatperf.server.application import Service
from heatperf.server.scoreboard import Seat, State
from heatperf.server.sockets import Listener

LOG = logging.getLogger("heatperf.server")

# The supervisor kills at drain_timeout; a worker without one ends itself a moment later.
DRAIN_SLACK = 1.0
# For how long a worker accepts while all do drain. The supervisor has the kernel drop new attempts; clients whose
# handshake is under way finish it within a round trip.
ACCEPT_GRACE = 0.2


@dataclass(frozen=True)
class Post:
    """Where a worker stands.

    :param slot: stable number of this worker's place, for the log
    :param report_fd: pipe to write the report to
    :param lifeline_fd: pipe whose end tells that the supervisor is gone
    :param gate_fd: socket that tells when this generation may serve, see worker_protocol.OPEN
    """

    slot: int
    seat: Seat
    report_fd: int
    lifeline_fd: int
    gate_fd: int


def main(post: Post, service: Service, listeners: list[Listener], ssl_context: ssl.SSLContext | None) -> int:
    """Run one worker to its end, with the termination signals still blocked as the zygote left them for the fork.

    :returns: exit code for os._exit
    """
    if service.settings.pin:
        pinning.pin(post.slot)
    worker = Worker(post, service)
    worker.attach()
    return worker.run(listeners, ssl_context)


class Worker:
    """The parts of one worker and the order in which they start and end."""

    def __init__(self, post: Post, service: Service) -> None:
        self.post = post
        self.settings = service.settings
        self.application = service.application
        self.loop = loops.create(self.settings.loop)
        self.logs = service.logs
        self.http = HttpServer(
            self.loop, self.application.wsgi, self.settings.limits, self._start_logs(), observer=post.seat
        )
        self._gate = self.loop.waiter()
        self._serving = False
        self._leaving = False
        self._code = protocol.OK

    def _start_logs(self) -> Sink | None:
        access = self.settings.access_log
        if self.logs is not None:
            return self.logs.start(self.loop, access)
        return access_log.record if access else None

    def attach(self) -> None:
        """Take over the signals, and watch the supervisor."""
        self.loop.on_signal(protocol.DRAIN, partial(self.drain, ACCEPT_GRACE))
        self.loop.on_signal(protocol.HAND_OVER, self.drain)
        self.loop.on_signal(protocol.QUIT, self.quit)
        # A terminal that closes sends HUP to the whole process group, and Ctrl-\ QUIT; the supervisor decides.
        for signum in (signal.SIGHUP, signal.SIGQUIT):
            signal.signal(signum, signal.SIG_IGN)
        # Who asks for a report must not end the worker just because no report is set up.
        if signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL:
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Stacks follow SERVING in the report; until then nobody has a use for them.
        signal.signal(protocol.SHOW_STACKS, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        self.loop.on_readable(self.post.lifeline_fd, self._orphaned)
        self.post.seat.state = State.BOOTING
        self._beat()
        self.loop.every(protocol.HEARTBEAT, self._beat)

    def _beat(self) -> None:
        began, line = self.http.oldest() or (0.0, b"")
        self.post.seat.beat(self.http.in_flight(), began, line)

    def run(self, listeners: list[Listener], ssl_context: ssl.SSLContext | None) -> int:
        """Start the application, serve, and come back when drain, quit or a failed start has stopped the loop.

        :param ssl_context: for every connection, None for plain HTTP
        :returns: exit code: protocol.OK, or protocol.BOOT_FAILED when the application could not start
        """
        self.loop.spawn(self._boot, listeners, ssl_context)
        try:
            self.loop.run()
        finally:
            if self.logs is not None:
                self.logs.flush()
        return self._code

    def _boot(self, listeners: list[Listener], ssl_context: ssl.SSLContext | None) -> None:
        try:
            self._start(listeners, ssl_context)
        except BaseException as exc:
            self._code = protocol.BOOT_FAILED
            reason = "".join(traceback.format_exception_only(exc)).strip()
            self._report(protocol.FAILED + f"{reason}\n{traceback.format_exc()}".encode("utf-8", "replace"))
            self.loop.stop()

    def _start(self, listeners: list[Listener], ssl_context: ssl.SSLContext | None) -> None:
        self.application.start(self.loop)
        self.post.seat.state = State.READY
        self._report(protocol.READY)
        if not self._may_serve():
            self.loop.stop()
            return
        for listener in listeners:
            self.loop.serve(listener.sock, self.http.handle, ssl_context)
        self._serving = True
        self.post.seat.state = State.SERVING
        self._report(protocol.SERVING)
        faulthandler.register(protocol.SHOW_STACKS, self.post.report_fd, all_threads=True, chain=False)

    def _may_serve(self) -> bool:
        """Park until it is decided."""
        self.loop.on_readable(self.post.gate_fd, self._gate.wake)
        self._gate.wait()
        with socket.socket(fileno=self.post.gate_fd) as gate:
            return gate.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == protocol.OPEN and not self._leaving

    def _report(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more: the lifeline will say so too
            os.write(self.post.report_fd, message[: protocol.MAX_REPORT])

    def _orphaned(self) -> None:
        LOG.error("The supervisor is gone; worker %d answers what it has begun and leaves", self.post.slot)
        self.drain()

    def drain(self, accept: float = 0.0) -> None:
        """Answer what is in flight and what comes within the grace on connections that exist, then leave.

        :param accept: seconds for which connections are still accepted
        """
        if self._leaving:
            return
        self._leaving = True
        if self._serving:
            self.post.seat.state = State.DRAINING
            timeout = self.settings.drain_timeout
            self.loop.call_later(timeout + DRAIN_SLACK, self._overdue)
            self.http.draining = True  # every answer from here on says Connection: close
            if accept:
                self.loop.sleep(accept)
            self.loop.stop_accepting()
            self.http.drain(min(self.settings.keepalive_grace, timeout))
            self._beat()
            try:
                self.application.stop()
            except Exception:
                LOG.exception("The application did not stop cleanly in worker %d", self.post.slot)
        self.loop.stop()

    def _overdue(self) -> None:
        LOG.warning("Worker %d did not finish its requests within %g s", self.post.slot, self.settings.drain_timeout)
        self.loop.stop()

    def quit(self) -> None:
        """Leave at once."""
        self._leaving = True
        self.loop.stop()

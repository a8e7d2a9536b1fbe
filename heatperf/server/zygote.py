"""The zygote: the process of one generation that loads it once and forks its workers.

``python -P -m heatperf.server.zygote FD``, started by the supervisor (see generation.py), one for each start and each
reload. Comes in: messages of the channel. Goes out: what became of them. It is single-threaded and waits for nothing
but the channel, so that a worker is a copy of a process in which nothing is under way.

    from the supervisor                          to the supervisor
    hello   entry, arguments, version, protocol  loaded      settings, places
            fds: lifeline, gate, scoreboard      failed      text, exit_code (and the process ends)
    listen  binds; fds: the listeners            -
    fork    slot, seat; fd: report               forked      seat, pid
                                                 not-forked  seat, text
    reap    seat, pid                            reaped      seat, pid, gone, code (None: unknown)
    leave-addresses                              -
    refuse  message, remedy, option              failed
    log     record                               -

End of file means that the supervisor is gone, or has no more use for this generation: the zygote leaves. Its workers
notice for themselves (lifeline).
"""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import socket
import ssl
import sys
from typing import Any

import heatperf
from heatperf import loops
from heatperf.errors import ConfigurationError
from heatperf.server import child, places, sockets, tls, worker
from heatperf.server import worker_protocol as protocol
from heatperf.server.application import Service
from heatperf.server.channel import Channel, Message
from heatperf.server.scoreboard import Scoreboard
from heatperf.server.settings import Bind

LOG = logging.getLogger("heatperf.server")


class Zygote:
    """:param hello: the first message, see the module's text"""

    def __init__(self, channel: Channel, hello: Message) -> None:
        self._channel = channel
        self._hello = hello
        self._lifeline, self._gate, board = hello.fds
        self._board = Scoreboard.attach(board)
        self._listeners: list[sockets.Listener] = []
        self._ssl_context: ssl.SSLContext | None = None
        self._service: Any = None

    def run(self) -> int:
        """Load, say so, then do as told until the supervisor has had enough."""
        child.die_with_parent()
        self._load()
        while True:
            message = self._channel.receive()
            handler = getattr(self, "_on_" + message.kind.replace("-", "_"))
            handler(message)

    # Loading

    def _load(self) -> None:
        hello = self._hello
        try:
            service = self._service = make(hello["entry"], hello["arguments"])
            settings = service.settings
            loops.preload(settings.loop)
            wanted = places.resolve(settings)
            if settings.tls is not None:
                self._ssl_context = tls.tls_context(settings.tls)
        except ConfigurationError as error:
            raise self._locate(error) from error
        if hello["version"] != heatperf.__version__:
            LOG.warning("This is heatperf %s under a supervisor of %s", heatperf.__version__, hello["version"])
        self._channel.send("loaded", settings=dataclasses.asdict(settings), places=places.to_values(wanted))

    def _locate(self, error: ConfigurationError) -> ConfigurationError:
        return error if self._service is None else self._service.locate(error)

    # Messages

    def _on_listen(self, message: Message) -> None:
        self._listeners = [
            sockets.Listener(Bind(**bind), socket.socket(fileno=fd))
            for bind, fd in zip(message["binds"], message.fds, strict=True)
        ]
        # What exists now is shared with the workers: keep the collector from touching, and so copying, its pages.
        gc.collect()
        gc.freeze()

    def _on_fork(self, message: Message) -> None:
        report = message.fds[0]
        try:
            pid = os.fork()
            if pid == 0:
                self._become_worker(message["slot"], message["seat"], report)
        except OSError as exc:
            self._channel.send("not-forked", seat=message["seat"], text=exc.strerror)
        else:
            self._channel.send("forked", seat=message["seat"], pid=pid)
        finally:
            # A copy left here would hide the worker's death from the supervisor.
            os.close(report)

    def _become_worker(self, slot: int, seat: int, report: int) -> None:
        """In the child; never returns."""
        code = protocol.CRASHED
        try:
            child.name_process("heatperf-worker")
            os.write(report, protocol.PID % os.getpid())
            # A copy of the channel would hide the zygote's death.
            self._channel.close()
            post = worker.Post(slot, self._board.seat(seat), report, self._lifeline, self._gate)
            code = worker.main(post, self._service, self._listeners, self._ssl_context)
        except BaseException:
            LOG.exception("Worker %d crashed", slot)
        finally:
            child.leave(code)

    def _on_reap(self, message: Message) -> None:
        seat, pid = message["seat"], message["pid"]
        code: int | None = None
        # By pid, never waitpid(-1): the application may have child processes of its own.
        try:
            gone, status = os.waitpid(pid, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if gone else None
        except ChildProcessError:  # the application has waited for everybody's children, or ignores SIGCHLD
            gone = pid
        self._channel.send("reaped", seat=seat, pid=pid, gone=bool(gone), code=code)

    def _on_leave_addresses(self, _message: Message) -> None:
        """The generation retires: whoever comes next shall find the addresses free."""
        for listener in self._listeners:
            listener.sock.close()

    def _on_refuse(self, message: Message) -> None:
        error = ConfigurationError(message["message"], remedy=message["remedy"], option=message["option"])
        raise self._locate(error)

    def _on_log(self, message: Message) -> None:
        record = logging.makeLogRecord(message["record"])
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)


def make(entry: str, arguments: dict[str, Any]) -> Service:
    """Import the factory and call it."""
    service = child.find(entry)(arguments)
    if not isinstance(service, Service):
        raise TypeError(f"{entry} returned {type(service).__name__}, not a Service")
    return service


if __name__ == "__main__":
    child.run(int(sys.argv[1]), "heatperf-zygote", lambda channel, hello: Zygote(channel, hello).run())

"""The supervisor's end of a zygote: its process, the channel to it, and the gate of its workers.

Comes in: commands. Goes out: messages of the zygote. Raises OSError where there is no process or descriptor to be had;
a zygote that is gone, or reads nothing, is no error: what it is told is lost, and the end of its channel says so.
Supervisor only; never waits.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import heatperf
from heatperf.server import channel as channels
from heatperf.server import child
from heatperf.server import worker_protocol as protocol

LOG = logging.getLogger("heatperf.server")


class Link:
    """:param number: of the generation, for the log
    :param entry: "module:function" of the Factory
    :param arguments: for the factory; JSON
    :param fds: lifeline and scoreboard, for the zygote and its workers
    """

    def __init__(self, number: int, entry: str, arguments: dict[str, Any], lifeline: int, board: int) -> None:
        self.gone = False  # the channel has ended
        self.ending = False  # the zygote ends, or will: it does nothing that it is told from now on
        self._number = number
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as theirs:
            self._gate, gate = socket.socketpair()
            undo.callback(self._gate.close)
            theirs.enter_context(gate)
            self._channel, end = channels.pair()
            undo.callback(self._channel.close)
            theirs.enter_context(end)
            self._process = child.spawn("heatperf.server.zygote", end.fileno())
            undo.pop_all()
            with contextlib.suppress(channels.Closed):  # gone already; end of file says so
                self._channel.send(
                    "hello", [lifeline, gate.fileno(), board],
                    entry=entry, arguments=arguments, version=heatperf.__version__, protocol=channels.PROTOCOL,
                )  # fmt: skip
        self._channel.set_blocking(False)

    @property
    def pid(self) -> int:
        """Of the zygote."""
        return self._process.pid

    def fileno(self) -> int:
        """For poll(), while it is not gone."""
        return self._channel.fileno()

    def __str__(self) -> str:
        return f"The zygote of generation {self._number} (pid {self.pid})"

    def tell(self, kind: str, fds: list[int] | None = None, **values: Any) -> bool:
        """Send a command; False if it is lost."""
        if self.gone or self.ending:
            return False
        try:
            self._channel.send(kind, fds or [], **values)
        except channels.Closed:
            self.kill()  # it is gone, or cannot be told what it has to know
            return False
        except BlockingIOError:
            self.kill()
            LOG.error("%s reads nothing and is killed", self)
            return False
        return True

    def log(self, record: dict[str, Any]) -> bool:
        """Have the zygote write a log record where the configuration wants it; whether that was possible."""
        if self.gone or self.ending:
            return False
        try:
            self._channel.send("log", record=record)
        except (BlockingIOError, channels.Closed, ValueError):
            return False
        return True

    def kill(self) -> None:
        """End the process."""
        # Before anything is logged about it: it would be asked to write that.
        self.ending = True
        self._process.kill()

    def messages(self) -> Iterator[channels.Message]:
        """What it has said and nobody has heard yet.

        :raises channels.Closed: after the last
        """
        while message := self._channel.receive_ready():
            yield message

    def open_gate(self) -> None:
        """Let the workers serve. Never read, only looked at: it is there for those that follow, too."""
        self._gate.send(protocol.OPEN)

    def end(self) -> int | None:
        """The channel has ended.

        :returns: exit code of the zygote, None if it is not known yet
        """
        self.gone = True
        self._channel.close()
        try:
            return self._process.wait(0.05)  # the channel is the last thing that a process has closed
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> subprocess.Popen[bytes]:
        """Let go of it: the zygote leaves at the end of its channel.

        :returns: the process, to be waited for
        """
        self._gate.close()
        self._channel.close()
        self.gone = True
        return self._process

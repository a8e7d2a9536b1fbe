"""systemd's notification protocol (sd_notify(3)), without a library.

Comes in: what happens to the service. Goes out: datagrams on the socket that systemd names in the environment. Raises
nothing and never waits: a notification that cannot be delivered must not stop the service. Supervisor only.

    starting --ready--> serving --reloading--> reloading --reloaded--> serving
    any of them --stopping--> stopping, which stays

Order knows which message may be sent when and touches nothing; Notifier sends.
"""

from __future__ import annotations

import enum
import logging
import os
import socket
import time
from collections.abc import MutableMapping

LOG = logging.getLogger("heatperf.server")
# Bytes of a STATUS text. systemd cuts messages at 4096; a line that people read is shorter.
MAX_STATUS = 512
# Messages kept for a systemd whose queue is full. More changes of state than this, unheard, tell nobody anything.
MAX_UNSENT = 8
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Phase(enum.Enum):
    """What systemd has been told of the service."""

    STARTING = enum.auto()
    SERVING = enum.auto()
    RELOADING = enum.auto()
    STOPPING = enum.auto()


class Order:
    """The protocol without a socket: each method gives the message to send now, or None when it is not its time."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self._status = ""

    def ready(self, status: str) -> str | None:
        """A worker serves. Later calls only bring a new status."""
        if self.phase is not Phase.STARTING:
            return self.status(status)
        return self._enter(Phase.SERVING, "READY=1", status)

    def reloading(self, moment: int) -> str | None:
        """A reload begins. Also while one is under way: systemd then waits for the end of the newer one.

        :param moment: CLOCK_MONOTONIC in microseconds; Type=notify-reload takes an earlier one for a message of the
            reload before
        """
        if self.phase not in (Phase.SERVING, Phase.RELOADING):
            return None
        self.phase = Phase.RELOADING
        return f"RELOADING=1\nMONOTONIC_USEC={moment}"

    def reloaded(self, status: str) -> str | None:
        """A reload has ended, well or not: the service serves."""
        if self.phase is not Phase.RELOADING:
            return self.status(status)
        return self._enter(Phase.SERVING, "READY=1", status)

    def stopping(self, status: str) -> str | None:
        """The end begins. From now on TimeoutStopSec runs."""
        if self.phase is Phase.STOPPING:
            return self.status(status)
        return self._enter(Phase.STOPPING, "STOPPING=1", status)

    def status(self, text: str) -> str | None:
        """A line for ``systemctl status``, at any time; nothing when it is the one that systemd has."""
        line = _one_line(text)
        if line == self._status:
            return None
        self._status = line
        return f"STATUS={line}"

    def watchdog(self) -> str | None:
        """A sign of life. systemd counts from READY on, and a sign after STOPPING would start its clock again."""
        return "WATCHDOG=1" if self.phase in (Phase.SERVING, Phase.RELOADING) else None

    def _enter(self, phase: Phase, message: str, status: str) -> str:
        self.phase = phase
        line = self.status(status)
        return f"{message}\n{line}" if line else message


class Notifier:
    """Tells systemd, if there is one.

    :param environ: gives NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID and loses them, so that child processes do not
        take the messages for their own business; os.environ unless given
    :param pid: of this process, for WATCHDOG_PID
    """

    def __init__(self, environ: MutableMapping[str, str] | None = None, pid: int | None = None) -> None:
        environ = os.environ if environ is None else environ
        address, usec, watched = (environ.pop(name, "") for name in VARIABLES)
        self._order = Order()
        self._address = _address(address)
        self._unsent: list[str] = []
        self._complained = False
        self._interval = _interval(usec, watched, os.getpid() if pid is None else pid)
        self._sock: socket.socket | None = None
        if self._address is not None:
            # Opened now: later there may be no descriptor left, and the last words should still get out.
            self._sock = _open()

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between two calls of watchdog: half of what systemd waits (sd_watchdog_enabled(3)); None: no need."""
        return self._interval if self._sock is not None else None

    def ready(self, status: str = "") -> None:
        """The first worker serves."""
        self._send(self._order.ready(status))

    def reloading(self) -> None:
        """A reload has been asked for; call before anything else is done about it."""
        self._send(self._order.reloading(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000))

    def reloaded(self, status: str = "") -> None:
        """A reload has ended; the status says how."""
        self._send(self._order.reloaded(status))

    def stopping(self, status: str = "") -> None:
        """The server has begun to stop."""
        self._send(self._order.stopping(status))

    def status(self, text: str) -> None:
        """Show a line; cheap when it has not changed."""
        self._send(self._order.status(text))

    def watchdog(self) -> None:
        """The supervisor is alive. Call every watchdog_interval seconds."""
        if self._interval is not None:
            self._send(self._order.watchdog())

    def close(self) -> None:
        """Close the socket; later calls do nothing."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _send(self, message: str | None) -> None:
        if self._sock is None or self._address is None:
            return
        if message is not None:
            self._unsent.append(message)
        # In their order, those that found the queue full first: a READY that is lost ends the service.
        while self._unsent:
            if not self._deliver(self._sock, self._address, self._unsent[0]):
                self._unsent = _worth_keeping(self._unsent)
                return
            self._unsent.pop(0)

    def _deliver(self, sock: socket.socket, address: str, message: str) -> bool:
        try:
            sock.sendto(message.encode("utf-8", "replace"), address)
        except OSError as exc:
            if not self._complained:
                LOG.warning("Cannot notify systemd: %s", exc)
            self._complained = True
            return False
        self._complained = False
        return True


def _one_line(text: str) -> str:
    """Without control characters, which would begin another message, and cut to MAX_STATUS bytes between letters."""
    line = "".join(char if char.isprintable() else " " for char in text).strip()
    return line.encode("utf-8", "replace")[:MAX_STATUS].decode("utf-8", "ignore")


def _worth_keeping(unsent: list[str]) -> list[str]:
    """A sign of life is worth nothing later, and of the lines for people only the newest is."""
    states = [message for message in unsent if not message.startswith(("WATCHDOG=", "STATUS="))]
    lines = [message for message in unsent if message.startswith("STATUS=")]
    return states[-MAX_UNSENT:] + lines[-1:]


def _address(text: str) -> str | None:
    """As bind() takes it; None outside systemd, and for kinds of address (vsock) that only virtual machines have."""
    if text[:1] == "@":
        return "\0" + text[1:]  # the abstract namespace, unix(7)
    if text[:1] == "/":
        return text
    if text:
        LOG.warning("NOTIFY_SOCKET=%s is not a unix socket; systemd is not notified", text)
    return None


def _interval(usec: str, watched: str, pid: int) -> float | None:
    if watched and watched != str(pid):
        return None
    # By length first: int() refuses some thousands of digits with a ValueError.
    if not (usec.isascii() and usec.isdigit() and len(usec) <= 20 and int(usec)):
        return None
    return int(usec) / 2e6


def _open() -> socket.socket | None:
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    except OSError as exc:
        LOG.warning("Cannot notify systemd: %s", exc)
        return None
    # The queue of a stuck receiver may be full; never wait for it.
    sock.setblocking(False)
    return sock

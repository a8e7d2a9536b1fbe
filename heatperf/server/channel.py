"""Messages between the supervisor and a process that it has started: JSON and descriptors over a pair of sockets.

Comes in: a kind, plain values, descriptors. Goes out: a Message at the other end, whole and in order (SOCK_SEQPACKET
keeps the borders, unix(7)). Raises Closed when the other end is gone. No thread, no loop; either process.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# What both ends must agree on. A new version of this package may load a generation for a supervisor of the version
# before, because a generation is a fresh interpreter: raise this when they could no longer understand each other.
PROTOCOL = 1
# Below the kernel's default buffer (212 992 bytes, of which a message may use less than all).
MAX_MESSAGE = 100_000
# SCM_MAX_FD of the kernel.
MAX_DESCRIPTORS = 253
INT = struct.Struct("i")
RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)
# For texts that the other end only shows; JSON needs six bytes for a control character.
MAX_TEXT = 15_000


class Closed(Exception):
    """The other end has closed its socket, or its process is gone."""


@dataclass
class Message:
    """One message. Who receives it owns the descriptors."""

    kind: str
    values: dict[str, Any] = field(default_factory=dict)
    fds: list[int] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def pair() -> tuple[Channel, socket.socket]:
    """:returns: our end, and the socket for the other process"""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(ours), theirs


class Channel:
    """One end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def fileno(self) -> int:
        """For poll(); -1 once closed."""
        return self._sock.fileno()

    def send(self, kind: str, fds: Sequence[int] = (), **values: Any) -> None:
        """
        :param fds: descriptors of which the other process gets copies
        :raises Closed: nobody will read it
        :raises BlockingIOError: the socket is non-blocking and full
        """
        data = json.dumps([kind, values], ensure_ascii=False).encode("utf-8", "surrogatepass")
        if len(data) > MAX_MESSAGE:
            raise ValueError(f"{kind} is too long: {len(data)} bytes")
        try:
            socket.send_fds(self._sock, [data], list(fds))
        except BlockingIOError:
            raise
        except OSError as exc:
            raise Closed(exc.strerror) from None

    def receive(self) -> Message:
        """Block until there is a message.

        :raises Closed: there will be no more
        """
        message = self._receive(0)
        if message is None:  # a spurious wake-up of a non-blocking socket
            raise Closed("nothing to receive")
        return message

    def receive_ready(self) -> Message | None:
        """
        :returns: the next message; None if there is none yet
        :raises Closed: there will be no more
        """
        return self._receive(socket.MSG_DONTWAIT)

    def _receive(self, flags: int) -> Message | None:
        try:
            # Not socket.recv_fds: it ignores its flags.
            room = socket.CMSG_SPACE(MAX_DESCRIPTORS * INT.size)
            data, ancillary, told, _address = self._sock.recvmsg(MAX_MESSAGE, room, flags)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise Closed(exc.strerror) from None
        fds = [fd for level, kind, packed in ancillary if (level, kind) == RIGHTS for (fd,) in INT.iter_unpack(packed)]
        for fd in fds:
            os.set_inheritable(fd, False)
        if not data:
            raise Closed("end of file")
        if told & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise Closed("a message was cut")
        kind, values = json.loads(data.decode("utf-8", "surrogatepass"))
        return Message(kind, values, fds)

    def set_blocking(self, blocking: bool) -> None:
        """Whether send may wait for room."""
        self._sock.setblocking(blocking)

    def close(self) -> None:
        """Later calls do nothing."""
        self._sock.close()

"""Bytes that wait for a non-blocking socket to take them. For a server that waits for its sockets with a selector.

In: bytes, in the order in which they are to go out. Out: as much of them as the kernel takes, each time it is asked.
Raised: OSError when the peer is gone. One thread.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque


class Outbox:
    """See the module's text. True while there is something in it.

    :ivar size: bytes in it
    """

    def __init__(self) -> None:
        self.size = 0
        self._parts: deque[memoryview] = deque()

    def __bool__(self) -> bool:
        return bool(self._parts)

    def put(self, data: bytes) -> None:
        """Add bytes; none at all change nothing."""
        if data:
            self._parts.append(memoryview(data))
            self.size += len(data)

    def send(self, sock: socket.socket) -> None:
        """Hand the kernel what it takes.

        :raises OSError: the peer is gone
        """
        parts = self._parts
        with contextlib.suppress(BlockingIOError):
            while parts:
                sent = sock.send(parts[0])
                self.size -= sent
                rest = parts.popleft()[sent:]
                if rest:
                    parts.appendleft(rest)

    def clear(self) -> None:
        """Nobody takes the rest."""
        self._parts.clear()
        self.size = 0

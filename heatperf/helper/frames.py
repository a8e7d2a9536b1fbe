"""The bytes between workers and a helper. Pure: no I/O, no clock; used by both ends.

In: a head (a small JSON object) and a body (any bytes), or bytes as they come. Out: frames, or messages. Raised:
MalformedFrame. Nothing here runs code or builds objects other than JSON's, whatever the bytes say.

    from the worker                                   from the helper
    {"id", "task", "until", "arguments"}, body        {"id", "begun": true}        the task runs now
                                                      {"id", "answer": {...}}, body
                                                      {"id", "refused": {"class", "text"}}
                                                      {"id", "failed": text}       the task has a mistake
                                                      {"id", "busy": true}         it will not be begun
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

#: Bytes of a head and of a body. A request's body is at most max_json_body_size; what aliases make of one is bounded by
#: the task.
MAX_HEAD = 1024 * 1024
MAX_BODY = 256 * 1024 * 1024
#: Lengths of head and body.
HEADER = struct.Struct(">II")


class MalformedFrame(ValueError):
    """The peer does not speak this protocol; the connection cannot be used any further."""


class Message(NamedTuple):
    """What one frame holds. The head has an ``id``, a number."""

    head: dict[str, Any]
    body: bytes


def beginning(head: dict[str, Any], size: int) -> bytes:
    """Return what comes before the body in a frame.

    :param size: of the body, bytes
    """
    text = json.dumps(head).encode("ascii")  # not orjson: the text of a refusal may hold a lone surrogate
    return HEADER.pack(len(text), size) + text


class Frames:
    """Bytes in, messages out. A body is put together once, when all of it is there: some have megabytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        #: bytes of the first part that are taken, and of all parts that are not
        self._at = self._size = 0
        self._needed = HEADER.size
        #: sizes of head and body, once known; then the head
        self._sizes: tuple[int, int] | None = None
        self._head: dict[str, Any] | None = None

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes as they came; iterate over the messages that are complete now.

        :raises MalformedFrame: while iterating, after the messages before it
        """
        self._parts.append(data)
        self._size += len(data)
        return iter(self._next, None)

    @property
    def partial(self) -> bool:
        """Whether the rest of a frame is still to come."""
        return self._size > 0 or self._sizes is not None

    def _next(self) -> Message | None:
        while self._size >= self._needed:
            data = self._take(self._needed)
            if self._sizes is None:
                self._sizes = head_size, body_size = HEADER.unpack(data)
                if head_size > MAX_HEAD or body_size > MAX_BODY:
                    raise MalformedFrame("bad frame header")
                self._needed = head_size
            elif self._head is None:
                self._head = _head_of(data)
                self._needed = self._sizes[1]
            else:
                message = Message(self._head, data)
                self._sizes = self._head = None
                self._needed = HEADER.size
                return message
        return None

    def _take(self, size: int) -> bytes:
        """The next bytes, of which there are enough."""
        if not size:
            return b""
        parts, at = self._parts, self._at
        if len(parts) > 1 and len(parts[0]) - at < size:
            # All of them are needed, the last one in part.
            self._parts = parts = [b"".join((memoryview(parts[0])[at:], *parts[1:]))]
            at = 0
        data = parts[0] if at == 0 and len(parts[0]) == size else parts[0][at : at + size]
        self._at = at + size
        self._size -= size
        if self._at == len(parts[0]):
            del parts[0]
            self._at = 0
        return data


def _head_of(text: bytes) -> dict[str, Any]:
    try:
        head = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedFrame("bad JSON") from None
    if not isinstance(head, dict) or not isinstance(head.get("id"), int):
        raise MalformedFrame("a message without id")
    return head

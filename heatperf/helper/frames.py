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
    """Bytes in, messages out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = HEADER.size

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes as they came; iterate over the messages that are complete now.

        :raises MalformedFrame: while iterating, after the messages before it
        """
        self._buffer += data
        return iter(self._take, None)

    @property
    def partial(self) -> bool:
        """Whether the rest of a frame is still to come."""
        return bool(self._buffer)

    def _take(self) -> Message | None:
        buffer = self._buffer
        if len(buffer) < self._needed:
            return None
        head_size, body_size = HEADER.unpack_from(buffer)
        if head_size > MAX_HEAD or body_size > MAX_BODY:
            raise MalformedFrame("bad frame header")
        middle = HEADER.size + head_size
        end = middle + body_size
        if len(buffer) < end:
            self._needed = end
            return None
        with memoryview(buffer) as view:
            text, body = bytes(view[HEADER.size : middle]), bytes(view[middle:end])
        del buffer[:end]
        self._needed = HEADER.size
        try:
            head = json.loads(text)
        except (ValueError, RecursionError):
            raise MalformedFrame("bad JSON") from None
        if not isinstance(head, dict) or not isinstance(head.get("id"), int):
            raise MalformedFrame("a message without id")
        return Message(head, body)

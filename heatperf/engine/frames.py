"""The bytes between workers and the engine process. Pure: no I/O, no clock; both ends, rpc/local.py and server.py.

In: messages, or bytes as they come. Out: frames, or messages. Raised: FrameTooLarge, MalformedFrame.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import orjson

from heatperf.jsontext import Encoded, fragment, has_non_finite

#: Bytes of one message. The API takes bodies of about 1 MiB; the largest answers are listings of whole projects.
MAX_FRAME = 64 * 1024 * 1024
#: Sent in the greeting, so that a worker notices an engine of another release.
PROTOCOL = 1

# Frames: length of the JSON text (u32, big endian), its kind (u8), the text.

HEADER = struct.Struct(">IB")
# COMPACT is read by orjson. EXACT holds what only the standard library reads as it was meant: integers beyond 64 bits,
# NaN and Infinity, lone surrogates. Clients of the API may send all of them.
COMPACT, EXACT = 1, 2


class MalformedFrame(ValueError):
    """The peer does not speak this protocol; the connection cannot be used any further."""


class FrameTooLarge(ValueError):
    """A message of more than MAX_FRAME bytes is to be sent."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the message has {size} bytes, and at most {MAX_FRAME} can be sent")


def encode_frame(message: dict[str, Any], unknown: Callable[[Any], Any] | None = None) -> bytes:
    """Return the frame of a message.

    :param unknown: makes something encodable of a value that is not; None refuses it
    :raises FrameTooLarge: more than MAX_FRAME bytes
    :raises TypeError: something in it has no form in JSON
    """
    kind = COMPACT
    try:
        text = orjson.dumps(message, default=unknown or _compact, option=orjson.OPT_PASSTHROUGH_DATETIME)
        # orjson writes NaN as null without a word
        if b"null" in text and has_non_finite(message):
            kind = EXACT
    except TypeError:  # beyond orjson, which does not mean beyond the standard library
        kind = EXACT
    if kind == EXACT:
        text = json.dumps(message, default=unknown or _exact).encode("ascii")
    if len(text) > MAX_FRAME:
        raise FrameTooLarge(len(text))
    return HEADER.pack(len(text), kind) + text


def _compact(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else fragment(value)  # a datetime is a date


def _exact(value: Any) -> Any:
    return value.value() if type(value) is Encoded else _compact(value)


class Frames:
    """Bytes in, messages out. Pure: no I/O, no clock."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Take bytes as they came; iterate over the messages that are complete now.

        :raises MalformedFrame: while iterating, after the messages before it
        """
        self._buffer += data
        return iter(self._take, None)

    def _take(self) -> dict[str, Any] | None:
        if len(self._buffer) < HEADER.size:
            return None
        length, kind = HEADER.unpack_from(self._buffer)
        if length > MAX_FRAME or kind not in (COMPACT, EXACT):
            raise MalformedFrame("bad frame header")
        end = HEADER.size + length
        if len(self._buffer) < end:
            return None
        text = bytes(self._buffer[HEADER.size : end])
        del self._buffer[:end]
        try:
            message = orjson.loads(text) if kind == COMPACT else json.loads(text)
        except (ValueError, RecursionError):
            raise MalformedFrame("bad JSON") from None  # the error itself holds the text, secrets included
        if not isinstance(message, dict) or not isinstance(message.get("id"), int):
            raise MalformedFrame("a message without id")
        return message

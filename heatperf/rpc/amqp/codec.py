"""AMQP 0-9-1 values, tables, methods and frames as bytes, and back. Pure.

Comes in: Python values; bytes of a broker. Goes out: bytes; Python values. Raised: MalformedFrame for bytes that are no
AMQP. Facts: AMQP 0-9-1 specification 4.2, and RabbitMQ's errata for the types in tables.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
#: Bytes of a frame around its payload.
FRAME_OVERHEAD = 8
#: Until the broker has said how large frames may be (4.2.3: frame-min-size), and what no broker exceeds in practice.
FRAME_MIN = 4096
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"
#: Tables in tables: brokers send two levels.
_DEEPEST = 16

_FRAME = struct.Struct(">BHI")
_SHORT = struct.Struct(">H")
_LONG = struct.Struct(">I")
_LONGLONG = struct.Struct(">Q")

# Methods, as the number that their class and their own number make together.
CONNECTION_START = 10 << 16 | 10
CONNECTION_START_OK = 10 << 16 | 11
CONNECTION_SECURE = 10 << 16 | 20
CONNECTION_TUNE = 10 << 16 | 30
CONNECTION_TUNE_OK = 10 << 16 | 31
CONNECTION_OPEN = 10 << 16 | 40
CONNECTION_OPEN_OK = 10 << 16 | 41
CONNECTION_CLOSE = 10 << 16 | 50
CONNECTION_CLOSE_OK = 10 << 16 | 51
CONNECTION_BLOCKED = 10 << 16 | 60
CONNECTION_UNBLOCKED = 10 << 16 | 61
CHANNEL_OPEN = 20 << 16 | 10
CHANNEL_OPEN_OK = 20 << 16 | 11
CHANNEL_FLOW = 20 << 16 | 20
CHANNEL_FLOW_OK = 20 << 16 | 21
CHANNEL_CLOSE = 20 << 16 | 40
CHANNEL_CLOSE_OK = 20 << 16 | 41
EXCHANGE_DECLARE = 40 << 16 | 10
EXCHANGE_DECLARE_OK = 40 << 16 | 11
QUEUE_DECLARE = 50 << 16 | 10
QUEUE_DECLARE_OK = 50 << 16 | 11
BASIC_QOS = 60 << 16 | 10
BASIC_QOS_OK = 60 << 16 | 11
BASIC_CONSUME = 60 << 16 | 20
BASIC_CONSUME_OK = 60 << 16 | 21
BASIC_CANCEL = 60 << 16 | 30
BASIC_CANCEL_OK = 60 << 16 | 31
BASIC_PUBLISH = 60 << 16 | 40
BASIC_RETURN = 60 << 16 | 50
BASIC_DELIVER = 60 << 16 | 60
BASIC_ACK = 60 << 16 | 80
BASIC_NACK = 60 << 16 | 120
CONFIRM_SELECT = 85 << 16 | 10
CONFIRM_SELECT_OK = 85 << 16 | 11

#: What a broker may send besides basic.deliver and basic.ack, and the fields of it: o octet, s short, l long,
#: q long long, z short string, Z long string, T table, b bits (one octet).
INCOMING: Mapping[int, str] = {
    CONNECTION_START: "ooTZZ",
    CONNECTION_SECURE: "Z",
    CONNECTION_TUNE: "sls",
    CONNECTION_OPEN_OK: "z",
    CONNECTION_CLOSE: "szss",
    CONNECTION_CLOSE_OK: "",
    CONNECTION_BLOCKED: "z",
    CONNECTION_UNBLOCKED: "",
    CHANNEL_OPEN_OK: "Z",
    CHANNEL_FLOW: "b",
    CHANNEL_CLOSE: "szss",
    CHANNEL_CLOSE_OK: "",
    EXCHANGE_DECLARE_OK: "",
    QUEUE_DECLARE_OK: "zll",
    BASIC_QOS_OK: "",
    BASIC_CONSUME_OK: "z",
    BASIC_CANCEL: "zb",
    BASIC_CANCEL_OK: "z",
    BASIC_RETURN: "szzz",
    BASIC_NACK: "qb",
    CONFIRM_SELECT_OK: "",
}


class MalformedFrame(Exception):
    """What came is no AMQP 0-9-1; the connection is of no further use."""


# Frames


class Frames:
    """Cuts a stream of bytes into frames.

    :ivar limit: largest payload that is accepted, bytes; raise it after the broker's tune
    """

    def __init__(self, limit: int = FRAME_MIN) -> None:
        self.limit = limit
        self._pending = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Iterate over (type, channel, payload) of the frames that ``data`` completes; all of them must be taken.

        :raises MalformedFrame: while iterating, after the frames before it
        """
        if self._pending:
            data = self._pending + data
            self._pending = b""
        at, end = 0, len(data)
        unpack = _FRAME.unpack_from
        try:
            while end - at >= FRAME_OVERHEAD:
                kind, channel, size = unpack(data, at)
                if size > self.limit:
                    raise MalformedFrame(f"a frame of {size} bytes, where {self.limit} are the most")
                last = at + 7 + size
                if last >= end:
                    break
                if data[last] != FRAME_END:
                    raise MalformedFrame("a frame without its end")
                start, at = at + 7, last + 1
                yield kind, channel, data[start:last]
        finally:
            if at < end:
                self._pending = data[at:]


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """One frame; the payload must not exceed what the connection has agreed on."""
    return b"%b%b\xce" % (_FRAME.pack(kind, channel, len(payload)), payload)


def method(channel: int, number: int, arguments: bytes = b"") -> bytes:
    """One method frame."""
    return frame(METHOD, channel, _LONG.pack(number) + arguments)


# Values


def short_string(text: str) -> bytes:
    """:raises ValueError: longer than 255 bytes"""
    data = text.encode()
    if len(data) > 255:
        raise ValueError(f"{text[:40]!r}... is longer than the 255 bytes that AMQP has for a name")
    return b"%c%b" % (len(data), data)


def long_string(data: bytes) -> bytes:
    """Length and bytes."""
    return _LONG.pack(len(data)) + data


def table(values: Mapping[str, Any]) -> bytes:
    """A field table of bool, int, float, str, None, lists and mappings.

    :raises TypeError: a value of another type
    """
    return long_string(b"".join(short_string(name) + _field(value) for name, value in values.items()))


def _field(value: Any) -> bytes:
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return b"I" + struct.pack(">i", value)
        return b"l" + struct.pack(">q", value)
    if isinstance(value, str):
        return b"S" + long_string(value.encode())
    if value is None:
        return b"V"
    if isinstance(value, float):
        return b"d" + struct.pack(">d", value)
    if isinstance(value, Mapping):
        return b"F" + table(value)
    if isinstance(value, list):
        return b"A" + long_string(b"".join(_field(item) for item in value))
    raise TypeError(f"AMQP tables do not hold {type(value).__name__}")


_FIXED = {
    b"b": struct.Struct(">b"),
    b"B": struct.Struct(">B"),
    b"s": struct.Struct(">h"),
    b"u": struct.Struct(">H"),
    b"I": struct.Struct(">i"),
    b"i": struct.Struct(">I"),
    b"l": struct.Struct(">q"),
    b"L": struct.Struct(">q"),  # as py-amqp writes it
    b"T": struct.Struct(">Q"),
    b"f": struct.Struct(">f"),
    b"d": struct.Struct(">d"),
    # scale and digits; brokers send none, so nobody needs the number
    b"D": struct.Struct(">Bi"),
}


class Reader:
    """Takes values off a payload, from front to back."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = at

    def take(self, size: int) -> bytes:
        """:raises MalformedFrame: fewer bytes are left"""
        start, self._at = self._at, self._at + size
        if self._at > len(self._data):
            raise MalformedFrame("a method that ends too early")
        return self._data[start : self._at]

    def octet(self) -> int:
        return self.take(1)[0]

    def short(self) -> int:
        return int(_SHORT.unpack(self.take(2))[0])

    def long(self) -> int:
        return int(_LONG.unpack(self.take(4))[0])

    def long_long(self) -> int:
        return int(_LONGLONG.unpack(self.take(8))[0])

    def short_string(self) -> str:
        return self.take(self.octet()).decode("utf-8", "replace")

    def long_string(self) -> bytes:
        return self.take(self.long())

    def table(self, depth: int = 0) -> dict[str, Any]:
        """:raises MalformedFrame: also if tables are nested deeper than any broker does"""
        inner = Reader(self.long_string())
        values = {}
        while inner.more():
            name = inner.short_string()
            values[name] = inner._field(depth + 1)
        return values

    def more(self) -> bool:
        """Whether there are bytes left."""
        return self._at < len(self._data)

    def _field(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise MalformedFrame("tables nested too deeply")
        kind = self.take(1)
        if kind == b"S":
            return self.long_string().decode("utf-8", "replace")
        if kind == b"t":
            return bool(self.octet())
        if kind == b"V":
            return None
        if kind == b"F":
            return self.table(depth)
        if kind == b"x":
            return self.long_string()
        if kind == b"A":
            inner, items = Reader(self.long_string()), []
            while inner.more():
                items.append(inner._field(depth + 1))
            return items
        fixed = _FIXED.get(kind)
        if fixed is None:
            raise MalformedFrame(f"a field of the unknown type {kind!r}")
        found = fixed.unpack(self.take(fixed.size))
        return found[0] if len(found) == 1 else found


_READ = {
    "o": Reader.octet,
    "b": Reader.octet,
    "s": Reader.short,
    "l": Reader.long,
    "q": Reader.long_long,
    "z": Reader.short_string,
    "Z": Reader.long_string,
    "T": Reader.table,
}


def read_method(payload: bytes) -> tuple[int, list[Any]]:
    """Return a method's number and its fields, in the order of the specification.

    :raises MalformedFrame: unknown, or too short
    """
    if len(payload) < 4:
        raise MalformedFrame("a method frame without a method")
    number = int(_LONG.unpack_from(payload)[0])
    fields = INCOMING.get(number)
    if fields is None:
        raise MalformedFrame(f"the unknown method {number >> 16}.{number & 0xFFFF}")
    reader = Reader(payload, 4)
    return number, [_READ[kind](reader) for kind in fields]


DELIVER = _LONG.pack(BASIC_DELIVER)
ACK = _LONG.pack(BASIC_ACK)


def delivery_tag(payload: bytes) -> int:
    """The tag of a basic.deliver, which stands behind the consumer's.

    :raises MalformedFrame: too short
    """
    try:
        return int(_LONGLONG.unpack_from(payload, 5 + payload[4])[0])
    except (IndexError, struct.error):
        raise MalformedFrame("a delivery that ends too early") from None


def acked(payload: bytes) -> tuple[int, bool]:
    """The tag of a basic.ack, and whether it stands for all before it too.

    :raises MalformedFrame: too short
    """
    if len(payload) < 13:
        raise MalformedFrame("a confirm that ends too early")
    return int(_LONGLONG.unpack_from(payload, 4)[0]), bool(payload[12])


# Content


def properties(expiration: int | None, headers: Mapping[str, Any]) -> bytes:
    """Flags and values of the properties that oslo.messaging gives its messages.

    :param expiration: milliseconds after which the broker drops the message; None for never
    """
    # content-type, content-encoding, headers, delivery-mode, priority: bits 15 to 11; expiration: bit 8
    flags = 0xF800 | (0x0100 if expiration is not None else 0)
    values = short_string("application/json") + short_string("utf-8") + table(headers) + b"\x02" + b"\x00"
    if expiration is not None:
        values += short_string(str(expiration))
    return _SHORT.pack(flags) + values


class Publication:
    """How messages of one kind are put on the wire; what does not change from one to the next is encoded once.

    :param expiration: milliseconds, None for none
    :param mandatory: have the broker send back what no queue takes
    :param frame_max: bytes of a frame at most, as agreed with the broker
    :param headers: of the message
    """

    def __init__(
        self,
        channel: int,
        exchange: str,
        routing_key: str,
        expiration: int | None,
        mandatory: bool,
        frame_max: int,
        headers: Mapping[str, Any] | None = None,
    ) -> None:
        names = b"\x00\x00" + short_string(exchange) + short_string(routing_key)
        values = properties(expiration, headers or {})
        # class, weight, body size, properties
        head = _FRAME.pack(HEADER, channel, 12 + len(values)) + b"\x00\x3c\x00\x00"
        self._before = method(channel, BASIC_PUBLISH, names + (b"\x01" if mandatory else b"\x00")) + head
        self._after = values + b"\xce"
        self._channel = channel
        self._largest = frame_max - FRAME_OVERHEAD

    def encode(self, body: bytes) -> bytes:
        """All frames of one message."""
        size = len(body)
        if size <= self._largest:
            return b"%b%b%b%b%b\xce" % (
                self._before,
                _LONGLONG.pack(size),
                self._after,
                _FRAME.pack(BODY, self._channel, size),
                body,
            )
        parts = [self._before, _LONGLONG.pack(size), self._after]
        for start in range(0, size, self._largest):
            parts.append(frame(BODY, self._channel, body[start : start + self._largest]))
        return b"".join(parts)


def body_size(header: bytes) -> int:
    """The size of the body that a content header announces.

    :raises MalformedFrame: too short
    """
    if len(header) < 12:
        raise MalformedFrame("a content header that ends too early")
    return int(_LONGLONG.unpack_from(header, 4)[0])


def ack(channel: int, tag: int, multiple: bool) -> bytes:
    """basic.ack."""
    return method(channel, BASIC_ACK, _LONGLONG.pack(tag) + (b"\x01" if multiple else b"\x00"))

"""JSON in and out, with the meaning of the standard library's json and the speed of orjson where both agree.

In: JSON text as bytes; plain data. Out: plain data; bytes. Raised: what the standard library raises. Pure.

Clients and engines may send what only the standard library reads as it was meant. orjson refuses NaN, Infinity, lone
surrogates and numbers beyond a float, which then take the slow way; but it reads an integer beyond 64 bits as a float
without a word, so texts with a number of that many digits are not shown to it, and it takes deeper nesting than the
standard library, which ``decode`` leaves as it is and ``decode_as_clients_know`` does not.

Encoding uses orjson's output only where nothing in it can differ: integers beyond 64 bits, keys that are not strings,
lone surrogates and more than 254 levels it refuses; NaN and Infinity, which it writes as null, are looked for; types it
would write in its own way are handed back to us. What is JSON text already (Encoded) is copied into it.
"""

import gc
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import orjson

# Dataclasses and dates have a meaning to orjson and none to the standard library: its caller says what they are.
OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
# Every digit becomes a 0: a run of them is then found by a plain search, some ten times faster than by a pattern.
_DIGITS = bytes(ord("0") if chr(code).isdigit() and code < 128 else code for code in range(256))
#: The smallest integer beyond 64 bits that a text may hold has 19 digits and a minus.
_LONG_RUN = b"0" * 19
#: Ids have such runs as well, now and then. A number stands after one of these, or at the beginning.
_LONG_NUMBER = re.compile(rb"(?:\A|[:,\[ \t\r\n])-?0{19}").search
#: Levels that orjson writes, all of which the standard library reads.
MOST_LEVELS = 254
#: Bytes from which on the garbage collector is kept out of decoding: each of its rounds looks at all that is there so
#: far, which doubles the time.
_UNCOLLECTED = 65_536
_NO_FLOATS = frozenset((str, int, bool, type(None)))


class Encoded:
    """A part of a message that is JSON text already, and is copied where the message is encoded.

    :param data: as orjson writes it: UTF-8, without NaN, Infinity or integers beyond 64 bits, at most 254 levels
    :param size: what whoever has made it says of its size; None where nobody asked
    """

    __slots__ = ("data", "size")

    def __init__(self, data: bytes, size: int | None = None) -> None:
        self.data = data
        self.size = size

    def value(self) -> Any:
        """The plain data that it stands for, made anew with each call."""
        return uncollected(orjson.loads, self.data)


def fragment(value: Any) -> Any:
    """For orjson's ``default``: how an Encoded is written.

    :raises TypeError: it is none
    """
    if type(value) is Encoded:
        return orjson.Fragment(value.data)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def decoded(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call with plain data for each of them that is Encoded."""
    return {name: value.value() if type(value) is Encoded else value for name, value in arguments.items()}


def decode_exactly(data: bytes) -> Any:
    """Return the value of a JSON document, by the standard library alone.

    :raises ValueError: not JSON, or not UTF-8; the text is shown to clients
    :raises RecursionError: nested deeper than Python's recursion limit lets upstream go
    """
    return json.loads(data.decode("utf-8"))


def decode(data: bytes) -> Any:
    """As decode_exactly, mostly by orjson; nesting may go deeper.

    :raises ValueError: not JSON, or not UTF-8
    :raises RecursionError: what only the standard library reads is nested too deeply for it
    """
    try:
        return decode_certain(data)
    except orjson.JSONDecodeError:
        return decode_exactly(data)


def decode_as_clients_know(data: bytes) -> Any:
    """As decode_exactly in everything, mostly by orjson."""
    try:
        value = decode_certain(data)
        # What has no more brackets than that cannot be nested more deeply; of the rest the encoder finds out.
        if data.count(b"{") + data.count(b"[") > MOST_LEVELS and not _is_small(value):
            orjson.dumps(value)
        return value
    except (orjson.JSONDecodeError, TypeError):
        # Not decode_exactly: a call more is a level less.
        return json.loads(data.decode("utf-8"))


def decode_certain(data: bytes) -> Any:
    """As decode_exactly, by orjson alone.

    :raises orjson.JSONDecodeError: it is for the standard library to read or refuse
    """
    digits = data.translate(_DIGITS)
    if _LONG_RUN in digits and _LONG_NUMBER(digits):
        raise orjson.JSONDecodeError("a long number", "", 0)
    return uncollected(orjson.loads, data)


def _is_small(value: Any) -> bool:
    """Whether plain data has few containers, however long its strings: brackets may all be those of a template."""
    stack, seen = [value], 0
    while stack:
        item = stack.pop()
        if isinstance(item, (dict, list)):
            seen += 1 + len(item)
            if seen > MOST_LEVELS:
                return False
            stack.extend(item.values() if isinstance(item, dict) else item)
    return True


def uncollected(function: Callable[[bytes], Any], data: bytes) -> Any:
    """Return ``function(data)``, without the garbage collector where ``data`` is large."""
    if len(data) < _UNCOLLECTED or not gc.isenabled():
        return function(data)
    gc.disable()
    try:
        return function(data)
    finally:
        gc.enable()


def encode(value: Any) -> bytes:
    """Return ``value`` as JSON; datetimes as ISO 8601, anything unknown as its str(), as upstream does.

    :param value: what a JSON document of an engine or an action of ours holds; members of a plain Enum do not belong
        there, as orjson would write their value and the standard library their name; an Encoded may stand anywhere
    :raises TypeError: a key that JSON has no word for, such as a tuple
    :raises ValueError: the value holds itself
    :raises RecursionError: nested deeper than Python's recursion limit
    """
    try:
        data = orjson.dumps(value, default=_foreign, option=OPTIONS)
    except TypeError:  # orjson.JSONEncodeError is a TypeError
        return _encode_exactly(value)
    # orjson writes NaN and Infinity as null, the standard library as NaN and Infinity
    if b"null" in data and has_non_finite(value):
        return _encode_exactly(value)
    return data


def encode_plain(value: Any) -> bytes | None:
    """As encode, for what is plain data throughout; None where the standard library would be needed, or a word on what
    something that is no plain data becomes.
    """
    try:
        data = orjson.dumps(value, default=fragment, option=OPTIONS)
    except TypeError:
        return None
    return None if b"null" in data and has_non_finite(value) else data


def _encode_exactly(value: Any) -> bytes:
    return json.dumps(value, default=_plain).encode("ascii")


def _plain(value: Any) -> Any:
    if type(value) is Encoded:
        return value.value()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _foreign(value: Any) -> Any:
    if type(value) is Encoded:
        return orjson.Fragment(value.data)
    # Subclasses of tuple and float come here from orjson, but are a list and a number to the standard library.
    if isinstance(value, (tuple, float)):
        raise TypeError("not for orjson")
    return _plain(value)


def has_non_finite(value: Any) -> bool:
    """Whether there is a NaN or an Infinity in plain data."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, float):
            if not math.isfinite(item):
                return True
        elif isinstance(item, dict):
            stack += [each for each in item.values() if type(each) not in _NO_FLOATS]
        elif isinstance(item, (list, tuple)):
            stack += [each for each in item if type(each) not in _NO_FLOATS]
    return False

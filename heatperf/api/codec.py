"""JSON in and out, with the meaning of the standard library's json and the speed of orjson where both agree.

In: the bytes of a request's body; the plain data that an action returns, which is mostly what an engine replied. Out:
plain data; the bytes of an answer. Raised: what the standard library raises. Runs on the loop's thread.

Clients may send what only the standard library accepts (30-digit integers, NaN, duplicate keys), and orjson reads some
of it as something else without a word: decoding uses the standard library. Encoding uses orjson, whose output is taken
only where nothing in it can differ: integers beyond 64 bits, keys that are not strings, lone surrogates and more than
254 levels it refuses; NaN and Infinity, which it writes as null, are looked for; types it would write in its own way
are handed back to us.
"""

import json
import math
from datetime import datetime
from typing import Any

import orjson

# Dataclasses and dates have a meaning to orjson and none to the standard library: its caller says what they are.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


def decode(data: bytes) -> Any:
    """Return the value of a JSON document.

    :raises ValueError: not JSON, or not UTF-8; the text is shown to the client
    :raises RecursionError: nested deeper than Python's recursion limit lets upstream go
    """
    return json.loads(data.decode("utf-8"))


def encode(value: Any) -> bytes:
    """Return ``value`` as JSON; datetimes as ISO 8601, anything unknown as its str(), as upstream does.

    :param value: what a JSON document of an engine or an action of ours holds; members of a plain Enum do not belong
        there, as orjson would write their value and the standard library their name
    :raises TypeError: a key that JSON has no word for, such as a tuple
    :raises ValueError: the value holds itself
    :raises RecursionError: nested deeper than Python's recursion limit
    """
    try:
        data = orjson.dumps(value, default=_foreign, option=_OPTIONS)
    except TypeError:  # orjson.JSONEncodeError is a TypeError
        return _encode_exactly(value)
    # orjson writes NaN and Infinity as null, the standard library as NaN and Infinity
    if b"null" in data and _has_non_finite(value):
        return _encode_exactly(value)
    return data


def _encode_exactly(value: Any) -> bytes:
    return json.dumps(value, default=_plain).encode("ascii")


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _foreign(value: Any) -> str:
    # Subclasses of tuple and float come here from orjson, but are a list and a number to the standard library.
    if isinstance(value, (tuple, float)):
        raise TypeError("not for orjson")
    return _plain(value)


def _has_non_finite(value: Any) -> bool:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, float):
            if not math.isfinite(item):
                return True
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
    return False

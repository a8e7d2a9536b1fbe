"""JSON in and out, with the meaning of the standard library's json and the speed of orjson where both agree.

Clients may send what only the standard library accepts (30-digit integers, NaN, duplicate keys), so decoding uses it.
Encoding uses orjson and falls back wherever orjson would differ or refuse: integers beyond 64 bits, keys that are not
strings, lone surrogates, NaN and Infinity.
"""

import json
import math
from datetime import datetime
from typing import Any

import orjson


def decode(data: bytes) -> Any:
    """Return the value of a JSON document.

    :raises ValueError: not JSON, or not UTF-8; the text is shown to the client
    """
    return json.loads(data.decode("utf-8"))


def encode(value: Any) -> bytes:
    """Return ``value`` as JSON; datetimes as ISO 8601, anything unknown as its str(), as upstream does."""
    try:
        data = orjson.dumps(value, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME)
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

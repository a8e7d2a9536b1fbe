"""Makes a request that differs small, while it goes on differing in the same way.

In: a case and a question ("does this one still show it?"), which costs a request to both servers. Out: a case from
which nothing can be taken without losing the difference, or the smallest one found when the attempts are used up.
"""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

from .requests import with_body

Case = dict[str, Any]


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its members in order, duplicates included."""


def shrink(case: Case, shows: Callable[[Case], bool], attempts: int = 150) -> Case:
    """Return the smallest case found.

    :param shows: whether a smaller case still shows the difference
    :param attempts: how often to ask at most
    """
    left = attempts
    progress = True
    while progress:
        progress = False
        for smaller in _smaller(case):
            if left == 0:
                return case
            left -= 1
            if shows(smaller):
                case, progress = smaller, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    """Cases with one thing less, the largest things first."""
    body = body_of(case)
    if body is not None:
        yield with_body(case, None)
    for index in reversed(range(len(case["headers"]))):
        headers = case["headers"][:index] + case["headers"][index + 1 :]
        yield {**case, "headers": headers}
    path, mark, query = case["path"].partition("?")
    if mark:
        yield {**case, "path": path}
        items = query.split("&")
        for index in range(len(items)):
            if len(items) > 1:
                yield {**case, "path": path + "?" + "&".join(items[:index] + items[index + 1 :])}
        for index, item in enumerate(items):
            name, equals, value = item.partition("=")
            for simple in ("", "1"):
                if equals and len(simple) < len(value):
                    changed = [*items[:index], f"{name}={simple}", *items[index + 1 :]]
                    yield {**case, "path": path + "?" + "&".join(changed)}
    segments = path.split("/")
    for index in range(len(segments) - 1, 0, -1):
        yield {**case, "path": "/".join(segments[:index] + segments[index + 1 :]) + mark + query}
        if len(segments[index]) > 5:
            yield {**case, "path": "/".join([*segments[:index], "x", *segments[index + 1 :]]) + mark + query}
    if body is not None:
        for other in _smaller_bodies(body):
            yield with_body(case, other)
    for index, (name, value) in enumerate(case["headers"]):
        if len(value) > 1 and name not in ("X-Auth-Token", "X-Auth-Project"):
            headers = [*case["headers"][:index], [name, "x"], *case["headers"][index + 1 :]]
            yield {**case, "headers": headers}


def body_of(case: Case) -> bytes | None:
    """The bytes of a case's body."""
    if "body_b64" in case:
        return base64.b64decode(case["body_b64"])
    return case["body"].encode() if "body" in case else None


def _smaller_bodies(body: bytes) -> Iterator[bytes]:
    try:
        value = json.loads(body.decode(), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        yield from _less_text(body, 12)
        return
    if not isinstance(value, _Pairs):
        return
    for smaller in _less(value, 4):
        yield _dump(smaller).encode("utf-8", "surrogatepass")
    plain = _dump(value).encode("utf-8", "surrogatepass")
    if len(plain) < len(body):
        yield plain


def _less(value: Any, depth: int) -> Iterator[Any]:
    """Values with one part less, or with a simpler part."""
    if isinstance(value, list):
        kind = type(value)
        for index in range(len(value)):
            yield kind([*value[:index], *value[index + 1 :]])
        if depth:
            for index, part in enumerate(value):
                inner = part[1] if isinstance(value, _Pairs) else part
                for smaller in _less(inner, depth - 1):
                    new = (part[0], smaller) if isinstance(value, _Pairs) else smaller
                    yield kind([*value[:index], new, *value[index + 1 :]])
    elif isinstance(value, str) and len(value) > 1:
        for less in _less_text(value.encode("utf-8", "surrogatepass"), 8):
            yield less.decode("utf-8", "replace")
    elif value not in (None, 1, "x") and not isinstance(value, str):
        yield 1


def _less_text(text: bytes, pieces: int) -> Iterator[bytes]:
    """The text without one of so many pieces, then without smaller ones."""
    size = max(1, len(text) // 2)
    while pieces and size:
        for start in range(0, len(text), size):
            yield text[:start] + text[start + size :]
            pieces -= 1
            if not pieces:
                return
        size //= 2


def _dump(value: Any) -> str:
    if isinstance(value, _Pairs):
        return "{" + ", ".join(f"{json.dumps(key)}: {_dump(inner)}" for key, inner in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_dump, value)) + "]"
    return json.dumps(value)

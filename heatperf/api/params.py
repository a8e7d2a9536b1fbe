"""Query and body parameters: the exact readings of booleans, integers, tags and filters that clients rely on.

Every function raises ValueError with the text the client sees; ``bad_request`` turns that into a 400.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import webob.exc
from oslo_utils import strutils

#: Longest tag, in characters (the engine's database column).
MAX_TAG_LENGTH = 80

#: How a query parameter is read: its first value, all its values, or one value if there is only one.
SINGLE, MULTI, MIXED = "single", "multi", "mixed"


class Params:
    """Query parameters, in order; the part of WebOb's multi-valued mappings that actions use. Never changes."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple(pairs)

    def items(self) -> Iterator[tuple[str, str]]:
        """Every name and value, names as often as they were given."""
        return iter(self._pairs)

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self._pairs])

    def __len__(self) -> int:
        return len(self._pairs)

    def __contains__(self, name: object) -> bool:
        return any(known == name for known, _ in self._pairs) if self._pairs else False

    def get(self, name: str, default: Any = None) -> Any:
        """Return the last value of ``name``."""
        for known, value in reversed(self._pairs):
            if known == name:
                return value
        return default

    def __getitem__(self, name: str) -> str:
        if name not in self:
            raise KeyError(name)
        return str(self.get(name))

    def getall(self, name: str) -> list[str]:
        """Return all values of ``name``."""
        return [value for known, value in self._pairs if known == name]


#: No parameters at all: what most requests have.
NONE = Params()


def parse_query(query: str) -> Params | None:
    """Return the parameters of a query string, None where it holds what has to be decoded.

    :param query: as the client wrote it, without the question mark
    """
    if "%" in query or "+" in query or ";" in query or not query.isascii():
        return None  # WebOb also parts parameters at semicolons
    pairs = []
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((name, value))
    return Params(pairs)


@contextmanager
def bad_request(prefix: str = "") -> Iterator[None]:
    """Answer 400 with the text of a ValueError raised inside, after ``prefix``."""
    try:
        yield
    except ValueError as error:
        raise webob.exc.HTTPBadRequest(f"{prefix}{error}") from error


def boolean(name: str, value: Any) -> bool:
    """Read true or false, in any case and nothing else."""
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ValueError(f'Unrecognized value "{value}" for "{name}", acceptable values are: true, false.')
    return text == "true"


def flag(params: Any, name: str, default: bool = False) -> bool:
    """Read an optional boolean query parameter, ``default`` where it is absent.

    :raises webob.exc.HTTPBadRequest: it is there and neither true nor false
    """
    if name not in params:
        return default
    with bad_request():
        return boolean(name, params[name])


def integer(name: str, value: Any) -> int | None:
    """Read a non-negative integer in its plain spelling: ``01``, ``+1`` and ``1.0`` are refused."""
    if value is None:
        return None
    if not strutils.is_int_like(value):
        raise ValueError(f"Only integer is acceptable by '{name}'.")
    number = int(value)
    if number < 0:
        raise ValueError(f"Value '{value}' is invalid for '{name}' which only accepts non-negative integer.")
    return number


def tags(value: str) -> list[str]:
    """Read a comma-separated list of tags."""
    result = value.split(",")
    for tag in result:
        if len(tag) > MAX_TAG_LENGTH:
            raise ValueError(f'Invalid tag, "{tag}" is longer than {MAX_TAG_LENGTH} characters')
    return result


def template_type(value: str) -> str:
    """Read ``cfn`` or ``hot``, in any case."""
    result = value.lower()
    if result not in ("cfn", "hot"):
        raise ValueError(f'Invalid template type "{value}", valid types are: cfn, hot.')
    return result


def select(params: Any, wanted: dict[str, str]) -> dict[str, Any]:
    """Return those query parameters that ``wanted`` lists (name -> SINGLE, MULTI or MIXED) and that are not empty."""
    found: dict[str, Any] = {}
    if not params:
        return found
    for name, reading in wanted.items():
        value: Any
        if reading == SINGLE:
            value = params.get(name)
        else:
            value = params.getall(name)
            if reading == MIXED and len(value) == 1:
                value = value[0]
        if value:
            found[name] = value
    return found

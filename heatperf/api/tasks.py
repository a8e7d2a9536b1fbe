"""The API's heavy work, as a helper process does it (see heatperf.helper): bytes in, bytes out, nothing kept.

In: the arguments and the body that heavy.py sends. Out: a form and bytes. Raised: server.REFUSALS, as the same work
raises them in the worker. Whatever else goes wrong, and whatever would not arrive exactly as it is, is left to the
worker (form HERE), so that there is one behaviour and not two.

    PLAIN   JSON by orjson, equal to what it was made of
    EXACT   JSON that only the standard library reads as it is meant: NaN, integers beyond 64 bits, lone surrogates,
            more than 254 levels
    HERE    nothing: dates, sets, keys that are no strings, what contains itself
"""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from heatperf import jsontext
from heatperf.api import codec, stack_text, template_format, views
from heatperf.helper.server import REFUSALS, Task
from heatperf.rpc import envelope

LOG = logging.getLogger(__name__)

PLAIN, EXACT, HERE = "plain", "exact", "here"

_Result = tuple[dict[str, Any], bytes]
_LEFT: _Result = ({"form": HERE}, b"")
# The worker shall not try again what has used up the memory here.
_RAISED: tuple[type[Exception], ...] = (*REFUSALS.values(), MemoryError)

#: What parses a text, by the name of the task: the text and max_template_size in, plain data out.
PARSERS: Mapping[str, Callable[[Any, int], Any]] = {
    "parse_template": template_format.parse_template,
    "parse_adopted": template_format.parse_adopted,
    "parse_environment": template_format.parse_environment,
}


def _parser(parse: Callable[[Any, int], Any]) -> Task:
    def task(arguments: dict[str, Any], body: bytes) -> _Result:
        # Strings out of JSON may hold lone surrogates.
        text = body if arguments["bytes"] else body.decode("utf-8", "surrogatepass")
        try:
            value = parse(text, arguments["limit"])
        except _RAISED:
            raise
        except Exception:  # noqa: BLE001 - the worker will find out
            return _LEFT
        return encoded(value)

    return task


def encoded(value: Any) -> _Result:
    """Return ``value`` in the first form that says it exactly."""
    try:
        data = orjson.dumps(value)
        # Also finds what orjson has written its own way: NaN as null, a date as text, a tuple as a list.
        if orjson.loads(data) == value:
            return {"form": PLAIN}, data
    except (TypeError, ValueError):  # orjson's errors are of both kinds
        pass
    try:
        text = json.dumps(value)
        if repr(json.loads(text)) == repr(value):  # NaN is not equal to itself
            return {"form": EXACT}, text.encode("ascii")
    except (TypeError, ValueError, RecursionError):
        pass
    return _LEFT


def read_body(_arguments: dict[str, Any], body: bytes) -> _Result:
    """Read a large JSON body whose template is an object, and measure that.

    :returns: a head with ``pieces``, [name or None for the rest, bytes], and ``size``, see template_format.size_of
    """
    try:
        value = codec.decode(body)
        template = value["template"]
        if not isinstance(template, dict):
            return _LEFT
        pieces: list[tuple[str | None, bytes | None]] = [
            (name, jsontext.encode_plain(value.pop(name))) for name in ("template", "files") if name in value
        ]
        pieces.append((None, jsontext.encode_plain(value)))
        size = template_format.size_of(template)
    except (TypeError, ValueError, KeyError, RecursionError):
        return _LEFT
    if any(piece is None for _name, piece in pieces):
        return _LEFT
    head = {"form": PLAIN, "pieces": [(name, len(piece or b"")) for name, piece in pieces], "size": size}
    return head, b"".join(piece or b"" for _name, piece in pieces)


def list_view(arguments: dict[str, Any], body: bytes) -> _Result:
    """Render the answer to a listing.

    :param arguments: ``kind``, a key of views.LISTINGS, and ``given``, the arguments of that after the replies
    :param body: of a RawReply
    """
    kind, given = arguments["kind"], arguments["given"]
    if jsontext.has_non_finite(given):
        return _LEFT
    with _for_others():
        data = stack_text.stack_page(body, **given) if kind == "stacks" else None
        if data is not None:
            return {"form": PLAIN}, data
    with _for_others():
        replies = envelope.result_of(body, only_plain=True)
        if replies:
            # What orjson has read it writes as the standard library would: it holds no NaN, and no other type.
            return {"form": PLAIN}, orjson.dumps(views.LISTINGS[kind](replies, **given))
    with _for_others():
        replies = envelope.result_of(body)
        data = jsontext.encode_plain(views.LISTINGS[kind](replies, **given)) if replies else None
        if data is not None:
            return {"form": PLAIN}, data
    return _LEFT


@contextlib.contextmanager
def _for_others() -> Iterator[None]:
    """Whatever goes wrong here, somebody else will find out what it is, who does the same in another way."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - see above
        LOG.debug("A listing is rendered in another way: %s", type(error).__name__)


TASKS: Mapping[str, Task] = {
    **{name: _parser(parse) for name, parse in PARSERS.items()},
    "read_body": read_body,
    "list_view": list_view,
}

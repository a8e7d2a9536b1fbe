"""The text of the access log, one line per request.

Comes in: what the connection knows after the answer is sent. Goes out: the line's text and the request's id, to a Sink.
The id is the one that the answer had, so that no thread-local or context can slip another request's id in. Loop thread,
on the hot path.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

LOG = logging.getLogger("heatperf.access")
# A client must not be able to forge a line, or hide in one: no control characters, quotes or backslashes as they are.
UNSAFE = re.compile(r'[^\x20-\x7e]|["\\]')

#: Takes the text and the request id ("-" where the answer had none), within the request's own contextvars. It must not
#: park, block or raise.
Sink = Callable[[str, str], None]


def escape(text: str) -> str:
    """:returns: text with everything unprintable, quotes and backslashes as \\xNN"""
    return UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def log(
    sink: Sink,
    client: str,
    method: bytes,
    target: bytes,
    version: str,
    status: str,
    size: int,
    seconds: float,
    request_id: str,
) -> None:
    """
    :param client: address, "" for a unix socket
    :param target: as received, query included
    :param status: "200 OK" or "200"
    :param size: bytes of body sent
    :param request_id: "-" where the answer had none
    """
    line = f"{method.decode('latin-1')} {target.decode('latin-1')}"
    theirs = line + request_id
    # Of ASCII, exactly \x20 to \x7e is printable: these four are much faster than the expression.
    if not theirs.isascii() or not theirs.isprintable() or '"' in theirs or "\\" in theirs:
        line, request_id = escape(line), escape(request_id)
    sink(
        f'{client or "unix"} "{line} HTTP/{version}" {status[:3]} {size} {seconds * 1000.0:.1f}ms {request_id}',
        request_id,
    )


def record(text: str, request_id: str) -> None:
    """The Sink of a program that has set up no other: an ordinary log record."""
    LOG.info(text, extra={"request_id": request_id})

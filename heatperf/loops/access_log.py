"""One line per request on the logger "heatperf.access".

Comes in: what the connection knows after the answer is sent. Goes out: a log record whose ``request_id`` attribute and
text carry the id the answer had, so that no thread-local or context can slip another request's id in. Loop thread.
"""

from __future__ import annotations

import logging
import re

LOG = logging.getLogger("heatperf.access")
# A client must not be able to forge a line, or hide in one: no control characters, quotes or backslashes as they are.
UNSAFE = re.compile(r'[^\x20-\x7e]|["\\]')


def escape(text: str) -> str:
    """:returns: text with everything unprintable, quotes and backslashes as \\xNN"""
    return UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text) if UNSAFE.search(text) else text


def log(
    client: str, method: bytes, target: bytes, version: str, status: str, size: int, seconds: float, request_id: str
) -> None:
    """
    :param client: address, "" for a unix socket
    :param target: as received, query included
    :param status: "200 OK" or "200"
    :param size: bytes of body sent
    :param request_id: "-" where the answer had none
    """
    line = escape(f"{method.decode('latin-1')} {target.decode('latin-1')} HTTP/{version}")
    request_id = escape(request_id)
    LOG.info(
        '%s "%s" %s %d %.1fms %s',
        client or "unix", line, status[:3], size, seconds * 1000.0, request_id,
        extra={"request_id": request_id},
    )  # fmt: skip

"""Where the supervisor's log goes: it has read no configuration, so a zygote writes for it.

Comes in: log records of the supervisor. Goes out: the same, as JSON, to a zygote; to standard error while there is
none. Supervisor only.
"""

from __future__ import annotations

import contextlib
import logging
import select
import sys
from collections.abc import Callable
from typing import Any, TextIO

from heatperf.server.channel import MAX_TEXT


class Relay(logging.Handler):
    """:param send: takes a record for logging.makeLogRecord, and says whether somebody will write it"""

    def __init__(self, send: Callable[[dict[str, Any]], bool]) -> None:
        super().__init__()
        self._send = send
        self._sending = False
        self.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises: logging.Handler's rule."""
        text = record.getMessage()[:MAX_TEXT]
        if record.exc_info:
            text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"[:MAX_TEXT]
        values = {
            "name": record.name, "levelno": record.levelno, "levelname": record.levelname, "msg": text,
            "created": record.created, "msecs": record.msecs, "process": record.process,
            "pathname": record.pathname, "filename": record.filename, "module": record.module,
            "lineno": record.lineno, "funcName": record.funcName,
        }  # fmt: skip
        # A failure on the way may want to log, too.
        if not self._sending:
            self._sending = True
            try:
                if self._send(values):
                    return
            finally:
                self._sending = False
        if record.levelno >= logging.INFO:
            write_stderr(self.format(logging.makeLogRecord({**values, "args": ()})))


def write_stderr(text: str) -> None:
    """Print, unless nobody reads: the supervisor must neither fail nor wait because of a terminal that has gone, a full
    disk or a full pipe.
    """
    with contextlib.suppress(OSError, ValueError):
        if _takes_more(sys.stderr):
            print(text, file=sys.stderr, flush=True)


def _takes_more(stream: TextIO) -> bool:
    try:
        fd = stream.fileno()
    except OSError:  # no file, but something in memory
        return True
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return any(event & select.POLLOUT for _fd, event in poll.poll(0))

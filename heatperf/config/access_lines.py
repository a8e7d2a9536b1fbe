"""The access log in the line format of the configuration, without a log record per request.

Comes in: the text and the request id of each line, on the loop's thread, within the contextvars of its request. Goes
out: batches of complete lines, each one write of the handler's, by the thread of log_writer. Raises nothing; while the
log takes no more, lines are dropped and counted.

A record through oslo.log costs a tenth of a millisecond, several times what the request itself costs. Most of a line is
the same for all lines of a second and a caller, so it is made once for these (Frames), and what is left is one
formatting of four values. Handlers and formats that this cannot serve exactly get a record for each line, as ever:
syslog, the journal, JSON, classes of others, names that only a record knows.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from operator import attrgetter
from typing import Any

from oslo_log import formatters, handlers

from heatperf.config.log_writer import Front, Writer, finished
from heatperf.context import ContextLogFilter, RequestContext, get_current

NAME = "heatperf.access"
#: How long a line waits for its batch, in seconds; and how many lines, or characters, do not wait that long.
INTERVAL = 0.2
BATCH = 1000
BATCH_SIZE = 1_000_000
#: What waits while the previous batch is being written, in lines and characters; beyond, lines are dropped. Ordinary
#: ones reach the first, but clients decide how long a target is.
MAX_LINES = 20_000
MAX_SIZE = 8_000_000
# Writers that share a pipe have their lines kept whole up to so many bytes (pipe(7), PIPE_BUF).
PIPE_PIECE = 4096
# Callers whose part of the line is kept for the second, at most.
MAX_CALLERS = 1000

# Their emit() writes the formatted text and a terminator to a stream, and does nothing else with the record.
STREAMS = (
    logging.StreamHandler,
    logging.FileHandler,
    logging.handlers.WatchedFileHandler,
    logging.handlers.RotatingFileHandler,
    logging.handlers.TimedRotatingFileHandler,
    handlers.ColorHandler,
)
FIELD = re.compile(r"%(?:%|\((?P<name>\w+)\)(?P<form>[#0+ -]*(?:\*|\d+)?(?:\.(?:\*|\d+))?[diouxXeEfFgGcrsa]))")
# Values of oslo.context for formats, by the attribute of the context that they are. Not roles, flags or secrets.
OF_CONTEXT = {
    "user": "user_id", "project": "project_id", "project_id": "project_id", "domain": "domain_id",
    "user_domain": "user_domain_id", "project_domain": "project_domain_id", "system_scope": "system_scope",
    "user_name": "user_name", "project_name": "project_name", "domain_name": "domain_name",
    "user_domain_name": "user_domain_name", "project_domain_name": "project_domain_name",
}  # fmt: skip
OF_LINE = ("message", "request_id", "global_request_id", "msecs", "isotime")
DEFAULT_ORDER = ["%(msecs)03d", "%(global_request_id)s", "%(request_id)s", "%(message)s"]
OF_RECORD = (
    "name", "levelname", "levelno", "process", "processName", "thread", "threadName",
    "pathname", "filename", "module", "lineno", "funcName",
)  # fmt: skip


class Unsupported(Exception):
    """This handler needs a record for each line."""


class Frames:
    """What surrounds the text in a line.

    :param fmt: in the style of logging.Formatter
    :param identity_format: of oslo.log's user_identity
    :param datefmt: of strftime; None for logging.Formatter's own format, which has milliseconds
    :param constants: values that are the same for all lines
    :param nobodys: values of OF_CONTEXT for lines without a context
    :raises Unsupported: the format has a name that is not known here
    """

    def __init__(
        self, fmt: str, identity_format: str, datefmt: str | None, constants: dict[str, Any], nobodys: dict[str, Any]
    ) -> None:
        self._fmt = fmt
        self._identity_format = identity_format
        self._datefmt = datefmt
        self._constants = constants
        self._nobodys = nobodys
        names = _names(fmt)
        identity = _names(identity_format) if "user_identity" in names else set()
        if names - {*OF_LINE, *OF_CONTEXT, *constants, "asctime", "user_identity"} or identity - {*OF_CONTEXT}:
            raise Unsupported(fmt)
        self._isotime = "isotime" in names
        # As by default. A tuple is faster to format than a dict.
        fields = [match[0] for match in FIELD.finditer(fmt) if match["name"] in OF_LINE]
        self._in_order = bool(datefmt) and fields == DEFAULT_ORDER
        # Two at least, so that it returns a tuple.
        attributes = {OF_CONTEXT[name] for name in (names | identity) & {*OF_CONTEXT}} | {"user_id", "project_id"}
        self._caller: Callable[[Any], tuple[Any, ...]] = attrgetter(*sorted(attributes))
        self._second = -1
        self._of_second = ""
        self._frames: dict[tuple[Any, ...] | None, str] = {}

    def line(self, text: str, request_id: str, context: RequestContext | None, now: float) -> str:
        """
        :param request_id: for where there is no context
        :param now: seconds since the epoch
        """
        second = int(now)
        if second != self._second:
            self._begin(second)
        if context is None:
            caller = None
            global_id: str | None = ""
        else:
            caller = self._caller(context)
            global_id = context.global_request_id
            request_id = context.request_id
        frame = self._frames.get(caller) or self._new_frame(caller, context)
        if self._in_order:
            return frame % (int((now - second) * 1000), global_id, request_id, text)
        values = {
            "message": text,
            "request_id": request_id,
            "global_request_id": global_id,
            "msecs": (now - second) * 1000 // 1,  # a float without a fraction, as in a record
        }
        if self._isotime:
            values["isotime"] = datetime.fromtimestamp(now).astimezone().isoformat(timespec="microseconds")
        return frame % values

    def _begin(self, second: int) -> None:
        self._second = second
        self._frames.clear()
        local = time.localtime(second)
        if self._datefmt:
            asctime = _literal(time.strftime(self._datefmt, local))
        else:
            asctime = _literal(time.strftime(logging.Formatter.default_time_format, local)) + ",%(msecs)03d"
        self._of_second = _fill(self._fmt, self._constants, {"asctime": asctime})

    def _new_frame(self, caller: tuple[Any, ...] | None, context: RequestContext | None) -> str:
        if context is None:
            values = {**dict.fromkeys((*OF_CONTEXT, "user_identity"), ""), **self._nobodys}
        else:
            values = {name: getattr(context, attribute) for name, attribute in OF_CONTEXT.items()}
            shown = {name: value or "-" for name, value in values.items()}
            values["user_identity"] = self._identity_format % shown
        frame = _fill(self._of_second, values, {})
        if self._in_order:
            frame = FIELD.sub(lambda match: "%" + match["form"] if match["name"] else match[0], frame)
        if len(self._frames) < MAX_CALLERS:
            self._frames[caller] = frame
        return frame


def _names(fmt: str) -> set[str]:
    return {match["name"] for match in FIELD.finditer(fmt) if match["name"]}


def _literal(text: str) -> str:
    return text.replace("%", "%%")


def _fill(fmt: str, values: dict[str, Any], formats: dict[str, str]) -> str:
    """Put values into a format, and leave a format of the other names.

    :param formats: values that are formats themselves
    """

    def filled(match: re.Match[str]) -> str:
        name = match["name"]
        if name in formats:
            if match["form"] != "s":
                raise Unsupported(match[0])
            return formats[name]
        return _literal(match[0] % values) if name in values else match[0]

    return FIELD.sub(filled, fmt)


def frames_of(front: Front) -> tuple[Frames, str]:
    """The frames of a handler's lines, and what follows each line before its terminator.

    :raises Unsupported: see the module's text
    """
    handler = front.inner
    formatter = handler.formatter
    if type(handler) not in STREAMS or any(type(each) is not ContextLogFilter for each in front.filters):
        raise Unsupported(handler)
    record = logging.LogRecord(NAME, logging.INFO, __file__, 0, "", None, None, "access")
    constants = {name: record.__dict__[name] for name in OF_RECORD}
    nobodys: dict[str, Any] = {}
    if type(formatter) is formatters.ContextFormatter:
        fmt, identity = formatter.conf.logging_context_format_string, formatter.conf.logging_user_identity_format
        constants.update(dict.fromkeys(("instance", "resource", "color"), ""), error_summary="-")
        constants["version"] = formatter.version
        nobodys["project"] = formatter.project  # a context's comes first
    elif type(formatter) is logging.Formatter and type(formatter._style) is logging.PercentStyle:
        fmt, identity = formatter._style._fmt, ""
        # What oslo.log's formatter adds to a record is there only if another handler has seen it before.
        if _names(fmt) & {*OF_CONTEXT, "global_request_id", "user_identity", "isotime"}:
            raise Unsupported(fmt)
    else:
        raise Unsupported(formatter)
    end = ""
    if type(handler) is handlers.ColorHandler:
        constants["color"] = handlers.ColorHandler.LEVEL_COLORS[logging.INFO]
        end = "\033[00m"
    frames = Frames(fmt, identity, formatter.datefmt, constants, nobodys)
    try:
        frames.line("text", "req-1", None, time.time())
    except (ValueError, KeyError, TypeError) as error:
        raise Unsupported(fmt) from error
    return frames, end


class Lines:
    """The lines of one handler."""

    def __init__(self, handler: Any, frames: Frames, end: str, writer: Writer) -> None:
        self._handler = handler
        self._line = frames.line
        self._between = end + handler.terminator
        self._end = end
        self._writer = writer
        self._lines: list[str] = []
        self._size = 0
        self._writing = False
        self._piece = 0 if _regular(self._handler) else PIPE_PIECE

    def add(self, text: str, request_id: str) -> None:
        """See loops.access_log.Sink."""
        lines = self._lines
        line = self._line(text, request_id, get_current(), time.time())
        lines.append(line)
        self._size += len(line)
        if len(lines) >= BATCH or self._size >= BATCH_SIZE:
            self.flush()

    def flush(self, wait: bool = True) -> None:
        """Hand over what there is. Loop thread.

        :param wait: leave it for later if the writer still has the previous batch
        """
        lines = self._lines
        if not lines:
            return
        if self._writing and wait:
            while len(lines) > MAX_LINES or self._size > MAX_SIZE:
                self._size -= len(lines.pop())
                self._writer.lose(1)
            return
        self._lines = []
        self._size = 0
        self._writing = True
        pieces = self._pieces(lines)
        for piece in pieces[:-1]:
            self._put(piece, _nothing)
        self._put(pieces[-1], self._written)

    def _put(self, piece: list[str], done: Callable[[], None]) -> None:
        record = logging.LogRecord(NAME, logging.INFO, __file__, 0, "", None, None)
        text = self._between.join(piece) + self._end
        self._writer.put_batch(self._handler, finished(record, text), done)

    def _pieces(self, lines: list[str]) -> list[list[str]]:
        if not self._piece:
            return [lines]
        pieces: list[list[str]] = [[]]
        size = 0
        for line in lines:
            # Lines that are not ASCII, by the project's name, say, may be longer in bytes.
            length = (len(line) if line.isascii() else len(line.encode("utf-8", "replace"))) + len(self._between)
            size += length
            if size > self._piece and pieces[-1]:
                pieces.append([])
                size = length
            pieces[-1].append(line)
        return pieces

    def _written(self) -> None:
        self._writing = False  # by the writer's thread, and only there


def _nothing() -> None:
    pass


def _regular(handler: Any) -> bool:
    try:
        return stat.S_ISREG(os.fstat(handler.stream.fileno()).st_mode)
    except (AttributeError, OSError, ValueError):  # not open yet, or no file
        return False


class AccessLog:
    """Finds out how each handler of the access log gets its lines. In the worker, with the Fronts in place.

    :ivar sink: see loops.access_log.Sink; None when the configuration wants no such lines
    """

    def __init__(self, writer: Writer) -> None:
        logger = logging.getLogger(NAME)
        self.sink: Callable[[str, str], None] | None = None
        self._batched: list[Lines] = []
        self._records: Callable[..., None] | None = None
        if not logger.isEnabledFor(logging.INFO):
            return
        for handler in _handlers_of(logger):
            if handler.level > logging.INFO:
                continue
            try:
                if not isinstance(handler, Front) or logger.filters:
                    raise Unsupported(handler)
                frames, end = frames_of(handler)
            except Unsupported:
                self._records = logger.info
            else:
                handler.addFilter(_no_access_record)
                self._batched.append(Lines(handler.inner, frames, end, writer))
        if len(self._batched) == 1 and self._records is None:
            self.sink = self._batched[0].add
        elif self._batched or self._records is not None:
            self.sink = self._add

    def _add(self, text: str, request_id: str) -> None:
        for lines in self._batched:
            lines.add(text, request_id)
        if self._records is not None:
            self._records(text, extra={"request_id": request_id})

    def flush(self, wait: bool = True) -> None:
        """See Lines.flush."""
        for lines in self._batched:
            lines.flush(wait)


def _handlers_of(logger: logging.Logger | None) -> Iterator[logging.Handler]:
    """Those that get the logger's records, as Logger.callHandlers finds them."""
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _no_access_record(record: logging.LogRecord) -> bool:
    """For Fronts whose handlers get access lines in batches."""
    return record.name != NAME

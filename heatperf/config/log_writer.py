"""Log handlers that may block, moved off the threads that log.

Comes in: the loggers as oslo.log or a logging configuration file has set them up. Goes out: the same lines by the same
handlers, written by one native thread. Raises nothing: what finds the queue full is dropped, and the log says how
much.

A pipe whose reader sleeps, a disk that is busy, syslog, the journal, a notifier: each of them would hold up the loop,
and with it every request of the worker. So each handler gets a Front in its place, which filters and formats at once
(the context, the arguments and the exception that is being handled are what they are now) and leaves the rest to the
thread. Workers only: the thread starts after the fork, and the zygote writes directly.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

LOG = logging.getLogger("heatperf.log")

# A debug log makes some thousand lines a second, so this rides out a stall of a second. The size, in characters, is for
# the long ones, since clients decide how long some are.
MAX_WAITING = 5_000
MAX_SIZE = 8_000_000
# How often lost lines are reported, and how long one who flushes waits, in seconds.
REPORT_INTERVAL = 1.0
FLUSH_TIMEOUT = 2.0

Entry = tuple[logging.Handler, logging.LogRecord, Callable[[], None] | None]


class Writer:
    """The queue and its thread."""

    def __init__(self) -> None:
        # None only wakes the thread.
        self._entries: queue.SimpleQueue[Entry | threading.Event | None] = queue.SimpleQueue()
        self._lost = 0
        self._size = 0
        # Reentrant, as those of handlers: a finalizer may log on the thread that is just counting.
        self._counting = threading.RLock()
        self._reported = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread: after the fork."""
        # Daemon: a handler that hangs for ever must not keep a drained worker alive.
        self._thread = threading.Thread(target=self._work, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, handler: logging.Handler, record: logging.LogRecord) -> None:
        """Have the handler write a record, soon. Any thread; never waits."""
        full = self._entries.qsize() >= MAX_WAITING or self._size >= MAX_SIZE
        # What the thread says itself, of lost lines, has to get through.
        if full and threading.current_thread() is not self._thread:
            self.lose(1)
            return
        self._count(size_of(record))
        self._entries.put((handler, record, None))

    def put_batch(self, handler: logging.Handler, record: logging.LogRecord, done: Callable[[], None]) -> None:
        """The same for one who bounds what is under way by himself.

        :param done: called by the thread when it is written; must not raise
        """
        self._entries.put((handler, record, done))

    def _count(self, size: int) -> None:
        with self._counting:
            self._size += size

    def lose(self, lines: int) -> None:
        """Count lines that were dropped."""
        with self._counting:
            first = not self._lost
            self._lost += lines
        if first:  # the thread may have written everything else by now
            self._entries.put(None)

    def flush(self, seconds: float = FLUSH_TIMEOUT) -> bool:
        """Wait until all that has been put is written; whether it was."""
        if self._thread is None or not self._thread.is_alive() or threading.current_thread() is self._thread:
            return False
        written = threading.Event()
        self._entries.put(written)
        return written.wait(seconds)

    def _work(self) -> None:
        while True:
            # Handlers may be anybody's, and without this thread there is no log: not even a SystemExit ends it.
            with contextlib.suppress(BaseException):
                self._step()

    def _step(self) -> None:
        try:
            # It sleeps for as long as nothing is logged, unless it has something to say itself.
            entry = self._entries.get(timeout=REPORT_INTERVAL if self._lost else None)
        except queue.Empty:
            entry = None
        if isinstance(entry, threading.Event):
            if self._report(at_once=True):
                self._entries.put(entry)  # what it has said is to be written, too
            else:
                entry.set()
            return
        if entry is not None:
            # An idle thread keeps no traceback alive: all of this is gone when it returns.
            self._write(*entry)
        if self._lost:
            self._report()

    def _write(self, handler: logging.Handler, record: logging.LogRecord, done: Callable[[], None] | None) -> None:
        try:
            handler.handle(record)
        except BaseException:
            with contextlib.suppress(BaseException):
                handler.handleError(record)
        if done is not None:
            done()
        else:
            self._count(-size_of(record))

    def _report(self, at_once: bool = False) -> bool:
        now = time.monotonic()
        if not self._lost or (now - self._reported < REPORT_INTERVAL and not at_once):
            return False
        self._reported = now
        with self._counting:
            lost, self._lost = self._lost, 0
        # Through the Fronts, to the end of the queue.
        LOG.warning("%d lines of the log were dropped: they came faster than they could be written", lost)
        return True


class Front(logging.Handler):
    """Stands in a logger's list for a handler, with its level and its filters."""

    def __init__(self, handler: logging.Handler, writer: Writer) -> None:
        super().__init__(handler.level)
        self.inner = handler
        self._writer = writer
        self._format = handler.format
        self.filters, handler.filters = handler.filters, []
        # Handlers format in emit, some of them also to see whether to rotate; all of them by way of this.
        handler.format = _finished  # type: ignore[method-assign]

    def format(self, record: logging.LogRecord) -> Any:
        """As the handler does; a str, but for handlers that send something else."""
        return self._format(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Under the lock of this Front: formatters keep state. The handler's own lock may be held for long."""
        try:
            text = self._format(record)
        except Exception:
            self.handleError(record)
            return
        # A copy, since the next handler's formatter writes into the record.
        self._writer.put(self.inner, finished(copy.copy(record), text))

    def flush(self) -> None:
        """Part of logging.shutdown(), which goes through Fronts before the older handlers behind them."""
        self._writer.flush()


def finished(record: logging.LogRecord, text: Any) -> logging.LogRecord:
    """Attach what the handler behind a Front shall write."""
    record.__dict__["finished"] = text
    return record


def _finished(record: logging.LogRecord) -> Any:
    return record.__dict__["finished"]


def size_of(record: logging.LogRecord) -> int:
    """Characters of what ``finished`` has attached; 0 for what is not text."""
    text = record.__dict__["finished"]
    return len(text) if isinstance(text, str) else 0


def loggers() -> Iterator[logging.Logger]:
    """All that exist, the root first."""
    yield logging.getLogger()
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield logger


def install(writer: Writer) -> None:
    """Put a Front before every handler of every logger."""
    fronts: dict[int, Front] = {}
    for logger in loggers():
        for place, handler in enumerate(logger.handlers):
            if isinstance(handler, logging.NullHandler | Front):
                continue
            if id(handler) not in fronts:
                fronts[id(handler)] = Front(handler, writer)
            logger.handlers[place] = fronts[id(handler)]

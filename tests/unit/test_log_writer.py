"""The thread that writes the log outlives what handlers do, keeps within its memory, and says what it has dropped."""

import contextlib
import logging
import re
import threading

import pytest
from pipeline_rig import wait_for

from heatperf.config import access_lines, log_writer

DROPPED = re.compile(r"(\d+) lines of the log were dropped")


class Gated(logging.Handler):
    """Keeps what it is given, when it is let."""

    def __init__(self):
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.stuck = threading.Event()
        self.got = []

    def emit(self, record):
        if not self.open.is_set():
            self.stuck.set()
            assert self.open.wait(20)
        self.got.append(self.format(record))

    def told(self):
        return sum(int(match[1]) for line in self.got if (match := DROPPED.match(line)))


@pytest.fixture
def gated():
    """A handler of the root logger, behind a writer; and that writer."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    handler, writer = Gated(), log_writer.Writer()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    log_writer.install(writer)
    writer.start()
    yield handler, writer
    handler.open.set()
    root.handlers[:], root.level = handlers, level


def block(handler, writer):
    """The handler holds one record, and everything after it waits."""
    handler.open.clear()
    handler.stuck.clear()
    logging.getLogger("served").info("first")
    assert handler.stuck.wait(10)


def test_dropped_lines_are_told_when_nothing_more_is_logged(gated, monkeypatch):
    monkeypatch.setattr(log_writer, "MAX_WAITING", 10)
    monkeypatch.setattr(log_writer, "REPORT_INTERVAL", 0.3)
    handler, writer = gated
    for lost in (7, 16):  # the second time sooner than reports are repeated
        block(handler, writer)
        for number in range(10 + lost - handler.told()):
            logging.getLogger("served").info("%d", number)
        handler.open.set()
        wait_for(lambda lost=lost: handler.told() == lost)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_the_thread_survives_what_a_handler_raises(gated, error):
    class Broken(logging.Handler):
        def emit(self, record):
            raise error("emit")

        def handleError(self, record):
            raise error("handleError")

    handler, writer = gated
    written = threading.Event()
    record = logging.makeLogRecord({"msg": "x"})
    writer.put_batch(Broken(), log_writer.finished(record, "x"), written.set)
    logging.getLogger("served").info("after")
    assert writer.flush(10)
    assert handler.got == ["after"] and written.is_set()


def test_long_records_are_bounded_by_their_size(gated, monkeypatch):
    monkeypatch.setattr(log_writer, "MAX_SIZE", 100_000)
    handler, writer = gated
    block(handler, writer)
    for _ in range(30):
        logging.getLogger("served").info("x" * 10_000)
    handler.open.set()
    assert writer.flush(10)
    kept = sum(line.startswith("xx") for line in handler.got)
    assert 5 <= kept <= 11 and handler.told() == 30 - kept
    logging.getLogger("served").info("y" * 200_000)  # longer than all that may wait, but nothing does
    assert writer.flush(10)
    assert handler.got[-1] == "y" * 200_000


def test_long_access_lines_are_bounded_by_their_size(gated, monkeypatch):
    """A client chooses how long its targets are."""
    monkeypatch.setattr(access_lines, "BATCH_SIZE", 20_000)
    monkeypatch.setattr(access_lines, "MAX_SIZE", 100_000)
    handler, writer = gated
    handler.terminator = "\n"
    frames = access_lines.Frames("%(message)s", "", None, {}, {})
    lines = access_lines.Lines(handler, frames, "", writer)
    lines._piece = 0
    block(handler, writer)
    lines.add("begin", "-")
    lines.flush()
    for number in range(30):
        lines.add(f"{number:02} " + "x" * 10_000, "-")
    assert sum(map(len, lines._lines)) <= 100_000
    handler.open.set()
    assert writer.flush(10)
    lines.flush()
    assert writer.flush(10)
    got = "\n".join(handler.got).split("\n")
    kept = [line[:2] for line in got if line.endswith("xx")]
    assert kept == [f"{number:02}" for number in range(9)] and handler.told() == 21


def test_a_long_batch_does_not_wait_for_more_lines(gated):
    handler, writer = gated
    handler.terminator = "\n"
    lines = access_lines.Lines(handler, access_lines.Frames("%(message)s", "", None, {}, {}), "", writer)
    lines.add("x" * access_lines.BATCH_SIZE, "-")
    assert writer.flush(10)
    assert len(handler.got) >= 1 and not lines._lines


def test_a_finalizer_may_log_while_lines_are_counted(gated):
    """The collector runs finalizers anywhere, on the thread that is just counting too."""
    handler, writer = gated
    done = threading.Event()

    def count():
        with contextlib.ExitStack() as stack:
            stack.enter_context(writer._counting)
            writer.lose(1)
            logging.getLogger("served").info("from a finalizer")
        done.set()

    threading.Thread(target=count, daemon=True).start()
    assert done.wait(5)
    assert writer.flush(10)
    assert "from a finalizer" in handler.got and handler.told() == 1

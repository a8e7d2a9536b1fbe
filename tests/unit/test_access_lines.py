"""Access lines look as oslo.log would have written them, arrive where its handlers write, and hold up nobody."""

import contextvars
import fcntl
import io
import json
import logging
import os
import re
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oslo_config import cfg
from oslo_log import formatters, handlers, log
from pipeline_rig import wait_for

from heatperf.config import access_lines, load, log_writer, logs
from heatperf.context import RequestContext

ACCESS = logging.getLogger(access_lines.NAME)
TEXT = '10.0.0.1 "GET /v1/p/stacks?a=%41 HTTP/1.1" 200 17 1.2ms req-1'


class Ticking:
    """As much of a loop as the logs need."""

    def every(self, seconds, function):
        self.tick = function


@pytest.fixture
def untouched():
    """Loggers are the process's: put them back as they were."""
    root, hook = logging.getLogger(), sys.excepthook
    before = [(each, list(each.handlers), each.level, list(each.filters)) for each in log_writer.loggers()]
    yield
    for handler in root.handlers:
        if isinstance(handler, log_writer.Front):
            handler.inner.close()
    for each, its_handlers, level, filters in before:
        each.handlers[:], each.level, each.filters[:] = its_handlers, level, filters
    logging.getLogger("heatperf.access").setLevel(logging.NOTSET)
    sys.excepthook = hook


class Rig:
    def __init__(self, tmp_path):
        self.path = tmp_path / "heat.log"
        self.conf_path = tmp_path / "heat.conf"
        self.loop = Ticking()

    def start(self, text=None, access=True, stream=None):
        self.conf_path.write_text("[DEFAULT]\n" + (f"log_file = {self.path}\n" if text is None else text))
        conf = cfg.ConfigOpts()
        settings = load.load(conf, ["--config-file", str(self.conf_path)])
        self.logs = logs.setup(conf, settings)
        if stream is not None:
            logging.getLogger().handlers[0].setStream(stream)
        self.sink = self.logs.start(self.loop, access)
        return self

    def lines(self):
        self.logs.flush()
        return self.path.read_text().splitlines()


@pytest.fixture
def rig(tmp_path, untouched):
    return Rig(tmp_path)


def context_of(**values):
    """A context that is not the current one."""
    return contextvars.copy_context().run(lambda: RequestContext(**values))


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=8)
IDS = st.one_of(st.none(), TEXTS)
NAMES = sorted({*access_lines.OF_CONTEXT, *access_lines.OF_LINE, "asctime", "user_identity", "levelname", "name"})
PLAIN_NAMES = ["asctime", "levelname", "message", "name", "process", "request_id", "threadName"]
PIECES = st.lists(
    st.one_of(
        st.sampled_from(NAMES).map(lambda name: f"%({name})s"),
        st.sampled_from(
            ["%%", "[", "] ", "%(msecs)03d", "%(levelname)-9s", "%(process)d", "%(instance)s", "%(color)s"]
        ),
        TEXTS.map(lambda text: text.replace("%", "%%")),
    ),
    max_size=8,
)


class TestFrames:
    """Against oslo.log's own formatter."""

    @given(
        PIECES,
        st.one_of(st.none(), st.fixed_dictionaries(dict.fromkeys(sorted(set(access_lines.OF_CONTEXT.values())), IDS))),
        st.one_of(st.none(), TEXTS),
        st.sampled_from(["%H:%M:%S", None, "%%"]),
        st.floats(1.7e9, 1.8e9),
        st.booleans(),
        st.text(st.characters(codec="ascii", categories=["L", "P"]), max_size=9),
    )
    def test_as_oslo_log(self, pieces, values, global_id, datefmt, now, colored, text):
        conf = cfg.ConfigOpts()
        log.register_options(conf)
        conf([])
        if pieces:  # else the default
            # oslo.config would read $NAME as another option
            conf.set_override("logging_context_format_string", "".join(pieces).replace("$", "$$") + "%(message)s")
        handler = handlers.ColorHandler(io.StringIO()) if colored else logging.StreamHandler(io.StringIO())
        handler.setFormatter(formatters.ContextFormatter(project="prog", version="1", datefmt=datefmt, config=conf))
        context = None
        if values is not None:
            context = context_of(request_id="req-of-context", global_request_id=global_id, **values)
        record = logging.LogRecord(access_lines.NAME, logging.INFO, "", 0, text, None, None)
        record.created, record.msecs = now, (now - int(now)) * 1000 // 1
        record.request_id, record.context = "req-of-answer", context
        front = log_writer.Front(handler, log_writer.Writer())
        try:
            wanted = front.format(record)
        except ValueError:  # a name that only a context has
            assert context is None
            return
        frames, end = access_lines.frames_of(front)
        for _ in range(2):  # as the first line of its caller, and as one of many
            assert frames.line(text, "req-of-answer", context, now) + end == wanted

    @given(
        st.lists(st.sampled_from(PLAIN_NAMES), max_size=5), st.sampled_from(["%d.%m.", None]), st.floats(1.7e9, 1.8e9)
    )
    def test_as_the_standard_formatter(self, names, datefmt, now):
        handler = logging.StreamHandler(io.StringIO())
        handler.setFormatter(logging.Formatter("|".join(f"%({name})s" for name in [*names, "message"]), datefmt))
        record = logging.LogRecord(access_lines.NAME, logging.INFO, "", 0, TEXT, None, None)
        record.created, record.msecs = now, (now - int(now)) * 1000 // 1
        record.request_id = "req-2"
        front = log_writer.Front(handler, log_writer.Writer())
        frames, end = access_lines.frames_of(front)
        assert frames.line(TEXT, "req-2", None, now) + end == front.format(record)

    def test_callers_and_seconds_are_told_apart(self):
        frames = access_lines.Frames("%(asctime)s %(user_identity)s %(message)s", "%(user)s", "%S", {}, {})
        one, two = context_of(user_id="one"), context_of(user_id="two")
        said = [frames.line("x", "-", context, now) for now in (1.1, 1.2, 2.0) for context in (one, None, two, one)]
        first = ["01 one x", "01  x", "01 two x", "01 one x"]
        assert said == [*first, *first, *(line.replace("01", "02") for line in first)]

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda handler: handler.setFormatter(formatters.JSONFormatter()),
            lambda handler: handler.setFormatter(logging.Formatter("{message}", style="{")),
            lambda handler: handler.setFormatter(logging.Formatter("%(created)f")),
            lambda handler: handler.setFormatter(logging.Formatter("%(user)s")),
            lambda handler: handler.addFilter(lambda record: True),
            lambda handler: setattr(handler, "__class__", type("Own", (logging.StreamHandler,), {})),
        ],
    )
    def test_what_needs_records_is_recognised(self, spoil):
        handler = logging.StreamHandler(io.StringIO())
        handler.setFormatter(logging.Formatter("%(message)s"))
        access_lines.frames_of(log_writer.Front(handler, log_writer.Writer()))
        spoil(handler)
        with pytest.raises(access_lines.Unsupported):
            access_lines.frames_of(log_writer.Front(handler, log_writer.Writer()))


class TestFile:
    def test_lines_and_records_are_in_one_file_and_one_form(self, rig):
        rig.start()
        context = contextvars.copy_context()
        context.run(RequestContext, request_id="req-1", user_id="u", project_id="p")
        context.run(rig.sink, TEXT, "req-1")
        context.run(ACCESS.getChild("other").info, TEXT)
        rig.loop.tick()
        lines = rig.lines()
        assert len(lines) == 2
        forms = {line.partition(" ")[2].partition(" ")[2].replace("access.other", "access") for line in lines}
        assert forms == {f"{os.getpid()} INFO heatperf.access [None req-1 u p - - - -] {TEXT}"}

    def test_nothing_is_lost_by_a_flush(self, rig):
        rig.start()
        for number in range(5003):
            rig.sink(f"line-{number}", "-")
            logging.getLogger("served").info("record-%d", number)
        told = [line.rpartition(" ")[2] for line in rig.lines()]
        for kind in ("line", "record"):
            assert [name for name in told if name.startswith(kind)] == [f"{kind}-{number}" for number in range(5003)]

    def test_logrotate(self, rig, tmp_path):
        rig.start()
        rig.sink("before", "-")
        assert len(rig.lines()) == 1
        rig.path.rename(tmp_path / "heat.log.1")
        rig.sink("after", "-")
        assert rig.lines()[0].endswith("after")
        assert (tmp_path / "heat.log.1").read_text().endswith("before\n")

    def test_rotation_by_size(self, rig, tmp_path):
        rig.start(f"log_file = {rig.path}\nlog_rotation_type = size\nmax_logfile_size_mb = 1\n")
        for _ in range(12):
            for _ in range(500):
                rig.sink("x" * 200, "-")
            rig.logs.flush()
        first = tmp_path / "heat.log.1"
        assert 2**20 * 0.8 < first.stat().st_size < 2**20
        assert len(first.read_text().splitlines()) + len(rig.lines()) == 6000

    def test_color(self, rig):
        stream = io.StringIO()
        rig.start(
            "log_color = true\nuse_stderr = true\nlogging_context_format_string = %(color)s%(message)s\n", stream=stream
        )
        rig.sink("one", "-")
        rig.sink("two", "-")
        rig.logs.flush()
        assert stream.getvalue() == "\033[00;36mone\033[00m\n\033[00;36mtwo\033[00m\n"

    @pytest.mark.parametrize("access", [True, False])
    def test_nobody_wants_them(self, rig, access):
        rig.start(f"log_file = {rig.path}\n" + "default_log_levels = heatperf.access=WARN\n" * access, access=access)
        assert rig.sink is None
        logging.getLogger("served").info("others go on")
        assert rig.lines()[0].endswith("others go on")


class TestRecords:
    """Where each line has to be a record."""

    def test_json(self, rig):
        rig.start(f"log_file = {rig.path}\nuse_json = true\n")
        context = contextvars.copy_context()
        context.run(RequestContext, request_id="req-1", user_id="u")
        context.run(rig.sink, TEXT, "req-1")
        (line,) = rig.lines()
        entry = json.loads(line)
        assert (entry["message"], entry["name"], entry["context"]["request_id"]) == (TEXT, access_lines.NAME, "req-1")

    def test_logging_file_with_two_kinds_of_handlers(self, rig, tmp_path):
        ini = tmp_path / "logging.ini"
        ini.write_text(
            "[loggers]\nkeys = root,access\n[handlers]\nkeys = file,own\n[formatters]\nkeys = plain\n"
            "[formatter_plain]\nformat = %(name)s %(message)s\n"
            "[logger_root]\nhandlers = file\nlevel = INFO\n"
            "[logger_access]\nqualname = heatperf.access\nhandlers = own\nlevel = INFO\n"
            f"[handler_file]\nclass = FileHandler\nargs = ('{rig.path}',)\nformatter = plain\n"
            f"[handler_own]\nclass = {__name__}.Own\nargs = ()\nlevel = INFO\n"
        )
        rig.start(f"log_config_append = {ini}\n")
        rig.sink(TEXT, "req-1")
        assert rig.lines() == [f"heatperf.access {TEXT}"]
        assert Own.got == [(TEXT, "req-1", "log-writer")]

    def test_the_exception_being_handled_is_still_known(self, rig):
        rig.start()
        try:
            raise OSError("the cause")
        except OSError:
            logging.getLogger("served").warning("it failed")
        assert rig.lines()[0].endswith("it failed: OSError: the cause")

    def test_a_record_that_cannot_be_formatted(self, rig, capsys):
        rig.start()
        logging.getLogger("served").info("%d", "x")
        logging.getLogger("served").info("next")
        assert rig.lines()[-1].endswith("next")
        assert "--- Logging error ---" in capsys.readouterr().err


class Own(logging.Handler):
    got: list = []

    def emit(self, record):
        self.got.append((self.format(record), record.request_id, threading.current_thread().name))


class TestSlowReader:
    """Standard error is a pipe that nobody reads for a while."""

    @pytest.fixture
    def pipe(self):
        # Packet mode: each read returns what one write has written (pipe(2)).
        reader, writer = os.pipe2(os.O_DIRECT)
        with open(writer, "w", closefd=False) as stream:
            yield reader, stream
        os.close(writer)  # the end of file for who reads it
        os.close(reader)

    def test_pieces_of_a_shared_pipe_are_whole_lines(self, rig, pipe):
        reader, stream = pipe
        rig.start("use_stderr = true\n", stream=stream)
        for number in range(100):
            rig.sink(f"{number} " + "é" * (number * 3), "-")
        rig.logs.flush()
        os.set_blocking(reader, False)
        pieces = []
        with pytest.raises(BlockingIOError):
            while True:
                pieces.append(os.read(reader, 65536))
        assert len(b"".join(pieces).splitlines()) == 100 and len(pieces) > 5
        assert all(len(piece) <= 4096 and piece.endswith(b"\n") for piece in pieces)

    def test_the_loop_goes_on_and_lost_lines_are_counted(self, rig, pipe):
        reader, stream = pipe
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        rig.start("use_stderr = true\n", stream=stream)
        began = time.thread_time()
        wall = time.monotonic()
        lines, records = access_lines.MAX_LINES + 2 * access_lines.BATCH + 700, log_writer.MAX_WAITING + 500
        for _ in range(lines):
            rig.sink(TEXT, "-")
        for _ in range(records):
            logging.getLogger("served").info("record")
        rig.loop.tick()
        # it has waited for nobody
        assert time.monotonic() - wall < 10 * (time.thread_time() - began) + 2
        # the reader wakes
        got = bytearray()

        def read():
            while data := os.read(reader, 65536):
                got.extend(data)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()

        def accounted():
            rig.logs.flush()
            told = re.findall(rb"(\d+) lines of the log were dropped", got)
            return got.count(b"\n") - len(told) + sum(map(int, told)) == lines + records

        wait_for(accounted)
        assert got.count(b"record") > 0 and got.count(b"\n") < lines + records - 500

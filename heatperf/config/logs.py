"""Logging: oslo.log as configured, with every record carrying the context of its own request.

In: a loaded configuration and the assignments of its files. Out: handlers on the loggers (``setup``), or what would
keep them from working (``problems``, which opens no log and changes nothing). Raises ConfigurationError. Runs in the
zygote before the fork; workers inherit the handlers, and have a thread call them (``Logs``), so that none can hold up
the loop.
"""

import configparser
import contextvars
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from oslo_log import formatters, handlers
from oslo_log import log as oslo_log

from heatperf.config import access_lines, files, log_writer, options, validate
from heatperf.context import ContextLogFilter, RequestContext
from heatperf.errors import ConfigurationError

# What a format string that holds a wrong name or a wrong conversion raises, depending on what is wrong with it.
_FORMAT_ERRORS = (ValueError, KeyError, TypeError, AttributeError)


class _Sources:
    """Makes refusals that name the option and the line that sets it."""

    def __init__(self, conf: Any, settings: Sequence[files.Setting]) -> None:
        self._settings = settings
        self._opts = {opt.dest: opt for group, opt in options.registered(conf) if group is None}

    def refusal(self, name: str, message: str, remedy: str) -> ConfigurationError:
        return validate.refusal(self._settings, None, self._opts[name], message, remedy)


def _handlers() -> list[logging.Handler]:
    """Each once, since loggers may share them."""
    return list({id(handler): handler for logger in log_writer.loggers() for handler in logger.handlers}.values())


class Logs:
    """The logs of a worker; see server.application.Logs. Made before the fork, used after it."""

    def __init__(self) -> None:
        self._writer = log_writer.Writer()
        self._access: access_lines.AccessLog | None = None

    def start(self, loop: Any, access: bool) -> Callable[[str, str], None] | None:
        """Start the thread, and put it between the loggers and their handlers."""
        self._writer.start()
        log_writer.install(self._writer)
        if not access:
            return None
        self._access = access_lines.AccessLog(self._writer)
        if self._access.sink is not None:
            loop.every(access_lines.INTERVAL, self._access.flush)
        return self._access.sink

    def flush(self) -> None:
        """Write what has been logged; waits at most log_writer.FLUSH_TIMEOUT seconds."""
        if self._access is not None:
            self._access.flush(wait=False)
        self._writer.flush()


def setup(conf: Any, settings: Sequence[files.Setting] = ()) -> Logs:
    """Set up oslo.log for ``conf`` and put the request context on every handler.

    :param settings: assignments of the files, to name the line that is wrong
    :returns: for the workers; a process without a loop has no use for it
    :raises ConfigurationError: the log cannot be written where and as configured
    """
    for problem in problems(conf, settings):
        raise problem
    sources = _Sources(conf, settings)
    try:
        oslo_log.setup(conf, conf.prog)
    except Exception as error:
        # problems() finds what is known to go wrong. A logging configuration file may name any class, and that class
        # may raise anything.
        if conf.log_config_append:
            raise sources.refusal("log_config_append", str(error), "correct the file or the option") from error
        if not isinstance(error, OSError | RuntimeError | TypeError | ValueError):
            raise
        name = "log_file" if isinstance(error, OSError) else "log_rotation_type"
        raise sources.refusal(name, f"logging cannot be set up: {error}", "correct the options of logging") from error
    context_filter = ContextLogFilter()
    for handler in _handlers():
        handler.addFilter(context_filter)
    return Logs()


def problems(conf: Any, settings: Sequence[files.Setting] = ()) -> Iterator[ConfigurationError]:
    """Everything that would keep logging from being set up, found without opening or changing a log."""
    sources = _Sources(conf, settings)
    if conf.log_config_append:
        # oslo.log ignores its other options then.
        yield from _log_config_append(conf, sources)
        return
    for part in (_file, _journal, _syslog, _levels, _formats):
        yield from part(conf, sources)


def _log_config_append(conf: Any, sources: _Sources) -> Iterator[ConfigurationError]:
    path = conf.log_config_append
    parser = configparser.ConfigParser()
    try:
        with open(path, encoding="utf-8") as text:
            parser.read_file(text)
    except OSError as error:
        yield sources.refusal("log_config_append", f"{path}: {error.strerror}", "correct the option or create the file")
        return
    except (configparser.Error, UnicodeDecodeError) as error:
        yield sources.refusal("log_config_append", f"{path} is no INI file: {error}", "correct the file")
        return
    missing = [name for name in ("loggers", "handlers", "formatters") if not parser.has_section(name)]
    if missing:
        yield sources.refusal(
            "log_config_append",
            f"{path} has no section [{missing[0]}]",
            "write it as Python's logging.config.fileConfig() wants it",
        )


def _file(conf: Any, sources: _Sources) -> Iterator[ConfigurationError]:
    path = oslo_log._get_log_file_path(conf)
    if not path:
        return
    name = "log_file" if conf.log_file and not conf.log_dir else "log_dir"
    cause = None
    directory = os.path.dirname(path) or "."
    if os.path.isdir(path):
        cause = f"{path} is a directory"
    elif os.path.exists(path):
        if not os.access(path, os.W_OK, effective_ids=True):
            cause = f"this user may not write {path}"
    elif not os.path.isdir(directory):
        cause = f"{path} cannot be made, as there is no directory {directory}"
    elif not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        cause = f"{path} cannot be made, as this user may not write in {directory}"
    if cause:
        remedy = "correct log_file and log_dir, or create the directory for the service user"
        yield sources.refusal(name, f"the log cannot be opened: {cause}", remedy)


def _journal(conf: Any, sources: _Sources) -> Iterator[ConfigurationError]:
    if conf.use_journal and handlers.journal is None:
        yield sources.refusal(
            "use_journal",
            "needs Python's systemd bindings, which cannot be imported",
            "pip install systemd-python, or remove the line: systemd's journal takes standard output too",
        )


def _syslog(conf: Any, sources: _Sources) -> Iterator[ConfigurationError]:
    if not (conf.use_syslog or conf.use_journal):
        return
    try:
        oslo_log._find_facility(conf.syslog_log_facility)
    except TypeError as error:
        facility = conf.syslog_log_facility
        yield sources.refusal("syslog_log_facility", f"there is no facility {facility!r}", str(error))


def _levels(conf: Any, sources: _Sources) -> Iterator[ConfigurationError]:
    for pair in conf.default_log_levels:
        level = pair.partition("=")[2]
        try:
            int(level)
            continue
        except ValueError:
            pass
        try:
            logging.Handler().setLevel(level)
        except ValueError:
            yield sources.refusal(
                "default_log_levels", f"{pair!r} is no logger=LEVEL", "write it as amqp=WARNING,oslo.messaging=INFO"
            )


def _record(level: int = logging.INFO, context: Any = None, failure: Any = None) -> logging.LogRecord:
    record = logging.LogRecord(
        "heatperf.config", level, __file__, 1, "a trial of the format", None, failure, "function"
    )
    record.context = context
    return record


def _formats(conf: Any, sources: _Sources) -> Iterator[ConfigurationError]:
    """Format a record of each kind: a wrong format string would otherwise print a traceback for every record."""
    if conf.use_json:
        return
    # Making a context makes it current; nobody else shall see this one.
    context = contextvars.copy_context().run(RequestContext, request_id="req-1", project_id="p", user_id="u")
    formatter = formatters.ContextFormatter(project=conf.prog, version="1", datefmt=conf.log_date_format, config=conf)
    failure = (ValueError, ValueError("a trial"), None)
    identity, plain = "logging_user_identity_format", "logging_default_format_string"
    values = formatters._ReplaceFalseValue(context.get_logging_values())
    # Option, what uses it, and the option whose mistake would show here again.
    trials: list[tuple[str, Callable[[], Any], str]] = [
        (plain, lambda: formatter.format(_record()), ""),
        (identity, lambda: conf.logging_user_identity_format % values, ""),
        ("logging_context_format_string", lambda: formatter.format(_record(context=context)), identity),
        ("logging_debug_format_suffix", lambda: formatter.format(_record(logging.DEBUG)), plain),
        ("logging_exception_prefix", lambda: formatter.format(_record(logging.ERROR, failure=failure)), plain),
    ]
    broken = set()
    for name, trial, base in trials:
        if base in broken:
            continue
        try:
            trial()
        except _FORMAT_ERRORS as error:
            broken.add(name)
            yield sources.refusal(name, f"no record can be formatted with it: {error}", "correct it or remove the line")

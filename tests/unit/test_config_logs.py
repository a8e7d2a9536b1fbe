"""Logging options: what keeps a log from being written refuses the start, and names the option and its line."""

import logging
import pathlib
import sys

import pytest
from oslo_config import cfg
from oslo_log import handlers

from heatperf.config import load, logs
from heatperf.context import get_current
from heatperf.errors import ConfigurationError


@pytest.fixture
def found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))

    def found(text: str) -> list[ConfigurationError]:
        (tmp_path / "heat.conf").write_text("[DEFAULT]\n" + text)
        conf = cfg.ConfigOpts()
        settings = load.load(conf, ["--config-file", str(tmp_path / "heat.conf")])
        return list(logs.problems(conf, settings))

    return found


@pytest.fixture
def untouched():
    """Put the loggers back as they were."""
    root, hook = logging.getLogger(), sys.excepthook
    before = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = before[0], before[1]
    sys.excepthook = hook


@pytest.mark.parametrize(
    ("text", "option", "words"),
    [
        ("syslog_log_facility = nonsense\nuse_syslog = true\n", "syslog_log_facility", "no facility 'nonsense'"),
        ("default_log_levels = amqp=WARN,x\n", "default_log_levels", "'x' is no logger=LEVEL"),
        ("default_log_levels = amqp=LOUD\n", "default_log_levels", "'amqp=LOUD'"),
        ("logging_default_format_string = %(nonsense)s\n", "logging_default_format_string", "nonsense"),
        ("logging_default_format_string = %(message)d\n", "logging_default_format_string", "%d format"),
        ("logging_default_format_string = %(message\n", "logging_default_format_string", "incomplete"),
        ("logging_context_format_string = %(nonsense)s\n", "logging_context_format_string", "nonsense"),
        ("logging_context_format_string = %(asctime)s %(request_id)d\n", "logging_context_format_string", "format"),
        ("logging_user_identity_format = %(project)d\n", "logging_user_identity_format", "format"),
        ("logging_debug_format_suffix = %(nonsense)s\n", "logging_debug_format_suffix", "nonsense"),
        ("logging_exception_prefix = %(nonsense)s\n", "logging_exception_prefix", "nonsense"),
        ("log_file = /nowhere/heat.log\n", "log_file", "no directory /nowhere"),
        ("log_dir = /nowhere\n", "log_dir", "/nowhere/heat-api.log cannot be made"),
        ("log_dir = /nowhere\nlog_file = x.log\n", "log_dir", "/nowhere/x.log cannot be made"),
        ("log_file = /\n", "log_file", "/ is a directory"),
        ("log_config_append = /nowhere.ini\n", "log_config_append", "/nowhere.ini: No such file"),
        ("log_config_append = /dev/null\n", "log_config_append", "no section [loggers]"),
    ],
)
def test_refused(found, tmp_path, text, option, words):
    problems = found(text)
    assert len(problems) == 1, problems
    assert problems[0].option == f"[DEFAULT] {option}"
    assert problems[0].file == f"{tmp_path}/heat.conf:2"
    assert words in problems[0].message
    assert problems[0].remedy


def test_journal_without_its_package(found, monkeypatch):
    monkeypatch.setattr(handlers, "journal", None)
    (problem,) = found("use_journal = true\n")
    assert problem.option == "[DEFAULT] use_journal"
    assert "systemd-python" in problem.remedy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "default_log_levels = amqp=WARN,oslo=5,x=-1\n",
        "logging_context_format_string = %(asctime)s %(request_id)s %(user_identity)s %(resource)s%(message)s\n",
        "syslog_log_facility = nonsense\n",
        "use_json = true\nlogging_default_format_string = %(nonsense)s\n",
        "log_config_append = {ini}\nlog_file = /nowhere/x\n",
    ],
)
def test_accepted(found, tmp_path, text):
    ini = tmp_path / "logging.ini"
    ini.write_text(
        "[loggers]\nkeys = root\n[handlers]\nkeys =\n[formatters]\nkeys =\n[logger_root]\nhandlers =\nlevel = INFO\n"
    )
    assert found(text.format(ini=ini)) == []


def test_the_trial_leaves_no_context_behind(found):
    before = get_current()
    assert found("") == []
    assert get_current() is before


def test_every_problem_is_found(found):
    problems = found("default_log_levels = x\nlog_file = /nowhere/x\nlogging_context_format_string = %(x)s\n")
    assert [problem.option.split()[1] for problem in problems] == [
        "log_file",
        "default_log_levels",
        "logging_context_format_string",
    ]


@pytest.mark.parametrize(
    "handler", ["class = NoSuch\nargs = ()", "class = FileHandler\nargs = ('/nowhere/x',)", "class = Handler\nargs = ("]
)
def test_logging_file_that_cannot_be_used(tmp_path, untouched, handler):
    ini = tmp_path / "logging.ini"
    ini.write_text(
        "[loggers]\nkeys = root\n[handlers]\nkeys = a\n[formatters]\nkeys =\n"
        f"[logger_root]\nhandlers = a\nlevel = INFO\n[handler_a]\n{handler}\n"
    )
    path = tmp_path / "heat.conf"
    path.write_text(f"[DEFAULT]\nlog_config_append = {ini}\n")
    conf = cfg.ConfigOpts()
    settings = load.load(conf, ["--config-file", str(path)])
    with pytest.raises(ConfigurationError) as caught:
        logs.setup(conf, settings)
    assert (caught.value.file, caught.value.option) == (f"{path}:2", "[DEFAULT] log_config_append")


def test_wrong_rotation_is_a_refusal(tmp_path, untouched):
    path = tmp_path / "heat.conf"
    path.write_text(
        f"[DEFAULT]\nlog_file = {tmp_path}/x.log\nlog_rotation_type = interval\n"
        "log_rotate_interval_type = weekday\nlog_rotate_interval = 9\n"
    )
    conf = cfg.ConfigOpts()
    settings = load.load(conf, ["--config-file", str(path)])
    with pytest.raises(ConfigurationError, match="Invalid day"):
        logs.setup(conf, settings)
    assert pathlib.Path(path).exists()

"""The systemd unit says what the server keeps."""

import configparser
import pathlib

import pytest

from heatperf.config.paths import packaged_file
from heatperf.server.settings import ServerSettings


@pytest.fixture
def service():
    text = pathlib.Path(packaged_file("heatperf.service")).read_text()
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str
    unit.read_string(text)
    return unit["Service"]


def test_systemd_waits_longer_than_the_drain(service):
    assert int(service["TimeoutStopSec"]) > ServerSettings(workers=1, binds=()).drain_timeout


def test_reload_reports_whether_it_was_done(service):
    """HUP alone would tell systemd nothing: the command waits, and fails with the reason."""
    start, reload = service["ExecStart"].split(), service["ExecReload"].split()
    assert reload == [*start[: start.index("serve")], "reload"]
    assert service["RuntimeDirectory"] == "heatperf"  # where the command looks for the server


def test_a_refused_start_is_not_repeated(service):
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("on-failure", "2")

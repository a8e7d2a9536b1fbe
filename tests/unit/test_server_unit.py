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


def test_reload_is_not_offered_before_it_exists(service):
    """HUP only logs: with an ExecReload, ``systemctl reload`` would claim success."""
    assert "ExecReload" not in service


def test_a_refused_start_is_not_repeated(service):
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("on-failure", "2")

"""How many helper processes there are, and where their sockets lie."""

import os

import pytest

import heatperf
from heatperf.cli.development import helper_folder
from heatperf.cli.helper import specifications
from heatperf.server.settings import ServerSettings, Specification
from heatperf.socketfile import MAX_PATH


@pytest.mark.parametrize(
    ("wanted", "workers", "count"), [(-1, 1, 1), (-1, 8, 1), (-1, 9, 2), (-1, 64, 8), (0, 64, 0), (1, 64, 1), (3, 1, 3)]
)
def test_how_many(wanted, workers, count):
    found = specifications(wanted, workers, "/run/x")
    assert len(found) == count == len({each.arguments["socket"] for each in found}) == len({e.name for e in found})
    assert all(len(each.name) <= 6 for each in found)


def test_another_release_has_other_sockets(monkeypatch):
    before = specifications(2, 1, "/run/x")
    monkeypatch.setattr(heatperf, "__version__", "99.0.0")
    assert not {each.arguments["socket"] for each in before} & {
        each.arguments["socket"] for each in specifications(2, 1, "/run/x")
    }


def test_without_a_folder_there_are_none(caplog):
    assert specifications(-1, 4, None) == () and "no folder" in caplog.text
    caplog.clear()
    assert specifications(0, 4, None) == () and not caplog.text


@pytest.mark.parametrize("name", ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"])
def test_the_folder_is_where_sockets_belong(tmp_path, monkeypatch, name):
    monkeypatch.setattr("heatperf.cli.development._LONGEST_ROOT", 200)
    first, second = (
        helper_folder({name: f"{tmp_path}:/x" if name == "RUNTIME_DIRECTORY" else str(tmp_path)}, 5) for _ in "ab"
    )
    assert first.parent == tmp_path and first != second and not first.exists()


def test_a_root_that_is_no_use_is_passed_over(tmp_path):
    long = tmp_path / ("x" * 60)
    long.mkdir()
    for useless in (str(long), str(tmp_path / "none"), "relative"):
        found = helper_folder({"XDG_RUNTIME_DIR": useless}, os.geteuid())
        assert found is not None and found.is_absolute() and not str(found).startswith(useless)
        longest = specifications(99, 1, str(found))[-1].arguments["socket"]
        assert len(longest) + 15 <= MAX_PATH  # a longer version has room


def test_settings_bring_them_through_json():
    sides = specifications(2, 1, "/run/x")
    values = {"binds": [], "tls": None, "limits": {}, "workers": 1}
    given = [{"name": each.name, "entry": each.entry, "arguments": each.arguments} for each in sides]
    assert ServerSettings.from_values({**values, "sides": given}).sides == sides
    assert ServerSettings.from_values(values).sides == ()
    assert isinstance(sides[0], Specification)

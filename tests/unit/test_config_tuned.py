"""The file of ``heatperf tune --write``: what may stand in it, who wins over it, and what is never overwritten."""

import os
import pathlib

import pytest
from oslo_config import cfg

from heatperf import cli
from heatperf.cli import flags
from heatperf.cli.settings import load, settings_of
from heatperf.config import tuned
from heatperf.config.paths import packaged_file
from heatperf.errors import ConfigurationError
from heatperf.server.hardware import read
from heatperf.server.sizing import signature

HERE = signature(read())
VALUES = {("heatperf", "pin_workers"): "true", ("heat_api", "workers"): "3"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """No configuration but that of the test."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for name in [name for name in os.environ if name.startswith("OS_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def place(home):
    path = home / ".config" / "heatperf" / "tuned.conf"
    tuned.write(path, tuned.render(HERE, VALUES))
    return path


@pytest.fixture
def heat_conf(home):
    def write(text=""):
        path = home / "heat.conf"
        path.write_text("[DEFAULT]\ntransport_url = fake://\n[paste_deploy]\nflavor = noauth\n" + text)
        (home / "api-paste.ini").write_text(pathlib.Path(packaged_file("api-paste.ini")).read_text())
        return str(path)

    return write


def settings(*argv, development=False):
    """What a start with these arguments makes of them."""
    options, rest = flags.serve_parser("heatperf serve").parse_known_args(list(argv))
    options.dev = development
    conf = cfg.ConfigOpts()
    load(conf, options, rest)
    return settings_of(conf, options)[0]


class TestWhoWins:
    def test_it_beats_the_defaults(self, place, heat_conf):
        found = settings("--config-file", heat_conf())
        assert (found.workers, found.pin, found.loop) == (3, True, "gevent")

    def test_heat_conf_beats_it(self, place, heat_conf):
        path = heat_conf("[heat_api]\nworkers = 2\n[heatperf]\npin_workers = false\n")
        found = settings("--config-file", path)
        assert (found.workers, found.pin) == (2, False)

    def test_the_environment_beats_it(self, place, heat_conf, monkeypatch):
        monkeypatch.setenv("OS_HEAT_API__WORKERS", "5")
        assert settings("--config-file", heat_conf()).workers == 5

    def test_the_command_line_beats_everything(self, place, heat_conf):
        path = heat_conf("[heat_api]\nworkers = 2\n[heatperf]\npin_workers = true\n")
        found = settings("--config-file", path, "--workers", "4", "--no-pin", "--loop", "gevent")
        assert (found.workers, found.pin, found.loop) == (4, False, "gevent")

    def test_an_explicit_auto_in_heat_conf_counts(self, place, heat_conf):
        found = settings("--config-file", heat_conf("[heat_api]\nworkers = 0\n"))
        assert found.workers == settings("--config-file", heat_conf(), "--workers", "auto").workers

    def test_it_can_be_turned_off(self, place, heat_conf):
        assert settings("--config-file", heat_conf(), "--tuned", "none").pin is False

    def test_development_mode_reads_it_only_when_it_is_named(self, place):
        assert settings(development=True).pin is False
        assert settings("--tuned", str(place), development=True).pin is True

    def test_the_users_own_beats_the_systems(self, home, monkeypatch):
        monkeypatch.setattr(tuned, "SYSTEM", home / "etc")
        system, own = home / "etc/heatperf/tuned.conf", home / "x/heatperf/tuned.conf"
        tuned.write(system, tuned.render(HERE, {}))
        environ = {"XDG_CONFIG_HOME": str(home / "x"), "HOME": str(home)}
        assert tuned.find(None, environ) == system
        tuned.write(own, tuned.render(HERE, {}))
        assert tuned.find(None, environ) == own
        assert tuned.default_place(environ, 0) == system and tuned.default_place(environ, 1000) == own


class TestAnotherMachine:
    def test_is_left_alone_and_said_to_be(self, place, heat_conf, capsys):
        tuned.write(place, tuned.render("96 CPUs, no quota", VALUES))
        path = heat_conf()
        assert settings("--config-file", path).pin is False
        assert cli.main(["config", "check", "--config-file", path]) == 0
        said = capsys.readouterr().out
        assert f"WARNING: {place}: was measured on a machine with 96 CPUs, no quota, and this one has {HERE}" in said
        assert cli.main(["config", "show", "--config-file", path]) == 0
        assert str(place) not in capsys.readouterr().out


class TestShow:
    def test_says_where_each_value_comes_from(self, place, heat_conf, capsys):
        assert cli.main(["config", "show", "--config-file", heat_conf("[heatperf]\npin_workers = false\n")]) == 0
        said = capsys.readouterr().out
        line = place.read_text().splitlines().index("workers = 3") + 1
        assert f"# {place}:{line}\nworkers = 3\n" in said
        assert "heat.conf:6\npin_workers = false\n" in said
        assert f"# Before them, as defaults: {place}\n" in said


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (f"{tuned.MARKER}\n[heat_api]\nbind_host = ::\n", ":3, [heat_api] bind_host: no setting of heatperf tune"),
            (
                f"{tuned.MARKER}\n[machine]\nmeasured_on = {HERE}\n[heat_api]\nworkers = many\n",
                ":5, [heat_api] workers",
            ),
            (f"{tuned.MARKER}\nnonsense\n", "tuned.conf:2"),
            ("[heat_api]\nworkers = 3\n", "heatperf tune has not written this"),
        ],
    )
    def test_what_nobody_has_written(self, place, heat_conf, text, words):
        place.write_text(text)
        with pytest.raises(ConfigurationError) as caught:
            settings("--config-file", heat_conf())
        assert words in str(caught.value) and str(place) in str(caught.value)

    def test_a_file_that_was_named_must_be_there(self, heat_conf):
        with pytest.raises(ConfigurationError, match=r"/nowhere: there is no such file \(correct --tuned"):
            settings("--config-file", heat_conf(), "--tuned", "/nowhere")

    def test_a_loop_that_is_not_there_is_traced_to_its_line(self, place, heat_conf, monkeypatch):
        def check(name):
            if name != "gevent":
                raise ConfigurationError(f"{name} is not installed", remedy="install it")

        monkeypatch.setattr("heatperf.cli.settings.check_loop", check)
        with pytest.raises(ConfigurationError, match=r"heat.conf:6, \[heatperf\] loop: meinheld is not installed"):
            settings("--config-file", heat_conf("[heatperf]\nloop = meinheld\n"))
        tuned.write(place, tuned.render(HERE, {("heatperf", "loop"): "meinheld"}))
        with pytest.raises(ConfigurationError, match=r"tuned.conf:\d+, \[heatperf\] loop: meinheld is not installed"):
            settings("--config-file", heat_conf())

    def test_no_such_loop(self, heat_conf):
        with pytest.raises(ConfigurationError, match=r"heat.conf:6, \[heatperf\] loop: 'asyncio' is not one of"):
            settings("--config-file", heat_conf("[heatperf]\nloop = asyncio\n"))


class TestWriting:
    def test_what_is_written_is_read(self, tmp_path):
        path = tmp_path / "a" / "b" / "tuned.conf"
        tuned.write(path, tuned.render("m", VALUES, ["measured", "", "a = b"]))
        found = tuned.read(path)
        assert (found.machine, found.values) == ("m", VALUES)
        assert path.stat().st_mode & 0o777 == 0o644
        assert [entry.name for entry in path.parent.iterdir()] == ["tuned.conf"]

    def test_its_own_is_replaced_and_nothing_else(self, place):
        tuned.write(place, tuned.render(HERE, {}))
        assert tuned.read(place).values == {}
        place.write_text("[heat_api]\nworkers = 9\n")
        with pytest.raises(ConfigurationError, match="not written by heatperf tune and is left as it is"):
            tuned.write(place, tuned.render(HERE, {}))
        assert place.read_text() == "[heat_api]\nworkers = 9\n"

    def test_where_nothing_can_be_written(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(ConfigurationError, match="cannot be written: .* --write FILE"):
            tuned.write(tmp_path / "file" / "tuned.conf", "")

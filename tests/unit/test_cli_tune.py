"""``heatperf tune`` around its measurements, which are given here: no machine measures 20 % more on demand.

tests/process/test_tune.py measures for real.
"""

import os
import time
from types import SimpleNamespace

import pytest

from heatperf import cli
from heatperf.cli import tune
from heatperf.config import tuned
from heatperf.server.hardware import read
from heatperf.server.sizing import signature, workers_for
from heatperf.tuning.candidates import Candidate
from heatperf.tuning.decision import Measurement, Sample

AUTO = workers_for("auto")[0]
DEFAULT = Candidate("gevent", AUTO)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Rates by candidate; what is not among them fails. Returns what was tried."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    tried = []

    def make(rates, seconds=0.0):
        def measure(candidate, _machine, _until):
            tried.append(candidate)
            clock[0] += seconds
            if candidate not in rates:
                return Measurement(candidate, 64.0, failure="no such thing")
            samples = [Sample(rates[candidate], 1.0, 0.5, 0.5, 0.0, 900.0, 2000.0)] * 3
            return Measurement(candidate, 64.0, tuple(samples))

        clock = [0.0]
        monkeypatch.setattr(tune, "measure", measure)
        monkeypatch.setattr(tune, "time", SimpleNamespace(monotonic=lambda: clock[0], strftime=time.strftime))
        return tried

    return make


def run(capsys, *arguments):
    code = cli.main(["tune", "--loop", "gevent", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_what_wins_is_written_where_serve_finds_it(machine, capsys, tmp_path):
    more, pinned = Candidate("gevent", AUTO + 1), Candidate("gevent", AUTO + 1, True)
    tried = machine({DEFAULT: 1000.0, more: 1200.0, pinned: 1500.0})
    file = tmp_path / "tuned.conf"
    code, out, _ = run(capsys, "--workers", str(AUTO + 1), "--write", str(file))
    assert code == 0 and tried == [DEFAULT, more, pinned, DEFAULT]
    found = tuned.read(file)
    assert found.machine == signature(read())
    assert found.values == {("heatperf", "pin_workers"): "true", ("heat_api", "workers"): str(AUTO + 1)}
    assert f"Written to {file}." in out and f"heatperf serve --tuned {file}" in out
    assert "1500" in file.read_text() and "50 % more than the default" in out


def test_a_default_that_is_best_is_written_as_that(machine, capsys, tmp_path):
    machine({DEFAULT: 1000.0, Candidate("gevent", AUTO, True): 990.0})
    file = tmp_path / "tuned.conf"
    code, out, _ = run(capsys, "--workers", str(AUTO), "--write", str(file))
    assert (code, tuned.read(file).values) == (0, {})
    assert "nothing was better by more than the noise" in out


def test_the_usual_place_is_ours_to_find_again(machine, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tuned, "SYSTEM", tmp_path / "etc")
    machine({DEFAULT: 1000.0})
    code, out, _ = run(capsys, "--no-pin", "--workers", str(AUTO), "--write")
    place = tuned.default_place(os.environ, os.geteuid())
    assert code == 0 and place.is_relative_to(tmp_path) and f"Written to {place}." in out
    assert tuned.find(None, os.environ) == place and "--tuned" not in out


def test_what_fails_is_told_and_does_not_stop_it(machine, capsys):
    tried = machine({DEFAULT: 1000.0})
    code, out, err = run(capsys, "--workers", str(AUTO))
    assert code == 0 and tried[-1] == DEFAULT and len(tried) == 3
    assert f"gevent, {AUTO} worker" in out and ", pinned: no such thing" in out and "no such thing" in err


def test_a_default_that_fails_ends_it(machine, capsys):
    tried = machine({})
    code, out, err = run(capsys)
    assert (code, out, tried) == (1, "", [DEFAULT])
    assert "ERROR: the default cannot be measured: no such thing" in err


def test_time_that_runs_out_leaves_enough_to_measure_the_default_again(machine, capsys):
    counts = [AUTO + number for number in range(1, 12)]
    tried = machine({DEFAULT: 1000.0, **{Candidate("gevent", count): 1000.0 for count in counts}}, seconds=3.0)
    arguments = [word for count in counts for word in ("--workers", str(count))]
    code, out, _ = run(capsys, "--no-pin", "--seconds", "20", *arguments)
    assert code == 0 and tried[0] == tried[-1] == DEFAULT and 3 <= len(tried) <= 7
    assert f"No time was left for: gevent, {AUTO + len(tried) - 1} workers;" in out


def test_nothing_is_written_without_a_recommendation(machine, capsys, tmp_path, monkeypatch):
    rates = {DEFAULT: 1000.0}
    tried = machine(rates)
    file = tmp_path / "tuned.conf"
    find = tune.measure

    def drifting(*arguments):
        rates[DEFAULT] *= 1.5
        return find(*arguments)

    monkeypatch.setattr(tune, "measure", drifting)
    code, out, err = run(capsys, "--no-pin", "--workers", str(AUTO), "--write", str(file))
    assert (code, tried) == (1, [DEFAULT, DEFAULT])
    assert "too much to tell" in out and "nothing is written" in err and not file.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seconds", "2"], "2 is not a whole number from 6 to 3600"),
        (["--workers", "0"], "0 is not a whole number"),
        (["--loop", "asyncio"], "invalid choice: 'asyncio'"),
        (["surplus"], "unrecognized arguments: surplus"),
    ],
)
def test_refusals(capsys, arguments, words):
    with pytest.raises(SystemExit) as leaving:
        cli.main(["tune", *arguments])
    assert leaving.value.code == 2 and words in capsys.readouterr().err

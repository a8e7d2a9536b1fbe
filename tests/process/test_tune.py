"""``heatperf tune`` for real, as short as it can be, and a server that starts as it was tuned."""

import json
import os
import re
import signal
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest
from conftest import BIN, alive, heatperf, wait_for

from heatperf.config import tuned
from heatperf.server.hardware import read
from heatperf.server.pinning import order
from heatperf.server.sizing import signature
from heatperf.tuning.candidates import Candidate
from heatperf.tuning.trial import Server, measure

MACHINE = read()


@pytest.fixture
def environment(tmp_path):
    """A user without any configuration."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    return {**found, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}


def test_a_short_run_with_everything(environment, tmp_path):
    svg, file = tmp_path / "plot.svg", tmp_path / "tuned.conf"
    done = heatperf(
        *("tune", "--seconds", "10", "--loop", "gevent", "--workers", "1", "--no-pin", "--svg", svg, "--write", file),
        env=environment,
        timeout=90,
    )
    auto = Candidate("gevent", max(1, len(MACHINE.allowed)))
    assert str(auto) in done.stdout, done
    assert re.search(r"^.? *SETTINGS +ANSWERS/S +CAPACITY", done.stdout, re.M), done.stdout
    assert re.search(r"the default differed from itself by \d|was measured once only", done.stdout), done.stdout
    assert "SO_REUSEPORT: not tried" in done.stdout
    assert re.search(r"^ *\d+ s left: gevent, ", done.stderr, re.M), done.stderr
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    if "Recommended: nothing" in done.stdout:  # the tests' machine has other things to do
        assert done.returncode == 1 and "nothing is written" in done.stderr and not file.exists()
    else:
        assert done.returncode == 0 and tuned.read(file).machine == signature(MACHINE)
        assert f"heatperf serve --tuned {file}" in done.stdout


def test_a_file_of_somebody_else_is_seen_before_anything_is_measured(environment, tmp_path):
    file = tmp_path / "heat.conf"
    file.write_text("[DEFAULT]\n")
    done = heatperf("tune", "--write", file, env=environment, timeout=30)
    assert done.returncode == 2 and f"{file}: this file was not written by heatperf tune" in done.stderr
    assert file.read_text() == "[DEFAULT]\n"


def test_it_warns_of_a_server_that_runs(start, environment):
    served = start()
    (pid,) = served.ready()
    done = heatperf("tune", "--seconds", "6", "--workers", "1", "--no-pin", env=environment, timeout=90)
    assert "WARNING: heatperf serves on this machine already (workers " in done.stderr
    assert alive(pid) and served.get()[0] == 200


def test_a_candidate_that_cannot_start_says_why():
    found = measure(Candidate("nonsense", 1), MACHINE, 0.0)
    assert not found.samples and "nonsense" in found.failure


def test_what_is_measured_is_measured():
    found = measure(Candidate("gevent", 1), MACHINE, 0.0, windows=2)
    assert found.failure == "" and len(found.samples) == 2
    assert found.rate > 50 and 0 < found.server < 1.2 and 0 < found.generator < 1.2
    assert 5 < found.cost < 5000 and 0 < found.median <= found.slow


def test_serve_starts_as_it_was_tuned(environment, tmp_path):
    file, control, log = tmp_path / "tuned.conf", tmp_path / "control.sock", tmp_path / "log"
    values = {("heat_api", "workers"): "1", ("heatperf", "pin_workers"): "true"}
    tuned.write(file, tuned.render(signature(MACHINE), values))
    command = [BIN / "heatperf", "serve", "--dev", "--bind", "127.0.0.1:0", "--state", tmp_path / "state"]
    with open(log, "wb") as out:
        server = subprocess.Popen(
            [*command, "--control", control, "--tuned", file], stdout=out, stderr=out, env=environment
        )
    try:
        wait_for(lambda: heatperf("status", "--control", control).returncode == 0, "a server", 30)
        (worker,) = json.loads(heatperf("status", "--json", "--control", control).stdout)["workers"]
        assert os.sched_getaffinity(worker["pid"]) == {order(MACHINE)[0]} and worker["loop"] == "gevent"
        assert f"Defaults are those of {file}, unless set elsewhere" in log.read_text()
        # What it stands on counts for a reload too.
        tuned.write(file, tuned.render(signature(MACHINE), {("heat_api", "workers"): "2"}))
        assert heatperf("reload", "--control", control).stdout == "generation 2 serves with 2 workers\n"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def test_pinned_workers_keep_to_their_cpus(tmp_path):
    cpus = order(MACHINE)
    with Server(Candidate("gevent", 2, pin=True), tmp_path) as server:
        by_slot = {row["slot"]: row["pid"] for row in server.status["workers"]}
        for slot, pid in by_slot.items():
            assert os.sched_getaffinity(pid) == {cpus[slot % len(cpus)]}
        # Nobody else is held to them.
        assert os.sched_getaffinity(server.status["pid"]) == MACHINE.allowed
    wait_for(lambda: not any(map(alive, server.pids)), "no worker")

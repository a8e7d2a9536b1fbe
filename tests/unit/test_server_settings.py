"""Binds, worker counts and the back-off, as tables."""

import os
import sys

import pytest

from heatperf import loops
from heatperf.errors import ConfigurationError
from heatperf.server.settings import Bind
from heatperf.server.sizing import usable_cpus, workers_for


@pytest.mark.parametrize(
    ("text", "bind", "shown"),
    [
        ("0.0.0.0:8004", Bind("0.0.0.0", 8004), "0.0.0.0:8004"),
        ("heat.example:0", Bind("heat.example", 0), "heat.example:0"),
        (":8004", Bind("0.0.0.0", 8004), "0.0.0.0:8004"),
        ("[::]:8004", Bind("::", 8004), "[::]:8004"),
        ("unix:/run/h.sock", Bind(path="/run/h.sock"), "unix:/run/h.sock"),
        ("unix:/h,mode=0660,owner=heat:www", Bind(path="/h", mode=0o660, owner="heat:www"), "unix:/h"),
    ],
)
def test_bind_forms(text, bind, shown):
    assert Bind.parse(text) == bind
    assert str(bind) == shown


@pytest.mark.parametrize(
    "text",
    ["", "8004", "host", "host:", "host:http", "host:65536", "host:-1", "host:" + "9" * 5000, "::1:8004",
     "unix:", "unix:/h,mode=9", "unix:/h,mode=7777", "unix:/h,mode=", "unix:/h,owner=", "unix:/h,backlog=3"],
)  # fmt: skip
def test_binds_that_are_refused_name_themselves_and_the_forms(text):
    with pytest.raises(ConfigurationError) as caught:
        Bind.parse(text)
    assert f"--bind {text}" in caught.value.message and "HOST:PORT" in caught.value.remedy


@pytest.mark.parametrize("value", ["auto", "0", "00", 0, None, ""])
def test_auto_follows_the_affinity(value):
    before = os.sched_getaffinity(0)
    one = {min(before)}
    try:
        os.sched_setaffinity(0, one)
        assert usable_cpus() == 1
        count, why = workers_for(value)
        assert count == 1 and why.startswith("1 worker:") and "CPU" in why
    finally:
        os.sched_setaffinity(0, before)
    assert workers_for(value)[0] <= len(before)  # a quota or little memory may allow fewer


def test_a_number_is_taken_as_given():
    assert workers_for("7")[0] == workers_for(7)[0] == 7
    for bad in ("-1", "many", "1.5", "²"):
        with pytest.raises(ConfigurationError, match="is not a number"):
            workers_for(bad)


@pytest.mark.parametrize("value", ["4097", "99999999999999999999999", "9" * 5000, 10**30])
def test_absurd_numbers_of_workers_are_refused(value):
    with pytest.raises(ConfigurationError, match="is more than 4096") as caught:
        workers_for(value)
    assert "auto" in caught.value.remedy and len(str(caught.value)) < 200
    assert workers_for("4096")[0] == workers_for("0004096")[0] == 4096


def test_the_sentence_counts():
    assert workers_for("1")[1].startswith("1 worker,") and workers_for(2)[1].startswith("2 workers,")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("uvloop", "install uvloop; or use --loop gevent"),
        ("meinheld", "python -m heatperf.loops.meinheld_build"),
        ("twisted", "use --loop gevent"),
    ],
)
def test_loops_that_are_not_there_are_refused_with_a_remedy(name, remedy, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)  # what keeps it from being found and imported
    for use in (loops.check, loops.create):
        with pytest.raises(ConfigurationError, match=f"--loop {name} ") as caught:
            use(name)
        assert remedy in caught.value.remedy
    assert name not in loops.available()

"""``heatperf profile``: whom it watches, and what it refuses. tests/process/test_profile.py watches real workers."""

import pytest

from heatperf import cli
from heatperf.cli.profile import choose
from heatperf.errors import ConfigurationError


def row(slot, pid, state="serving", generation=1, loop="uvloop"):
    return {"slot": slot, "pid": pid, "state": state, "generation": generation, "loop": loop}


ROWS = [row(0, 0, "waiting"), row(1, 11), row(1, 10, "draining", 2), row(2, 12, loop="gevent")]


def test_the_first_that_serves():
    (target,) = choose(ROWS, None)
    assert (target.slot, target.pid, target.loop) == (1, 11, "uvloop")


def test_of_a_slot_the_worker_that_serves_not_the_one_that_drains():
    assert [target.pid for target in choose(ROWS, "1")] == [11]
    assert [target.pid for target in choose([row(1, 10, "draining"), row(1, 11, "serving", 2)], "1")] == [11]
    assert [target.pid for target in choose([row(1, 10, "draining")], "1")] == [10]


def test_all_that_have_a_process():
    assert [target.pid for target in choose(ROWS, "all")] == [11, 12]


def test_a_server_of_an_older_version_does_not_name_its_loop():
    rows = [{name: value for name, value in row(0, 7).items() if name != "loop"}]
    assert choose(rows, None)[0].loop == "loop"


@pytest.mark.parametrize(
    ("rows", "wanted", "words"),
    [
        (ROWS, "9", r"there is no worker 9 \(give all or one of 0, 1, 2\)"),
        (ROWS, "0", "worker 0 is waiting"),
        ([row(0, 0, "waiting")], None, "no worker serves"),
        ([row(0, 0, "waiting")], "all", "no worker serves"),
        ([], "all", "no worker serves"),
    ],
)
def test_nobody_to_watch(rows, wanted, words):
    with pytest.raises(ConfigurationError, match=words):
        choose(rows, wanted)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--worker", "first"], "first is neither all nor the number of a worker"),
        (["--seconds", "0"], "0 is not a whole number from 1 to 3600"),
        (["--rate", "5000"], "5000 is not a whole number from 1 to 1000"),
        (["--format", "png"], "invalid choice: 'png'"),
        (["--gil", "--idle"], "not allowed with argument"),
        (["surplus"], "unrecognized arguments: surplus"),
    ],
)
def test_flags(capsys, arguments, words):
    with pytest.raises(SystemExit) as leaving:
        cli.main(["profile", *arguments])
    assert leaving.value.code == 2 and words in capsys.readouterr().err


def test_a_folder_that_is_not_there(capsys):
    assert cli.main(["profile", "--output", "/nowhere"]) == 2
    assert "ERROR: --output /nowhere is not a directory (make it, or choose another)" in capsys.readouterr().err

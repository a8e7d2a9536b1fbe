"""Workers whose loop stands still are shown, killed and replaced; those that are only busy are left alone.

All of it needs time to pass, so everything happens at once, before the first test.
"""

import contextlib
import http.client
import os
import re
import signal
import time
from types import SimpleNamespace

import pytest
from conftest import alive, in_background, servers, wait_for

# The busy and the frozen server's; that of the others is half as long.
TIMEOUT = 3.0


def ask_in_vain(served, path):
    with contextlib.suppress(OSError, http.client.HTTPException):
        return served.get(path)
    return "cut off"


def begin(served, path):
    """A request that no answer comes to; the pid of the worker that has it, and how it ends."""
    end = in_background(ask_in_vain, served, path)
    file = served.state / path[1:]
    return int(wait_for(lambda: file.exists() and file.read_text())), end


def burn(served, until):
    answers = set()
    while time.monotonic() < until:
        answers.add(served.get("/burn"))
    return answers


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = SimpleNamespace()
    with servers(tmp_path_factory.mktemp("watchdog")) as start:

        def start_one(name, **options):
            served = start(tmp_path_factory.mktemp(name), **options)
            setattr(made, name, served)
            return served

        # One worker in Python, one in C, one stopped; the fourth serves.
        stuck = start_one("stuck", workers=4, watchdog_timeout=TIMEOUT / 2)
        draining = start_one("draining", watchdog_timeout=TIMEOUT / 2)
        # All the work that fits in.
        busy = start_one("busy", watchdog_timeout=TIMEOUT)
        # Stands still as a whole and wakes up supervisor first, as with docker pause and paused virtual machines.
        frozen = start_one("frozen", watchdog_timeout=TIMEOUT)
        made.before = {served: served.ready() for served in (stuck, draining, busy, frozen)}
        os.killpg(frozen.pid, signal.SIGSTOP)
        until = time.monotonic() + 1.5 * TIMEOUT
        made.burning = [in_background(burn, busy, until) for _ in range(2)]
        begin(draining, "/hold")
        made.lost = begin(draining, "/block")
        draining.signal(signal.SIGTERM)
        made.spinning, made.blocked = begin(stuck, "/spin"), begin(stuck, "/block")
        made.stopped, made.healthy = sorted(made.before[stuck] - {made.spinning[0], made.blocked[0]})
        os.kill(made.stopped, signal.SIGSTOP)
        time.sleep(max(0.0, until - time.monotonic()))  # the subject is time passing
        os.kill(frozen.pid, signal.SIGCONT)
        for _ in range(3):  # each answer is a turn of its loop, in which it looks at the heartbeats
            assert frozen.status()["state"] == "serving"
        os.killpg(frozen.pid, signal.SIGCONT)
        yield made


def test_stuck_workers_are_shown_and_replaced(scene):
    served = scene.stuck
    served.wait_text(r"\(pid \d+\) was killed by SIGKILL; its replacement starts", 3)
    assert scene.spinning[1]() == scene.blocked[1]() == "cut off"
    spinning, blocked, stopped = scene.spinning[0], scene.blocked[0], scene.stopped
    assert not any(map(alive, (spinning, blocked, stopped))) and alive(scene.healthy)
    text = served.text()
    for pid, path in ((spinning, "/spin"), (blocked, "/block"), (stopped, None)):
        latest = f"; the latest request was GET {path};" if path else ";"
        stuck = rf"ERROR .* Worker \d \(pid {pid}\) is stuck: its loop has stood still for [1-9] s{latest}"
        assert re.search(stuck, text), text
    for pid, function in ((spinning, "spin"), (blocked, "block")):
        stacks = re.search(rf"Stacks of worker \d \(pid {pid}\):\n((?:.+\n)+?)(?=\d+ [A-Z]+ )", text)[1]
        assert re.search(rf'served\.py", line \d+ in {function}$', stacks, re.M), stacks
    after = served.ready()
    assert len(after) == 4 and after & scene.before[served] == {scene.healthy}
    reasons = sorted(row["reason"][:28] for row in served.status()["workers"])
    assert reasons == ["", *["its loop has stood still for"] * 3]
    assert served.stop() == 0


def test_a_draining_worker_that_gets_stuck(scene):
    """It would hold up the end until drain_timeout."""
    assert scene.draining.wait() == 0
    assert scene.lost[1]() == "cut off"
    assert re.search(r'served\.py", line \d+ in block$', scene.draining.text(), re.M)


def test_a_busy_worker_is_left_alone(scene):
    (pid,) = scene.before[scene.busy]
    assert [answers() for answers in scene.burning] == [{(200, str(pid))}] * 2
    assert scene.busy.ready() == {pid} and "stuck" not in scene.busy.text()


def test_what_stood_still_together_is_left_alone(scene):
    served = scene.frozen
    served.wait_status(lambda status: status["workers"][0]["heartbeat"] < 1.0)
    assert served.ready() == scene.before[served] and "stuck" not in served.text()

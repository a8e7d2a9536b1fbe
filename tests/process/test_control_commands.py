"""``heatperf reload``, ``stop`` and ``status`` against a real server, and what the status says."""

import json
import os
import signal
import socket
import subprocess

from conftest import BIN, TIMEOUT, alive, heatperf, session, wait_for


def test_commands_and_their_exit_codes(start):
    served = start(workers=2, name="old")
    served.ready()
    at = ("--control", served.control)
    shown = heatperf("status", *at)
    assert shown.returncode == 0, shown
    assert f"pid {served.pid}: serving" in shown.stdout and "2 of 2 slots serving" in shown.stdout
    assert json.loads(heatperf("status", "--json", *at).stdout)["pid"] == served.pid
    served.configure(name="new", load="refuse")
    refused = heatperf("reload", *at)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "ERROR: served.json: nothing will do (try another)\n"
    shown = heatperf("status", *at)
    assert shown.returncode == 0 and "1 refused; the last one" in shown.stdout
    served.configure(load=None)
    done = heatperf("reload", *at)
    assert (done.returncode, done.stdout, done.stderr) == (0, "generation 3 serves with 2 workers\n", "")
    stopped = heatperf("stop", *at)
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    assert not session(served.pid) and served.wait() == 0
    for command in ("status", "reload", "stop"):
        gone = heatperf(command, *at)
        assert gone.returncode == 2 and "no server is running" in gone.stderr


def test_stop_comes_back_when_the_last_answer_is_out(start):
    served = start()
    served.ready()
    answer = served.hold()
    command = subprocess.Popen([BIN / "heatperf", "stop", "--control", served.control], stdout=subprocess.PIPE)
    served.wait_text("Stopping Heat REST API")
    assert served.status()["state"] == "stopping"
    assert served.process.poll() is None and command.poll() is None
    served.release()
    assert answer()[0] == 200
    assert command.communicate(timeout=TIMEOUT) == (b"stopped\n", None) and command.returncode == 0
    assert served.wait() == 0


def test_a_stale_control_socket_is_replaced_and_a_live_one_is_not(start, tmp_path):
    path = tmp_path / "control.sock"
    first = start(control=path, name="first")
    first.ready()
    second = start(control=path)
    assert second.wait() == 2
    assert f"another server answers at the control socket {path}" in second.text()
    # Who was not told to have one serves without.
    third = start(control=path, insist=False)
    assert third.get()[0] == 200
    third.wait_text("heatperf reload, stop and status cannot reach this server: another server")
    assert third.stop() == 0
    assert first.status()["pid"] == first.pid  # and has not taken it away
    first.process.kill()
    first.process.wait()
    assert path.exists()
    fourth = start(control=path)
    fourth.ready()
    assert fourth.status()["pid"] == fourth.pid
    assert fourth.stop() == 0
    assert not path.exists()


def test_the_control_socket_is_not_open_to_others(start):
    served = start()
    served.ready()
    assert served.control.stat().st_mode & 0o777 == 0o600
    assert served.control.parent.stat().st_mode & 0o777 == 0o700


def test_a_client_that_says_nothing_holds_up_nobody(start):
    served = start()
    (pid,) = served.ready()
    with socket.socket(socket.AF_UNIX) as mute:
        mute.connect(str(served.control))
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: served.ready() - {pid})
        assert served.ask("reload")["ok"]


def test_status_shows_what_is_in_flight(start):
    served = start()
    (pid,) = served.ready()
    answer = served.hold()
    status = served.wait_status(lambda status: status["workers"][0]["in_flight"] == 1, "a request in flight")
    (row,) = status["workers"]
    assert (row["pid"], row["state"], row["oldest_request"]) == (pid, "serving", "GET /hold")
    assert 0 <= row["oldest"] < TIMEOUT and 0 <= row["heartbeat"] < TIMEOUT
    later = served.wait_status(lambda status: status["workers"][0]["oldest"] > row["oldest"])
    assert "GET /hold" in heatperf("status", "--control", served.control).stdout
    assert later["requests"] == 0  # answered so far
    served.release()
    assert answer()[0] == 200
    status = served.wait_status(lambda status: status["workers"][0]["in_flight"] == 0)
    assert (status["requests"], status["workers"][0]["oldest"], status["workers"][0]["oldest_request"]) == (1, None, "")


def test_counters_survive_respawn_and_reload(start):
    served = start()
    for _ in range(5):
        served.get()
    assert served.wait_status(lambda status: status["requests"] == 5)
    (pid,) = served.ready()
    os.kill(pid, signal.SIGKILL)
    status = served.wait_status(lambda status: status["workers"][0]["pid"] not in (0, pid))
    (row,) = status["workers"]
    assert (status["requests"], row["requests"], row["restarts"]) == (5, 5, 1)
    assert row["reason"] == "was killed by SIGKILL"
    served.get()
    served.wait_status(lambda status: status["workers"][0]["requests"] == 6)
    (old,) = served.ready()
    assert served.ask("reload")["ok"]
    wait_for(lambda: not alive(old))
    status = served.wait_status(lambda status: len(status["workers"]) == 1)
    assert (status["requests"], status["workers"][0]["requests"]) == (6, 6)
    served.get()
    served.wait_status(lambda status: status["requests"] == 7)

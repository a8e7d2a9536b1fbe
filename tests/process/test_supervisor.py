"""Workers die, hang and drain; the supervisor keeps its promises."""

import http.client
import os
import re
import signal
import socket
import time

import pytest
from conftest import GET, alive, answer_on, descriptors, heatperf, in_background, on_each_loop, session, wait_for


@on_each_loop
def test_a_killed_worker_is_replaced_while_the_others_serve(start):
    served = start(workers=2)
    port = served.port
    before = wait_for(lambda: len(pids := served.workers()) == 2 and pids)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    for _ in range(20):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
    after = wait_for(lambda: len(pids := served.workers()) == 2 and victim not in pids and pids)
    (new,) = after - before
    served.wait_text(rf"Worker \d \(pid {victim}\) was killed by SIGKILL")
    wait_for(lambda: served.get()[1] == str(new), "an answer of the new worker")


def test_replacements_of_short_lived_workers_are_delayed(start):
    served = start(workers=1)
    served.wait_text("boot of")
    for count in (1, 2):
        (pid,) = wait_for(lambda: served.get() and served.workers())
        os.kill(pid, signal.SIGKILL)
        served.wait_text("was killed by", count)
    first, second = re.findall(r"its replacement starts (.*)$", served.text(), re.M)
    assert first == "now" and re.fullmatch(r"in (0\.[789]|1\.[0123]) s", second)  # 1 s and a quarter of jitter
    assert served.get()[0] == 200  # connections wait in the supervisor's listener meanwhile


@on_each_loop
def test_term_drains(start):
    served = start(workers=2)
    served.ready()
    port = served.port
    answer = in_background(served.get, "/slow")
    idle = socket.create_connection(("127.0.0.1", port), 10)
    wait_for((served.state / "slow").exists)
    served.signal(signal.SIGTERM)
    assert idle.recv(10) == b""
    wait_for(served.refuses)
    assert served.process.poll() is None  # /slow is still being answered
    assert answer()[0] == 200
    assert served.wait() == 0
    assert len(re.findall("stopped", served.text())) == 2
    idle.close()


@on_each_loop
def test_requests_that_arrived_just_before_term_are_answered(start):
    """On connections that were idle, and on new ones that no worker has accepted yet."""
    served = start(workers=2)
    request = b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n"
    used = [socket.create_connection(("127.0.0.1", served.port), 10) for _ in range(20)]
    for sock in used:
        sock.sendall(request % 1)
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
    pids = wait_for(lambda: len(pids := served.workers()) == 2 and pids)
    for pid in pids:  # so that everything below waits in the kernel when TERM is looked at
        os.kill(pid, signal.SIGSTOP)
    fresh = [socket.create_connection(("127.0.0.1", served.port), 10) for _ in range(20)]
    for sock in used + fresh:
        sock.sendall(request % 2)
    served.signal(signal.SIGTERM)
    served.wait_text("Stopping")
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    answers = [sock.recv(1000) for sock in used + fresh]
    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 200 "] * 40
    assert served.wait() == 0
    for sock in used + fresh:
        sock.close()


def test_idle_connections_get_a_grace(start):
    """A client that reuses one just after TERM is answered and told that it was the last time; others are closed when
    the grace is over."""
    served = start(workers=2, keepalive_grace=1.0)
    used = [socket.create_connection(("127.0.0.1", served.port), 10) for _ in range(4)]
    for sock in used:
        sock.sendall(GET)
        assert b"connection: close" not in answer_on(sock).lower()
    began = time.monotonic()
    served.signal(signal.SIGTERM)
    served.wait_text("Stopping")
    for sock in used[:2]:
        sock.sendall(GET)
        answer = answer_on(sock).lower()
        assert answer.startswith(b"http/1.1 200 ") and b"connection: close" in answer
        assert sock.recv(10) == b""
    for sock in used[2:]:
        assert sock.recv(10) == b""
    assert 0.9 < time.monotonic() - began < 10
    assert served.wait() == 0
    for sock in used:
        sock.close()


@on_each_loop
def test_connections_made_before_term_that_speak_after_it(start):
    """Whether a worker has accepted them, or only the kernel."""
    served = start(keepalive_grace=5.0)
    (pid,) = served.ready()
    before = len(descriptors(pid))
    accepted = socket.create_connection(("127.0.0.1", served.port), 10)
    wait_for(lambda: len(descriptors(pid)) > before, "the accept")
    os.kill(pid, signal.SIGSTOP)
    queued = socket.create_connection(("127.0.0.1", served.port), 10)
    served.signal(signal.SIGTERM)
    served.wait_text("Stopping")
    os.kill(pid, signal.SIGCONT)
    wait_for(served.refuses)  # from here on only what was there before counts
    for sock in (accepted, queued):
        sock.sendall(GET)
        answer = answer_on(sock).lower()
        assert answer.startswith(b"http/1.1 200 ") and b"connection: close" in answer
        sock.close()
    assert served.wait() == 0  # at once: nobody is left to wait for


def test_attempts_to_connect_during_the_drain(start):
    """They are answered or refused, or wait; none is let in and then dropped."""
    served = start(workers=2)
    served.ready()
    answer = served.hold()
    outcomes = []

    def knock():
        try:
            sock = socket.create_connection(("127.0.0.1", served.port), 0.2)
        except TimeoutError:
            return "waited"
        except ConnectionRefusedError:
            return "refused"
        with sock:
            sock.settimeout(10)
            sock.sendall(GET)
            return answer_on(sock)[:12]

    def knock_on():
        while not outcomes or outcomes[-1] != "refused":
            outcomes.append(knock())
        return True

    knocking = [in_background(knock_on) for _ in range(4)]
    wait_for(lambda: len(outcomes) > 50)
    served.signal(signal.SIGTERM)
    assert all(done() for done in knocking)
    assert set(outcomes) <= {b"HTTP/1.1 200", "waited", "refused"}
    assert served.process.poll() is None
    served.release()
    assert answer()[0] == 200 and served.wait() == 0


def test_a_thread_that_holds_the_log_does_not_hold_up_the_end(start):
    served = start(hold_log=True)
    served.get()
    (pid,) = served.workers()
    served.signal(signal.SIGTERM)
    served.wait_text(f"stopped {pid}")
    assert served.wait() == 0  # drain_timeout is 30 s, longer than this waits
    assert "still busy" not in served.text()


@pytest.mark.parametrize("what", ["endless", "block"])
def test_what_does_not_finish_within_the_drain_timeout_is_killed(start, what):
    served = start(drain_timeout=0.5)
    served.wait_text("Starting")
    answer = in_background(lambda: pytest.raises((OSError, http.client.HTTPException), served.get, f"/{what}"))
    wait_for((served.state / what).exists)
    pids = served.workers()
    served.signal(signal.SIGTERM)
    assert served.wait() == 0
    assert not any(alive(pid) for pid in pids)
    served.wait_text("still busy")
    assert answer()


@on_each_loop
def test_int_stops_at_once(start):
    served = start()
    served.wait_text("Starting")
    in_background(lambda: pytest.raises((OSError, http.client.HTTPException), served.get, "/endless"))
    wait_for((served.state / "endless").exists)
    began = time.monotonic()
    served.signal(signal.SIGTERM)
    served.wait_text("Stopping")
    served.signal(signal.SIGINT)
    assert served.wait() == 0
    assert time.monotonic() - began < 10  # drain_timeout is 30


def test_ctrl_c_reaches_the_whole_group(start):
    served = start(workers=2)
    served.wait_text("Starting")
    pids = served.workers()
    os.killpg(served.pid, signal.SIGINT)
    assert served.wait() == 0
    assert not any(alive(pid) for pid in pids)
    assert "Traceback" not in served.text()


@on_each_loop
def test_all_leave_when_the_supervisor_is_killed(start):
    """Workers answer what is in flight; they and the zygote see the end of the supervisor, however it came."""
    served = start(workers=2)
    served.ready()
    answer = served.hold()
    used = socket.create_connection(("127.0.0.1", served.port), 10)
    used.sendall(GET)
    assert answer_on(used)
    os.kill(served.pid, signal.SIGKILL)
    served.process.wait()
    served.wait_text("The supervisor is gone; worker", 2)
    wait_for(served.refuses)
    served.release()
    assert answer()[0] == 200
    wait_for(lambda: not session(served.pid), "the end of zygote and workers")
    assert used.recv(10) == b""
    used.close()


def test_a_supervisor_killed_while_it_starts(start):
    """Nobody has told the workers to serve, and nobody will."""
    served = start(workers=2, boot="wait")
    served.wait_text("boot of", 2)
    os.kill(served.pid, signal.SIGKILL)
    served.process.wait()
    wait_for(lambda: not session(served.pid), "the end of zygote and workers")


@on_each_loop
def test_usr2_handlers_run_in_idle_processes(start):
    """The guru meditation report is a Python handler: an idle loop has to wake up for it."""
    served = start()
    served.get()
    (pid,) = served.workers()
    os.kill(pid, signal.SIGUSR2)
    served.wait_text(f"report of {pid}")
    served.signal(signal.SIGUSR2)  # passed on
    served.wait_text(f"report of {pid}", 2)
    assert served.get()[1] == str(pid)


def test_usr2_without_a_handler_is_ignored(start):
    """And a thread that the caller has started before the fork does not keep workers from being replaced."""
    served = start(reports="thread")
    served.get()
    (pid,) = served.workers()
    os.kill(pid, signal.SIGUSR2)
    served.signal(signal.SIGUSR2)
    assert served.get()[1] == str(pid)
    os.kill(pid, signal.SIGKILL)
    served.wait_text(rf"\(pid {pid}\) was killed by SIGKILL")
    (new,) = wait_for(lambda: served.workers() - {pid})
    assert served.get()[1] == str(new)
    os.kill(new, signal.SIGUSR2)
    assert served.get()[1] == str(new)
    served.signal(signal.SIGTERM)
    assert served.wait() == 0


def test_workers_stay_in_the_process_group(start):
    served = start()
    served.wait_text("Starting")
    assert {os.getpgid(pid) for pid in served.workers()} == {served.pid}


def test_supervisor_uses_no_cpu_while_idle(start):
    served = start()
    served.get()

    def ticks():
        with open(f"/proc/{served.pid}/stat") as stat:
            return sum(map(int, stat.read().rpartition(")")[2].split()[11:13]))

    def switches():
        with open(f"/proc/{served.pid}/status") as status:
            return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read(), re.M)[1])

    before = ticks(), switches()
    time.sleep(0.5)  # the subject is time passing
    assert ticks() - before[0] <= 1 and switches() - before[1] <= 2


def test_crash_loop(start):
    """One slot that always dies is tried again and again, with growing delays, while the other serves."""
    served = start(workers=2, boot="crash-others")
    served.wait_text("its replacement starts", 3)
    delays = re.findall(r"its replacement starts (.*)$", served.text(), re.M)
    assert delays[0] == "now"
    seconds = [float(re.fullmatch(r"in (.*) s", delay)[1]) for delay in delays[1:3]]
    for number, nominal in enumerate((1, 2)):
        assert 0.75 * nominal - 0.1 <= seconds[number] <= 1.25 * nominal + 0.1
    status = served.status()
    assert status["state"] == "degraded"
    healthy, sick = sorted(status["workers"], key=lambda row: row["restarts"])
    assert (healthy["state"], healthy["restarts"]) == ("serving", 0)
    assert (sick["state"], sick["pid"], sick["restarts"]) == ("waiting", 0, 3)
    assert sick["reason"] == "left with exit code 9" and 0 < sick["next_start"] <= 2.6
    assert {served.get() for _ in range(20)} == {(200, str(healthy["pid"]))}
    shown = heatperf("status", "--control", served.control)
    assert shown.returncode == 1 and "left with exit code 9; next start in" in shown.stdout
    assert served.stop() == 0


def test_ttin_and_ttou(start):
    """One more, one less, never none; a request in the one that leaves is answered."""
    served = start()
    (first,) = served.ready()
    served.signal(signal.SIGTTIN)
    (second,) = wait_for(lambda: served.ready() - {first})
    os.kill(first, signal.SIGSTOP)  # so that the next request is the other's
    answer = served.hold()
    os.kill(first, signal.SIGCONT)
    served.signal(signal.SIGTTOU)
    served.wait_status(lambda status: [row["state"] for row in status["workers"]] == ["serving", "draining"])
    served.signal(signal.SIGTTOU)
    served.wait_text("1 worker instead of 1")
    served.settle()
    assert {served.get() for _ in range(10)} == {(200, str(first))}
    served.release()
    assert answer() == (200, str(second))
    wait_for(lambda: served.workers() == {first})
    served.signal(signal.SIGTTIN)
    assert len(wait_for(lambda: len(pids := served.ready()) == 2 and pids)) == 2
    assert served.ask("reload")["ok"] and len(served.ready()) == 1  # as configured


# Boot


def test_all_workers_fail_to_boot(start):
    served = start(workers=3, boot="fail")
    assert served.wait() == 1
    text = served.text()
    assert "ERROR: no worker could start: RuntimeError: no broker at amqp.example" in text
    assert text.count("Traceback") == 1 and len(re.findall("boot of", text)) == 3
    assert "Starting" not in text


@pytest.mark.parametrize(("boot", "reason"), [("die", "exit code 9"), ("hang", "not ready within 0.5 s")])
def test_workers_that_die_or_hang_before_ready(start, boot, reason):
    served = start(workers=2, boot=boot, boot_deadline=0.5)
    assert served.wait() == 1
    assert reason in served.text()


def test_one_worker_that_boots_is_enough_and_the_others_follow(start):
    served = start(workers=2, boot="fail-others")
    served.wait_text("cannot start: RuntimeError: not my turn")
    assert served.get()[0] == 200
    wait_for(lambda: len(served.workers()) == 1)
    (served.state / "open").touch()
    wait_for(lambda: len(served.workers()) == 2)
    assert served.process.poll() is None


def test_term_while_booting(start):
    served = start(boot="hang")
    served.wait_text("boot of")
    served.signal(signal.SIGTERM)
    assert served.wait() == 0
    assert "Traceback" not in served.text()

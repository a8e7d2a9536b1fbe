"""A new configuration takes over without a gap, or is refused with its reason while the old one serves."""

import os
import re
import resource
import signal
import socket
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from conftest import alive, descriptors, fetch, in_background, on_each_loop, session, wait_for

REFUSALS = {
    "refuse": ({}, "ERROR: served.json: nothing will do (try another)"),
    "raise": ({}, "ZeroDivisionError: by design"),
    "exit": ({"code": "usage: served"}, "usage: served"),
    "die": ({}, "the process that loads the configuration left with exit code 9"),
    "hang": ({}, "the configuration was not loaded within 1.5 s"),
}
BOOTS = {
    "fail": "RuntimeError: no broker at amqp.example",
    "die": "it left with exit code 9 before it was ready",
    "hang": "it was not ready within 0.5 s",
}


def accepts(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        try:
            sock.connect(str(path))
        except OSError:
            return False
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return sock.recv(100).startswith(b"HTTP/1.1 200 ")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def expect_refusal(served, reason):
    """Reload; the answer and the log give the reason, and what served before serves on as it was."""
    status, processes = served.status(), session(served.pid)
    answer = served.ask("reload")
    assert (answer["ok"], answer["exit_code"]) == (False, 1)
    assert reason in answer["text"]
    served.wait_text("Reload refused, generation 1 serves on: (?s:.*)" + re.escape(reason))
    after = served.status()
    assert (after["state"], after["generation"]) == ("serving", status["generation"])
    assert after["reloads"]["refused"] == status["reloads"]["refused"] + 1
    assert after["reloads"]["last"]["ok"] is False and reason in after["reloads"]["last"]["reason"]
    assert fetch(int(after["listeners"][0].rpartition(":")[2]))[2] == "old"
    wait_for(lambda: session(served.pid) == processes, "the end of what was started for the attempt, and of no more")


def settle(served, name):
    """Wait for the old workers to accept no more; only those of that name serve then."""
    served.settle()
    assert {served.name() for _ in range(10)} == {name}


def test_a_new_name_and_number_of_workers(start):
    served = start(name="old", workers=2)
    before, (zygote,) = served.ready(), served.zygotes()
    answer = served.reload(name="new", workers=3)
    assert answer["ok"] and answer["exit_code"] == 0
    assert answer["generation"] == 2 and "3 workers" in answer["text"]
    settle(served, "new")
    after = served.ready()
    assert len(after) == 3 and not after & before
    wait_for(lambda: not any(map(alive, before | {zygote})), "the end of the old generation")
    status = served.status()
    assert (status["generation"], status["reloads"]["done"], status["reloads"]["last"]["ok"]) == (2, 1, True)
    served.wait_text("Reloaded: generation 2 serves with 3 workers$")
    assert served.reload(workers=1)["ok"]
    assert len(served.ready()) == 1
    assert served.stop() == 0


def test_hup_is_reload(start):
    """Also when it comes to the whole process group, as from a terminal that closes."""
    served = start(name="old")
    served.ready()
    served.configure(name="new")
    os.killpg(served.pid, signal.SIGHUP)
    served.wait_text("Reloaded: generation 2")
    settle(served, "new")
    served.configure(load="refuse")
    served.signal(signal.SIGHUP)
    served.wait_text("Reload refused, generation 2 serves on: ERROR: served.json: nothing will do")
    assert served.name() == "new"


@on_each_loop
def test_requests_in_flight_survive_a_reload(start):
    """The answer comes from the old worker, which outlives the reload for it, but gets no new connection."""
    served = start(name="old")
    (pid,) = served.ready()
    held = served.hold()
    assert served.reload(name="new")["ok"]
    settle(served, "new")
    rows = served.status()["workers"]
    assert [(row["generation"], row["state"]) for row in rows] == [(1, "draining"), (2, "serving")]
    served.release()
    assert held() == (200, str(pid))
    wait_for(lambda: not alive(pid))


def test_what_cannot_be_loaded_leaves_the_old_generation(start):
    served = start(name="old", constants={"generation.LOAD_DEADLINE": 1.5})
    served.ready()
    for how, (more, reason) in REFUSALS.items():
        served.configure(name="new", load=how, **more)
        expect_refusal(served, reason)
    # and none of it stands in the way of what is right
    assert served.reload(load=None, code=None)["ok"]
    settle(served, "new")
    assert served.stop() == 0


def test_what_cannot_boot_leaves_the_old_generation(start):
    served = start(name="old", workers=2, boot_deadline=0.5)
    served.ready()
    for boot, reason in BOOTS.items():
        served.configure(name="new", boot=boot)
        expect_refusal(served, reason)
    # One worker less than asked for is as bad as none: what serves now has them all.
    served.configure(boot="fail-others")
    expect_refusal(served, "RuntimeError: not my turn")
    assert served.reload(boot=None)["ok"]
    settle(served, "new")


def test_replacements_come_from_the_generation_that_serves(start):
    """A worker that dies after the configuration was broken starts as its siblings did."""
    served = start(name="old", workers=1)
    served.ready()
    zygotes = served.zygotes()
    served.configure(name="new", boot="fail")
    assert not served.ask("reload")["ok"]
    served.file.write_text("no JSON at all")
    for _ in range(2):
        (pid,) = wait_for(served.workers)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid) and served.name() == "old")  # noqa: B023 - used at once
    assert served.zygotes() == zygotes


def test_several_at_once(start):
    """What comes while one loads waits for the next, which reads the files anew; one does for all who wait."""
    served = start(name="old")
    served.ready()
    served.configure(name="first")
    first = in_background(served.ask, "reload")
    served.wait_text("Reloading: loading generation 2")
    served.configure(name="second")
    others = [in_background(served.ask, "reload") for _ in range(3)]
    assert first()["generation"] == 2
    assert [answer()["generation"] for answer in others] == [3, 3, 3]
    settle(served, "second")
    assert served.status()["reloads"]["done"] == 2


def test_many_generations_that_drain(start):
    """Their number is bounded: another reload waits until one has ended."""
    served = start(name="0")
    served.ready()
    held = []
    for number in (1, 2, 3):
        settle(served, str(number - 1))
        held.append(served.hold())
        (served.state / "hold").unlink()
        assert served.reload(name=str(number))["ok"]
    served.configure(name="4")
    last = in_background(served.ask, "reload")
    # The answer to a status proves that the request before it was seen.
    wait_for(lambda: served.status() and served.status())
    assert len(served.zygotes()) == 4 and "loading generation 5" not in served.text()
    settle(served, "3")
    served.release()
    assert [answer()[0] for answer in held] == [200] * 3
    assert last()["generation"] == 5
    settle(served, "4")


def test_term_during_a_reload(start):
    served = start(name="old", workers=2)
    served.ready()
    held = served.hold()
    served.configure(load="hang")
    reload = in_background(served.ask, "reload")
    served.wait_text("load as told: hang")
    served.signal(signal.SIGTERM)
    answer = reload()
    assert (answer["ok"], answer["text"], answer["exit_code"]) == (False, "the server is stopping", 1)
    served.release()
    assert held()[0] == 200
    assert served.wait() == 0
    assert not session(served.pid)


def test_reload_of_a_server_that_is_stopping(start):
    served = start()
    served.ready()
    held = served.hold()
    served.signal(signal.SIGTERM)
    served.wait_text("Stopping Heat REST API")
    answer = served.ask("reload")
    assert (answer["ok"], answer["text"]) == (False, "the server is stopping")
    assert served.status()["state"] == "stopping"
    served.signal(signal.SIGHUP)
    served.release()
    assert held()[0] == 200 and served.wait() == 0
    assert "Reloading" not in served.text()


def test_a_reload_before_the_first_worker_serves(start):
    served = start(boot="hang")
    served.wait_text("boot of")
    served.configure(boot=None, name="new")
    served.signal(signal.SIGHUP)
    served.signal(signal.SIGTERM)
    assert served.wait() == 0


# The zygote


def test_a_zygote_that_is_killed(start):
    """Workers serve on, and a new generation takes over by itself: only a zygote can replace them."""
    served = start(workers=2, name="old")
    workers, (zygote,) = served.ready(), served.zygotes()
    held = served.hold()
    served.configure(name="new", load="hang")
    os.kill(zygote, signal.SIGKILL)
    served.wait_text(rf"zygote of generation 1 \(pid {zygote}\) was killed by SIGKILL")
    served.wait_text("load as told: hang")
    assert {served.name() for _ in range(10)} == {"old"}
    assert {row["pid"] for row in served.status()["workers"]} == workers
    served.configure(load=None)
    (hanging,) = served.zygotes()
    os.kill(hanging, signal.SIGKILL)
    wait_for(lambda: served.name() == "new", "the next generation")
    assert not served.ready() & workers
    served.release()
    assert held()[0] == 200
    wait_for(lambda: not any(map(alive, workers)), "the end of workers without a zygote")
    assert served.stop() == 0


def test_a_zygote_and_all_workers_are_killed(start):
    served = start(workers=2)
    workers, (zygote,) = served.ready(), served.zygotes()
    for pid in (zygote, *workers):
        os.kill(pid, signal.SIGKILL)
    assert served.get()[0] == 200  # the kernel keeps the connection until there is a worker
    assert not served.ready() & workers
    assert served.stop() == 0


def test_without_a_zygote_a_broken_configuration_is_tried_again(start):
    served = start(name="old")
    workers, (zygote,) = served.ready(), served.zygotes()
    served.configure(name="new", load="refuse")
    os.kill(zygote, signal.SIGKILL)
    served.wait_text("loading a new generation in", 2)
    # as fast as a worker that dies again and again: at once, then with growing delays
    first, second, third = re.findall(r"loading a new generation (.*)$", served.text(), re.M)[:3]
    assert first == "now"
    assert re.fullmatch(r"in (0\.[789]|1\.[0123]) s", second) and re.fullmatch(r"in (1\.[5-9]|2\.[0-5]) s", third)
    assert served.name() == "old"
    assert served.reload(load=None)["ok"]  # does not wait for the delay
    settle(served, "new")
    wait_for(lambda: not any(map(alive, workers)))


def test_a_zygote_that_does_not_answer(start):
    """It is killed, which leads to a new one."""
    served = start(workers=2, constants={"generation.ANSWER_DEADLINE": 0.5})
    workers, (zygote,) = served.ready(), served.zygotes()
    os.kill(zygote, signal.SIGSTOP)
    os.kill(min(workers), signal.SIGKILL)
    served.wait_text(rf"\(pid {zygote}\) does not answer and is killed")
    served.wait_text("Reloaded: generation 2")
    assert len(served.ready()) == 2 and served.get()[0] == 200


@on_each_loop
def test_nothing_exists_before_the_fork(start, tmp_path):
    """Threads, and connections, and loops: a zygote has none, and a worker is a copy of it."""
    served = start(binds=["127.0.0.1:0", f"unix:{tmp_path}/s"])
    served.ready()
    (zygote,) = served.zygotes()
    assert len(os.listdir(f"/proc/{zygote}/task")) == 1
    found = {fd: what for fd, what in descriptors(zygote).items() if fd > 2}
    kinds = sorted(re.sub(r"\d+", "", what) for what in found.values())
    # The scoreboard, of which mmap keeps a copy; the lifeline; channel, gate and two listeners.
    assert kinds == [*["/memfd:heatperf-scoreboard (deleted)"] * 2, "pipe:[]", *["socket:[]"] * 4], found


# Listeners


def test_listeners_come_and_go(start, tmp_path):
    """What both have goes on without a gap; what is new opens; what is gone closes, and its queue is answered."""
    kept, gone, new = (free_port() for _ in range(3))
    path = tmp_path / "gone.sock"
    binds = [f"127.0.0.1:{kept}", f"127.0.0.1:{gone}", f"unix:{path}"]
    served = start(binds=binds, name="old")
    (pid,) = served.ready()
    inode = _listening_inodes(served, kept)
    os.kill(pid, signal.SIGSTOP)  # so that the next connections wait in the kernel
    waiting = []
    for port in (kept, gone):
        waiting.append(socket.create_connection(("127.0.0.1", port), 10))
        waiting[-1].sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = in_background(lambda: served.reload(binds=[f"127.0.0.1:{kept}", f"127.0.0.1:{new}"], name="new"))
    served.wait_text("Reloaded: generation 2")
    os.kill(pid, signal.SIGCONT)
    assert answer()["ok"]
    assert [sock.recv(100)[:13] for sock in waiting] == [b"HTTP/1.1 200 "] * 2
    wait_for(lambda: {fetch(port)[2] for port in (kept, new) for _ in range(10)} == {"new"})
    assert served.status()["listeners"] == [f"127.0.0.1:{kept}", f"127.0.0.1:{new}"]
    assert _listening_inodes(served, kept) == inode
    wait_for(lambda: not alive(pid))
    with pytest.raises(ConnectionRefusedError):
        fetch(gone)
    assert not path.exists()
    for sock in waiting:
        sock.close()


def _listening_inodes(served, port):
    """Inodes of the sockets that listen on a port: another socket, even on the same port, has another."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}


def test_a_refused_reload_closes_what_it_had_opened(start, tmp_path):
    new, path = free_port(), tmp_path / "new.sock"
    served = start(name="old")
    served.ready()
    listeners = served.status()["listeners"]
    before = len(descriptors(served.pid))
    # opened, and then the boot fails
    served.configure(binds=[*served.options["binds"], f"127.0.0.1:{new}", f"unix:{path}"], boot="fail")
    expect_refusal(served, "no broker")
    # one opened, and then the next is taken
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        binds = [served.options["binds"][0], f"127.0.0.1:{new}", f"unix:{path}", f"127.0.0.1:{taken}"]
        served.configure(binds=binds, boot=None)
        expect_refusal(served, f"port {taken} is taken by another process")
    assert not path.exists()
    with pytest.raises(ConnectionRefusedError):
        fetch(new)
    assert served.status()["listeners"] == listeners
    wait_for(lambda: len(descriptors(served.pid)) <= before, "as many descriptors as before")


def test_an_address_that_conflicts_with_our_own(start):
    port = free_port()
    served = start(binds=[f"127.0.0.1:{port}"], name="old")
    served.ready()
    served.configure(binds=[f"0.0.0.0:{port}"])
    expect_refusal(served, f"cannot listen on 0.0.0.0:{port} while this server listens on 127.0.0.1:{port}")
    assert fetch(port)[2] == "old"


def test_a_unix_socket_changes_its_mode_and_comes_back(start, tmp_path):
    path = tmp_path / "api.sock"
    served = start(binds=[f"unix:{path},mode=0600"])
    served.ready()
    inode = path.stat().st_ino
    assert served.reload(binds=[f"unix:{path},mode=0666"])["ok"]
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_ino) == (0o666, inode)
    assert accepts(path)
    path.unlink()  # by a cleaner of temporary files, say
    assert served.ask("reload")["ok"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 and accepts(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"binds": ["unix:{path},owner=nobody-of-that-name"]}, "owner nobody-of-that-name does not exist"),
        ({"binds": ["unix:{path}", "127.0.0.1:0"], "tcp_keepidle": 40_000}, "more than the kernel takes"),
    ],
)
def test_what_a_kept_listener_cannot_be_given_is_refused(start, tmp_path, changes, reason):
    path = tmp_path / "api.sock"
    binds = [text.format(path=path) for text in changes.pop("binds")]
    served = start(binds=[bind.partition(",")[0] for bind in binds])
    served.ready()
    served.configure(binds=binds, **changes)
    answer = served.ask("reload")
    assert not answer["ok"] and reason in answer["text"]
    assert accepts(path) and served.status()["state"] == "serving"


@on_each_loop
def test_another_certificate(start, tmp_path):
    files = {name: _certificate(tmp_path, name) for name in ("one", "two")}
    served = start(tls=files["one"])
    served.ready()

    def serial():
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", served.port), 10) as sock, context.wrap_socket(sock) as tls:
            tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert tls.recv(100).startswith(b"HTTP/1.1 200 ")
            return tls.getpeercert(True)

    def der(name):
        with open(files[name][0]) as file:
            return ssl.PEM_cert_to_DER_cert(file.read())

    assert serial() == der("one")
    assert served.reload(tls=files["two"])["ok"]
    wait_for(lambda: {serial() for _ in range(5)} == {der("two")}, "the new certificate")
    answer = served.reload(tls=[files["one"][0], files["two"][1]])
    assert not answer["ok"] and "the key_file does not fit the cert_file" in answer["text"]
    assert serial() == der("two")


def _certificate(folder, name):
    cert, key = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


# Handing over


def test_a_new_worker_that_dies_between_ready_and_serving_does_not_lose_the_old_ones(start):
    """The old generation is told to leave when all of the new one serve or have had the time, and is never forgotten,
    whatever else is asked for meanwhile."""
    served = start(name="0", constants={"supervisor.HANDOVER": 1.0})
    before = served.ready()
    served.configure(name="1", boot="crash-others", workers=2)
    pending = in_background(served.ask, "reload")
    served.wait_status(lambda status: status["generation"] == 2, "the gate of generation 2")
    answers = [served.reload(name="2", boot=None), pending(), served.reload(name="3", workers=1)]
    assert [answer["ok"] for answer in answers] == [True] * 3
    wait_for(lambda: not any(map(alive, before)), "the end of the first generation")
    wait_for(lambda: len(served.zygotes()) == 1, "the end of all generations but one")
    settle(served, "3")


# Shortage


def test_a_supervisor_without_descriptors_serves_on(start):
    """Neither a reload nor a worker's death may end it when there is nothing left to open."""
    served = start(name="old", workers=2)
    workers = served.ready()
    used = len(descriptors(served.pid))
    hard = resource.prlimit(served.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(served.pid, resource.RLIMIT_NOFILE, (used, hard))
    served.configure(name="new")
    served.signal(signal.SIGHUP)
    served.wait_text("Reload refused, generation 1 serves on: .*Too many open files")
    os.kill(min(workers), signal.SIGKILL)
    served.wait_text("was killed by SIGKILL")
    assert served.get()[0] == 200
    resource.prlimit(served.pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert len(served.ready()) == 2
    assert served.ask("reload")["ok"]
    settle(served, "new")
    assert served.stop() == 0

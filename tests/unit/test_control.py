"""The control socket, both ends, over real sockets."""

import json
import os
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from heatperf.errors import ConfigurationError
from heatperf.server import control
from heatperf.server.control import ControlServer, candidates, default_path, permitted
from heatperf.server.control_client import ControlError, call, call_first

#: A server that holds the client of stop, closes, and ends when its standard input does.
HOLDER = """
import select, sys
from heatperf.server.control import ControlServer
server = ControlServer.open(sys.argv[1])
print("open", flush=True)
held = None
while held is None:
    select.select([server], [], [])
    for held in server.ready():
        held.hold("Stopping", pid=7)
server.close()
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path):
    return tmp_path / "c.sock"


@pytest.fixture
def server(place):
    made = ControlServer.open(place)
    yield made
    made.close()


def requests_of(server, number=1, patience=5.0):
    """Drive the server as the supervisor does until so many requests have come in."""
    found = []
    run(server, lambda: len(found) >= number, patience, found)
    return found


def run(server, until, patience=5.0, found=None):
    poll = select.poll()
    for fd in server.descriptors():
        poll.register(fd, select.POLLIN)
    end = time.monotonic() + patience
    while not until():
        assert time.monotonic() < end, "it did not happen"
        due = server.deadline()
        poll.poll(20 if due is None else max(0, min(20, (due - time.monotonic()) * 1000 + 1)))
        requests = server.ready(server.descriptors())
        if found is not None:
            found.extend(requests)
        else:
            assert not requests


def idle(server):
    """Whether poll would sleep."""
    return not select.select([server], [], [], 0)[0]


def connect(place):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5)
    sock.connect(str(place))
    return sock


def said(command="status", **more):
    return json.dumps({"command": command, **more}).encode() + b"\n"


def answer_of(sock):
    with sock.makefile("rb") as file:
        return json.loads(file.readline())


# Where


@pytest.mark.parametrize(
    ("environ", "uid", "path"),
    [
        ({"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/run/a/control.sock"),
        ({"RUNTIME_DIRECTORY": "a", "XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/run/user/7/heatperf/control.sock"),
        ({"XDG_RUNTIME_DIR": "/run/user/0"}, 0, "/run/heatperf/control.sock"),
        ({"XDG_RUNTIME_DIR": "here"}, 7, None),
        ({}, 7, None),
    ],
)
def test_where_a_server_listens(environ, uid, path):
    assert default_path(environ, uid) == (path and Path(path))


def test_where_a_client_looks():
    system, session = "/run/heatperf/control.sock", "/run/user/7/heatperf/control.sock"
    assert candidates({}, 7) == candidates({}, 0) == [Path(system)]
    assert list(map(str, candidates({"XDG_RUNTIME_DIR": "/run/user/7"}, 7))) == [session, system]
    environ = {"XDG_RUNTIME_DIR": "/run/user/7", "RUNTIME_DIRECTORY": "/run/x"}
    assert list(map(str, candidates(environ, 0))) == ["/run/x/control.sock", system, session]


# The file


@pytest.mark.parametrize("umask", [0, 0o777])
def test_nobody_else_may_use_the_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        server = ControlServer.open(tmp_path / "c.sock")
    finally:
        os.umask(before)
    assert server.path.stat().st_mode & 0o777 == 0o600 and not os.get_inheritable(server.fileno())
    server.close()
    server.close()
    assert not server.path.exists() and server.descriptors() == [] and server.ready() == []


def test_its_directory_is_made_for_us_alone(tmp_path):
    server = ControlServer.open(tmp_path / "run" / "c.sock")
    assert server.path.parent.stat().st_mode & 0o777 == 0o700
    server.close()


def test_a_stale_socket_is_replaced(place):
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(place))
    server = ControlServer.open(place)
    connect(place).close()
    server.close()


@pytest.mark.parametrize("queued", [0, 200])
def test_a_live_server_is_left_alone(place, server, queued):
    clients = [socket.socket(socket.AF_UNIX) for _ in range(queued)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(str(place))  # until its queue is full
    with pytest.raises(ConfigurationError, match="another server answers") as caught:
        ControlServer.open(place)
    assert "--control" in caught.value.remedy and place.exists()
    for client in clients:
        client.close()


def test_of_servers_that_start_together_one_wins(place):
    def attempt(_):
        try:
            return ControlServer.open(place)
        except ConfigurationError:
            return None

    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as stale:
                stale.bind(str(place))
            winners = [server for server in pool.map(attempt, range(4)) if server]
            assert len(winners) == 1
            connect(place).close()
            winners[0].close()


@pytest.mark.parametrize(
    ("path", "words", "remedy"),
    [
        ("none/there/c.sock", "No such file", "make the directory"),
        ("file/c.sock", "File exists", "is not a directory"),
        ("file/deeper/c.sock", "Not a directory", "is not a directory"),
        ("file", "not a socket", "another --control"),
        ("x" * 200, "too long", "107 bytes"),
    ],
)
def test_paths_that_cannot_be_used(tmp_path, path, words, remedy):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=words) as caught:
        ControlServer.open(tmp_path / path)
    assert remedy in caught.value.remedy and [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_successors_socket_is_not_removed(place):
    first = ControlServer.open(place)
    os.unlink(place)  # by an impatient operator
    second = ControlServer.open(place)
    first.close()
    connect(place).close()
    second.close()


# Asking and answering


def test_a_question_and_its_answer(place, server):
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(call, place, "reload", {"wait": 3}, 5.0)
        (request,) = requests_of(server)
        assert (request.command, request.arguments, request.gone) == ("reload", {"wait": 3}, False)
        request.reply(False, "no such file", generation=4, where=Path("/etc/heat"))
        answer = asked.result()
    assert answer == {"ok": False, "text": "no such file", "exit_code": 1, "generation": 4, "where": "/etc/heat"}
    request.reply(True)  # too late, and no harm
    assert request.gone and idle(server) and server.deadline() is None


def test_the_server_may_choose_the_exit_code(place, server):
    with connect(place) as client:
        client.sendall(said())
        requests_of(server)[0].reply(True, exit_code=3)
        assert answer_of(client)["exit_code"] == 3 and client.recv(1) == b""


def test_a_late_answer_does_not_keep_others_waiting(place, server):
    with connect(place) as first, connect(place) as second:
        first.sendall(said("reload"))
        (reload,) = requests_of(server)
        second.sendall(said("status"))
        (status,) = requests_of(server)
        status.reply(True, "second")
        assert answer_of(second)["text"] == "second"
        assert idle(server) and server.deadline() is None  # a reload takes as long as it takes
        reload.reply(True, "first")
        assert answer_of(first)["text"] == "first"


def test_a_request_may_come_in_pieces(place, server):
    with connect(place) as client:
        for byte in said("stop"):
            assert server.ready() == []
            client.sendall(bytes([byte]))
        assert requests_of(server)[0].command == "stop"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"\n", "not a JSON object"),
        (b"GET / HTTP/1.1\r\n\r\n", "not a JSON object"),
        (b'"stop"\n', "not a JSON object"),
        (b"\xff\xfe\n", "not a JSON object"),
        (b"[" * 10_000 + b"\n", "not a JSON object"),
        (b'{"command": "stop", "arguments": 7}\n', "not a JSON object"),
        (b"{}\n", "no command 'None'"),
        (b'{"command": "dance"}\n', "this server knows reload, status, stop"),
        (b'{"command": ["stop"]}\n', "no command"),
        (b"x" * 20_000, "longer than 16384 bytes"),
    ],
)
def test_what_is_not_understood_is_answered(place, server, line, words):
    with connect(place) as client:
        client.sendall(line)
        run(server, lambda: select.select([client], [], [], 0)[0])
        answer = answer_of(client)
        assert not answer["ok"] and answer["exit_code"] == 1 and words in answer["text"]


def test_a_client_that_leaves_is_forgotten(place, server):
    silent, asking = connect(place), connect(place)
    asking.sendall(said("reload"))
    (request,) = requests_of(server)
    silent.close()
    asking.close()
    run(server, lambda: request.gone and server.deadline() is None)
    request.reply(True, "nobody hears it")
    assert idle(server)


def test_a_client_that_leaves_unseen_does_no_harm(place, server):
    with connect(place) as client:
        client.sendall(said("stop"))
        (request,) = requests_of(server)
    request.hold()
    assert request.gone and idle(server)


def test_a_client_that_has_finished_writing_gets_its_answer(place, server):
    """As from ``socat - UNIX-CONNECT:``; what it sends after the line is not read, and does not keep us awake."""
    with connect(place) as client:
        client.sendall(said("reload") + b"more\n" * 100)
        client.shutdown(socket.SHUT_WR)
        (request,) = requests_of(server)
        assert server.ready() == [] and idle(server)
        request.reply(True, "done")
        assert answer_of(client)["text"] == "done"


# What clients may cost


@pytest.mark.parametrize("sent", [b"", b'{"command": "st'])
def test_a_silent_client_is_dropped(place, server, sent, monkeypatch):
    monkeypatch.setattr(control, "PATIENCE", 0.05)
    with connect(place) as client:
        client.sendall(sent)
        run(server, lambda: server.deadline() is not None)
        run(server, lambda: server.deadline() is None)
        assert client.recv(1) == b""
    assert idle(server)


def test_a_large_answer_waits_for_its_reader_not_the_supervisor(place, server):
    with connect(place) as client, ThreadPoolExecutor(1) as pool:
        client.sendall(said())
        (request,) = requests_of(server)
        began = time.monotonic()
        request.reply(True, "x" * 3_000_000)
        assert time.monotonic() - began < 1 and not request.gone
        answer = pool.submit(answer_of, client)
        run(server, answer.done)
        assert len(answer.result()["text"]) == 3_000_000
    assert request.gone and idle(server)


def test_who_does_not_take_the_answer_is_dropped(place, server, monkeypatch):
    monkeypatch.setattr(control, "PATIENCE", 0.05)
    with connect(place) as client:
        client.sendall(said())
        (request,) = requests_of(server)
        request.reply(True, "x" * 3_000_000)
        run(server, lambda: request.gone)
    assert idle(server) and server.deadline() is None


def test_one_client_too_many_is_told_so(place, server):
    clients = []
    for _ in range(control.MAX_CLIENTS):
        clients.append(connect(place))
        run(server, lambda: idle(server))
    with connect(place) as late:
        run(server, lambda: select.select([late], [], [], 0)[0])
        assert "try again later" in answer_of(late)["text"]
    for client in clients:
        client.close()
    with connect(place) as client:
        client.sendall(said())
        assert len(requests_of(server)) == 1


def test_without_descriptors_it_pauses_and_comes_back(place, server, monkeypatch, caplog):
    monkeypatch.setattr(control, "PAUSE", 0.05)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connect(place) as client:
        client.sendall(said())
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
        try:
            assert server.ready() == []
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert idle(server) and server.deadline() is not None and "Too many open files" in caplog.text
        assert len(requests_of(server)) == 1


# Who may


@pytest.mark.parametrize(("peer", "own", "may"), [(0, 7, True), (7, 7, True), (8, 7, False), (8, 0, False)])
def test_root_and_the_servers_user_may(peer, own, may):
    assert permitted(peer, own) is may


@pytest.fixture
def as_nobody(place, monkeypatch):
    """Runs a function as a user who may search the socket's directory (it is the current one) but is not the server."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    place.parent.chmod(0o755)
    monkeypatch.chdir(place.parent)

    def run_as(function, *args):
        os.seteuid(65534)
        try:
            return function(*args)
        finally:
            os.seteuid(0)

    return run_as


def test_the_file_keeps_strangers_out(server, as_nobody):
    with pytest.raises(ControlError, match="not open to this user") as caught:
        as_nobody(call, "c.sock", "stop")
    assert not caught.value.absent


def test_strangers_are_refused_also_when_the_file_lets_them_in(place, server, as_nobody, caplog):
    place.chmod(0o666)
    with as_nobody(connect, "c.sock") as stranger:
        stranger.sendall(said("stop"))
        run(server, lambda: select.select([stranger], [], [], 0)[0])
        assert "user 65534 may not control" in answer_of(stranger)["text"]
    assert "User 65534" in caplog.text


# The client


def test_stop_waits_for_the_end_of_the_process(place):
    command = [sys.executable, "-c", HOLDER, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(ControlError, match="has not ended within 0.5 s"):
            call(place, "stop", timeout=0.5, until_end=True)
        assert not place.exists() and process.poll() is None
        process.stdin.close()
        assert process.wait(10) == 0


def test_the_end_of_the_process_ends_the_wait(place):
    command = [sys.executable, "-c", HOLDER, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        threading.Timer(0.2, process.stdin.close).start()
        assert call(place, "stop", timeout=10, until_end=True)["pid"] == 7
        assert process.wait(10) == 0


def test_no_server(tmp_path, place):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(place))
    for path, words in ((place, "has ended"), (tmp_path / "none", "no such socket"), (place / "x", "no such socket")):
        with pytest.raises(ControlError, match=words) as caught:
            call(path, "status")
        assert caught.value.absent and str(path) in str(caught.value)


def test_the_first_server_found_is_asked(tmp_path, place, server):
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(call_first, [tmp_path / "none", place], "status", {}, 5.0)
        requests_of(server)[0].reply(True, "here")
        assert asked.result()["text"] == "here"
    with pytest.raises(ControlError, match=f"nobody answers at {tmp_path}/a, {tmp_path}/b") as caught:
        call_first([tmp_path / "a", tmp_path / "b"], "status")
    assert caught.value.absent and "--control" in caught.value.remedy
    with pytest.raises(ControlError, match="no usual place"):
        call_first([], "status")


@pytest.mark.parametrize("queued", [0, 200])
def test_a_server_that_does_not_answer(place, server, queued):
    clients = [socket.socket(socket.AF_UNIX) for _ in range(queued)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(str(place))  # until its queue is full
    with pytest.raises(ControlError, match="did not answer status within 0.1 s") as caught:
        call(place, "status", timeout=0.1)
    assert not caught.value.absent
    for client in clients:
        client.close()


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no heatperf server"),
        (b'{"ok": "yes"}\n', "no heatperf server"),
        (b"[1]\n", "no heatperf server"),
    ],
)
def test_strange_answers(place, sent, words):
    with socket.socket(socket.AF_UNIX) as other, ThreadPoolExecutor(1) as pool:
        other.bind(str(place))
        other.listen()
        asked = pool.submit(call, place, "status", None, 5.0)
        with other.accept()[0] as connection:
            connection.recv(1000)
            connection.sendall(sent)
        with pytest.raises(ControlError, match=words):
            asked.result()


def test_a_server_that_goes_away_is_noticed(place):
    server = ControlServer.open(place)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(call, place, "reload", None, 5.0)
        requests_of(server)
        server.close()
        with pytest.raises(ControlError, match="without an answer"):
            asked.result()

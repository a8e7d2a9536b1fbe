"""systemd: its notifications, its sockets, and what of it a worker may see."""

import os
import re
import select
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from conftest import TIMEOUT, fetch, in_background, wait_for

#: As systemd runs a service: descriptors from 3 on, and variables with the pid of the process that is to take them.
EXECUTE = """
import fcntl, os, sys
count = int(sys.argv[1])
fds = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[2 : 2 + count]]
for number, fd in enumerate(fds):
    os.dup2(fd, 3 + number)
    os.close(fd)
if fds:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES=":".join(["api"] * count))
os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.argv[2 + count], sys.argv[2 + count :])
"""


class Systemd:
    """The end of NOTIFY_SOCKET that systemd has."""

    def __init__(self, folder):
        self.address = str(folder / "notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.address)
        self.sock.settimeout(TIMEOUT)
        self.status = ""  # what systemctl status shows

    def read(self):
        """The next message that is no mere status, as a dict."""
        while True:
            message = dict(line.split("=", 1) for line in self.sock.recv(4096).decode().split("\n"))
            self.status = message.get("STATUS", self.status)
            if set(message) != {"STATUS"}:
                return message

    def read_rest(self):
        """What systemctl status shows after all that has come."""
        while not self.silent():
            message = dict(line.split("=", 1) for line in self.sock.recv(4096).decode().split("\n"))
            assert set(message) == {"STATUS"}
            self.status = message["STATUS"]
        return self.status

    def silent(self):
        """Whether no message is there."""
        return not select.select([self.sock], [], [], 0)[0]


@pytest.fixture
def systemd(tmp_path):
    made = Systemd(tmp_path)
    yield made
    made.sock.close()


def execute(sockets=()):
    """Options of a server that is started with these sockets."""
    fds = [sock.fileno() for sock in sockets]
    return {
        "wrap": [sys.executable, "-c", EXECUTE, str(len(fds)), *map(str, fds)],
        "popen": {"pass_fds": fds},
    }


def environment_of(pid):
    """Names of the variables that a process was started with."""
    return {entry.partition(b"=")[0].decode() for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")}


def monotonic_usec():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_the_sequence_of_notifications(start, systemd):
    served = start(environment={"NOTIFY_SOCKET": systemd.address}, workers=2)
    assert systemd.read()["READY"] == "1"
    served.ready()
    for changes, code in (({"load": "refuse"}, False), ({"load": None}, True)):
        began = monotonic_usec()
        assert served.reload(**changes)["ok"] is code
        reloading, ended = systemd.read(), systemd.read()
        assert reloading["RELOADING"] == "1" and began <= int(reloading["MONOTONIC_USEC"]) <= monotonic_usec()
        assert ended["READY"] == "1"
        assert served.status() and served.status()  # a turn of its loop later it still says so
        said = systemd.read_rest()
        assert said == "Serving with 2 workers" if code else "nothing will do" in said
    held = served.hold()
    served.signal(signal.SIGTERM)
    stopping = systemd.read()
    assert stopping["STOPPING"] == "1" and served.process.poll() is None  # said at the beginning of the end
    served.release()
    assert held()[0] == 200 and served.wait() == 0
    assert systemd.silent()


def test_ready_comes_when_a_worker_serves(start, systemd):
    served = start(environment={"NOTIFY_SOCKET": systemd.address}, boot="wait")
    served.wait_text("boot of")
    assert served.status()["state"] == "starting"
    assert systemd.silent()
    (served.state / "open").touch()
    assert systemd.read()["READY"] == "1"
    assert served.status()["state"] == "serving" and served.get()[0] == 200


def test_no_ready_without_a_worker(start, systemd):
    served = start(environment={"NOTIFY_SOCKET": systemd.address}, boot="fail")
    assert served.wait() == 1
    assert "READY" not in systemd.read()  # STOPPING
    assert systemd.silent()


def test_the_status_says_what_is_wrong(start, systemd):
    served = start(environment={"NOTIFY_SOCKET": systemd.address}, workers=2, boot="fail-others")
    assert systemd.read()["READY"] == "1"
    wanted = "Degraded: 1 of 2 workers serving (RuntimeError: not my turn)"
    wait_for(lambda: systemd.read_rest() == wanted, wanted)
    (row,) = [row for row in served.status()["workers"] if row["state"] != "serving"]
    assert row["reason"] == "RuntimeError: not my turn"
    (served.state / "open").touch()
    wait_for(lambda: systemd.read_rest() == "Serving with 2 workers", "the second worker")


def test_signs_of_life(start, systemd):
    """Half of WatchdogSec apart, from READY on, and only while the supervisor itself lives."""
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "400000"}
    served = start(environment=environment, boot="wait", **execute())
    served.wait_text("boot of")
    assert systemd.silent()
    (served.state / "open").touch()
    assert systemd.read()["READY"] == "1"
    moments = []
    while len(moments) < 4:
        assert systemd.read() == {"WATCHDOG": "1"}
        moments.append(time.monotonic())
    assert 0.3 < moments[3] - moments[0] < 3
    served.signal(signal.SIGSTOP)
    wait_for(lambda: "(stopped)" in Path(f"/proc/{served.pid}/status").read_text())
    while not systemd.silent():
        systemd.read()
    systemd.sock.settimeout(0.6)  # the subject is time passing
    with pytest.raises(TimeoutError):
        systemd.read()
    served.signal(signal.SIGCONT)
    assert systemd.read() == {"WATCHDOG": "1"}
    systemd.sock.settimeout(TIMEOUT)
    served.signal(signal.SIGTERM)
    assert served.wait() == 0


def test_socket_activation(start, systemd, tmp_path):
    """TCP and unix. The sockets stay systemd's: they outlive the server, and what connects in between waits."""
    path = tmp_path / "api.sock"
    tcp, unix = socket.socket(), socket.socket(socket.AF_UNIX)
    with tcp, unix:
        tcp.bind(("127.0.0.1", 0))
        unix.bind(str(path))
        for sock in (tcp, unix):
            sock.listen(10)
        port = tcp.getsockname()[1]
        early = in_background(fetch, port)
        environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "60000000"}
        options = {"environment": environment, "binds": ["127.0.0.1:1"], **execute([tcp, unix])}
        first = start(name="first", **options)
        assert early()[2] == "first"
        assert ask_unix(path).startswith(b"HTTP/1.1 200 ")
        assert first.status()["listeners"] == [f"127.0.0.1:{port}", f"unix:{path}"]
        hidden = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
        assert environment_of(first.pid) >= set(hidden)  # or the next lines would prove nothing
        for pid in first.zygotes() | first.workers():
            assert not environment_of(pid) & set(hidden) and "PYTHONPATH" in environment_of(pid)
        assert first.reload(name="second")["ok"]
        wait_for(lambda: {fetch(port)[2] for _ in range(10)} == {"second"})
        assert first.stop() == 0
        assert path.exists()
        late = in_background(fetch, port)
        second = start(name="third", **options)
        assert late()[2] == "third"
        assert ask_unix(path).startswith(b"HTTP/1.1 200 ")
        assert second.stop() == 0


def ask_unix(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(str(path))
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return sock.recv(100)


def test_sockets_meant_for_another_process_are_left_alone(start):
    served = start(environment={"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
    assert served.get()[0] == 200
    assert re.fullmatch(r"127\.0\.0\.1:\d+", served.status()["listeners"][0])


def test_what_is_no_listening_socket_is_refused(start):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        served = start(**execute([sock]))
        assert served.wait() == 2
    assert "descriptor 3 (api), passed by systemd, is a socket that does not listen" in served.text()

"""Start the real supervisor in a process of its own and watch it from outside."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from heatperf import loops
from heatperf.server.control_client import call

SERVED = Path(__file__).with_name("served.py")
BIN = Path(sys.executable).parent
TIMEOUT = 15.0
# For the tests in which the loop takes part: on each whose library is installed.
on_each_loop = pytest.mark.parametrize("start", loops.available(), indirect=True)
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def wait_for(condition, what="the condition", seconds=TIMEOUT):
    """The first true value of condition()."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} was not met within {seconds} s"
        time.sleep(0.01)
    return value


def in_background(function, *args):
    """Start a call; returns a function that waits for its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*args)), daemon=True)
    thread.start()

    def result():
        thread.join(TIMEOUT)
        assert results, f"{function} did not come back within {TIMEOUT} s, or has raised"
        return results[0]

    return result


def alive(pid):
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid):
    """Pids of the live children of a process."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return set()
    return {int(child) for child in found if alive(int(child))}


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def zygotes_of(supervisor):
    """Pids of the live zygotes of a supervisor."""
    return {pid for pid in children(supervisor) if command_of(pid) == "heatperf-zygote"}


def workers_of(supervisor):
    """Pids of the live workers of a supervisor, of all generations. Not of those whose zygote is gone."""
    found = {pid for zygote in zygotes_of(supervisor) for pid in children(zygote)}
    return {pid for pid in found if command_of(pid) == "heatperf-worker"}


def session(leader):
    """Pids of the live processes of a session: whatever a server has started, and whoever its parent is by now."""
    found = set()
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            if os.getsid(int(entry)) == leader and alive(int(entry)):
                found.add(int(entry))
    return found


def descriptors(pid):
    """What the open descriptors of a process are, by number."""
    found = {}
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found[int(entry)] = os.readlink(f"/proc/{pid}/fd/{entry}")
    return found


def listening(pid):
    """Inodes of the TCP sockets that a process listens on."""
    rows = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()]
    inodes = {row[9] for row in rows if row[3] == "0A"}
    try:
        held = {what[len("socket:[") : -1] for what in descriptors(pid).values() if what.startswith("socket:[")}
    except OSError:
        return set()
    return inodes & held


def fetch(port, path="/", host="127.0.0.1"):
    """Status, body and X-Name of an answer, on a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers["X-Name"]


def answer_on(sock):
    """One answer of a keep-alive connection as it is; b"" after the server's end."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(4096)
        if not data:
            return b""
        head += data
    length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
    while len(head.partition(b"\r\n\r\n")[2]) < length:
        head += sock.recv(4096)
    return head


def heatperf(*arguments, **options):
    """Run the command to its end."""
    return subprocess.run([BIN / "heatperf", *map(str, arguments)], capture_output=True, text=True, **options)


class Served:
    """:param wrap: command that runs the server, which is given to it as arguments
    :param environment: what differs from ours; None takes a variable out
    :param popen: more for subprocess.Popen
    :param control: path of the control socket
    :param insist: do not start without one
    """

    def __init__(self, folder, environment=None, wrap=(), popen=None, control=None, insist=True, **options):
        self.state = folder
        self.log = folder / f"log-{time.monotonic_ns()}"
        self.control = control or folder / f"c{time.monotonic_ns()}" / "control.sock"
        defaults = {"workers": 1, "binds": ["127.0.0.1:0"], "state": str(folder), "keepalive_grace": 0.5}
        self.options = {**defaults, **options}
        self.file = folder / f"options-{time.monotonic_ns()}.json"
        self.configure()
        env = {**os.environ, "PYTHONPATH": str(SERVED.parent), **(environment or {})}
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                [*wrap, sys.executable, str(SERVED), str(self.file), str(self.control), "insist" if insist else "try"],
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={name: value for name, value in env.items() if value is not None},
                **(popen or {}),
            )
        self.pid = self.process.pid

    def configure(self, **changes):
        """Write the options that the next generation reads; None takes one out."""
        self.options = {name: value for name, value in {**self.options, **changes}.items() if value is not None}
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(self.options))
        new.replace(self.file)

    def ask(self, command, until_end=False):
        """What the control socket says."""
        return call(self.control, command, timeout=TIMEOUT, until_end=until_end)

    def reload(self, **changes):
        """Configure, reload, and return the answer."""
        self.configure(**changes)
        return self.ask("reload")

    def status(self):
        return self.ask("status")["status"]

    def wait_status(self, condition, what="the status", seconds=TIMEOUT):
        """The first status of which condition(status) is true."""
        latest = {}

        def met():
            latest.update(self.status())
            return condition(latest)

        try:
            wait_for(met, what, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {latest}\n{self.text()}") from None
        return latest

    def text(self):
        return self.log.read_text()

    def wait_text(self, pattern, count=1):
        """The first ``count`` matches of pattern in the output."""

        def found():
            matches = re.findall(pattern, self.text(), re.M)
            return matches if len(matches) >= count else None

        try:
            return wait_for(found, f"{pattern!r} in the log")
        except AssertionError:
            raise AssertionError(f"{pattern!r} did not appear in:\n{self.text()}") from None

    @property
    def port(self):
        return int(self.wait_text(r"Starting Heat REST API on 127\.0\.0\.1:(\d+)$")[0])

    def ready(self):
        """Wait until all workers serve; returns their pids."""
        self.wait_text("Starting Heat REST API")
        status = self.wait_status(lambda status: status["state"] == "serving", "a server with all its workers")
        return {worker["pid"] for worker in status["workers"] if worker["state"] == "serving"}

    def zygotes(self):
        """Pids of the live zygotes."""
        return zygotes_of(self.pid)

    def workers(self):
        """Pids of the live workers, of all generations."""
        return workers_of(self.pid)

    def get(self, path="/"):
        """Status and body."""
        return fetch(self.port, path)[:2]

    def name(self):
        """What the generation that serves was configured to call itself."""
        return fetch(self.port)[2]

    def settle(self):
        """Wait until the workers that drain accept no more: for some moments they do so beside the others."""

        def settled():
            rows = self.status()["workers"]
            return not any(listening(row["pid"]) for row in rows if row["state"] == "draining")

        wait_for(settled, "no old worker that accepts")

    def hold(self):
        """Begin a request that lasts until release(); returns a function that waits for its status and body."""
        answer = in_background(self.get, "/hold")
        wait_for((self.state / "hold").exists, "a request that is held")
        return answer

    def release(self):
        (self.state / "release").touch()

    def refuses(self):
        """Whether nobody listens any more. For a moment before that the kernel drops attempts."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 0.3).close()
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            pass
        return False

    def signal(self, signum):
        self.process.send_signal(signum)

    def wait(self):
        return self.process.wait(TIMEOUT)

    def stop(self):
        """Exit code after TERM, and the proof that no process is left."""
        self.signal(signal.SIGTERM)
        code = self.wait()
        assert not session(self.pid), "processes are left"
        return code

    def destroy(self):
        self.process.kill()
        self.process.wait()
        # The session is ours alone: it holds this supervisor, its zygotes and their workers.
        while left := session(self.pid):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def servers(folder, loop="gevent"):
    """A function that starts servers in a folder; none is left afterwards."""
    started = []

    def run(folder=folder, **options):
        served = Served(folder, **{"loop": loop, **options})
        started.append(served)
        return served

    try:
        yield run
    finally:
        for served in started:
            served.destroy()


@pytest.fixture
def start(request, tmp_path):
    """Starts servers on gevent, or ``on_each_loop``."""
    with servers(tmp_path, getattr(request, "param", "gevent")) as run:
        yield run

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
import time
from pathlib import Path

import pytest

SERVED = Path(__file__).with_name("served.py")
TIMEOUT = 15.0


def wait_for(condition, what="the condition", seconds=TIMEOUT):
    """The first true value of condition()."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} was not met within {seconds} s"
        time.sleep(0.01)
    return value


def alive(pid):
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Served:
    def __init__(self, folder, **options):
        self.state = folder
        self.log = folder / f"log-{time.monotonic_ns()}"
        options = {"workers": 1, "binds": ["127.0.0.1:0"], "state": str(folder), **options}
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(SERVED), json.dumps(options)], stdout=out, stderr=out, start_new_session=True
            )
        self.pid = self.process.pid

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

    def workers(self):
        """Pids of the live workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return {int(pid) for pid in children if alive(pid)}

    def get(self, path="/"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def refuses(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except ConnectionRefusedError:
            return True
        return False

    def signal(self, signum):
        self.process.send_signal(signum)

    def wait(self):
        return self.process.wait(TIMEOUT)

    def destroy(self):
        # The session is ours alone: it holds this supervisor and its workers.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start(tmp_path):
    started = []

    def run(**options):
        served = Served(tmp_path, **options)
        started.append(served)
        return served

    yield run
    for served in started:
        served.destroy()

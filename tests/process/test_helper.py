"""Helper processes of a real server: killed under load, replaced, shown, and changed by a reload."""

import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest
from stack.development import Development
from stack.paths import project
from stack.process import wait_until

HELPER = "heatperf-helper"


def template(resources):
    """YAML of about 60 characters for each."""
    lines = [f"  r{n}:\n    type: OS::Heat::Value\n    properties: {{value: 'number {n}'}}" for n in range(resources)]
    return "heat_template_version: 2021-04-16\nresources:\n" + "\n".join(lines) + "\n"


@pytest.fixture
def start(tmp_path):
    running = []

    def run(text="", workers=1):
        file = tmp_path / "heat.conf"
        file.write_text(text)
        # The state is beside the socket of the control: both are of this server alone.
        arguments = ["--dev", "--state", tmp_path / "state", "--config-file", file]
        server = Development(tmp_path, arguments, workers=workers)
        server.__enter__()
        running.append(server)
        return server

    yield run
    for server in running:
        server.__exit__(None, None, None)


def helpers(server):
    return {pid for pid, name in server.processes().items() if name.startswith("heatperf-help")}


def status(server):
    command = [project("heatperf"), "status", "--control", server.control]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout


class Clients:
    """Send without a pause until told to stop: templates that a helper parses, and the version document."""

    def __init__(self, server):
        self._server = server
        self._stop = threading.Event()
        self.templates, self.versions = [], []
        self._threads = [
            threading.Thread(target=self._templates, daemon=True),
            threading.Thread(target=self._templates, daemon=True),
            threading.Thread(target=self._versions, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _templates(self):
        validate = self._server.project()
        text = template(600)
        while not self._stop.is_set():
            self.templates.append(validate("POST", "/validate", {"template": text}).status)

    def _versions(self):
        while not self._stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=10)
            connection.request("GET", "/")
            answer = connection.getresponse()
            self.versions.append((answer.status, bool(json.loads(answer.read()))))
            connection.close()

    def end(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def test_a_helper_that_is_killed_under_load_costs_nobody_an_answer(start):
    server = start()
    [first] = helpers(server)
    clients = Clients(server)
    seen = {first}
    try:
        for _ in range(2):
            done = len(clients.templates)
            wait_until(lambda: len(clients.templates) >= done + 2, 60, "answer templates")  # noqa: B023 - at once
            [pid] = wait_until(lambda: helpers(server), 30, "have a helper")
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: helpers(server) - seen - {pid}, 30, "start another helper")  # noqa: B023
            seen |= helpers(server)
        done = len(clients.templates)
        wait_until(lambda: len(clients.templates) >= done + 4, 60, "answer templates")
    finally:
        clients.end()
    assert set(clients.templates) == {200}
    assert set(clients.versions) == {(300, True)}
    code, text = status(server)
    assert code == 0
    assert re.search(r"helper: serving, pid \d+, 2 restarts; the last one was killed by SIGKILL", text), text


def test_status_says_when_one_is_missing(start):
    server = start()
    for _ in range(2):  # the second one in a row is replaced a second later
        [pid] = wait_until(lambda: helpers(server), 30, "have a helper")
        wait_until(lambda: status(server)[0] == 0, 30, "be well")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in helpers(server), 10, "miss a helper")  # noqa: B023
    code, text = status(server)
    assert (code == 1 and "degraded" in text) or "2 restarts" in text
    assert server.project()("GET", "/stacks").status == 200


def test_a_reload_changes_their_number_and_leaves_the_rest(start, tmp_path):
    server = start("[heatperf]\nhelper_processes = 1\n")
    [first] = helpers(server)
    for wanted in (3, 1, 0, 2):
        (tmp_path / "heat.conf").write_text(f"[heatperf]\nhelper_processes = {wanted}\n")
        subprocess.run([project("heatperf"), "reload", "--control", server.control], check=True, timeout=60)
        wait_until(lambda: len(helpers(server)) == wanted, 30, f"have {wanted} helpers")  # noqa: B023
        assert server.project()("POST", "/validate", {"template": template(200)}).status == 200
    assert first not in helpers(server)
    server.process.stop()
    deadline = time.monotonic() + 10
    while helpers(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not helpers(server)


def test_a_reload_keeps_those_that_are_still_wanted(start):
    server = start("[heatperf]\nhelper_processes = 2\n")
    before = helpers(server)
    assert len(before) == 2
    subprocess.run([project("heatperf"), "reload", "--control", server.control], check=True, timeout=60)
    wait_until(lambda: status(server)[0] == 0, 30, "be well")
    assert helpers(server) == before

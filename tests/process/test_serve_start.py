"""The real program: ``heat-api`` and ``heatperf serve`` from the first line of the log to the last signal."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from heatperf.config.paths import packaged_file

BIN = pathlib.Path(sys.executable).parent
TIMEOUT = 20.0
#: The fake transport needs no broker, and nobody answers on it.
CONF = (
    "[DEFAULT]\ntransport_url = fake://user:s3cret-of-broker@host/\nrpc_response_timeout = 1\n"
    "[paste_deploy]\nflavor = noauth\n[oslo_policy]\nenforce_new_defaults = false\n"
    "[heat_api]\nbind_host = 127.0.0.1\nbind_port = 0\n"
)
PASTE = pathlib.Path(packaged_file("api-paste.ini")).read_text()
REPORT = "Guru Meditation"
#: A filter of an operator: answers with what should not be in the process.
PROBE = """
import sys
from eventlet import patcher

def filter_factory(global_conf):
    def probe(environ, start_response):
        found = [name for name in ("os", "select", "socket", "thread", "time") if patcher.is_monkey_patched(name)]
        found += [name for name in sys.modules if name == "heat" or name.startswith(("heat.", "gevent.monkey"))]
        start_response("200 OK", [])
        return [" ".join(found).encode()]
    return lambda app: probe
"""


def until(condition, what):
    deadline = time.monotonic() + TIMEOUT
    while not (value := condition()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)
    return value


class Program:
    """One running server."""

    def __init__(self, folder, program, *arguments, conf=CONF, paste=PASTE):
        (folder / "heat.conf").write_text(conf)
        (folder / "api-paste.ini").write_text(paste)
        self.out = folder / "out"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen(
                [BIN / program, *arguments],
                stdout=out,
                stderr=out,
                env={**environment, "HOME": str(folder), "PYTHONPATH": str(folder)},
                cwd=folder,
                start_new_session=True,
            )

    def text(self):
        return self.out.read_text()

    def wait_text(self, pattern, count=1):
        def found():
            assert self.process.poll() is None or len(re.findall(pattern, self.text(), re.M)) >= count, self.text()
            matches = re.findall(pattern, self.text(), re.M)
            return matches if len(matches) >= count else None

        return until(found, lambda: f"{pattern!r} did not appear in:\n{self.text()}")

    @property
    def port(self):
        return int(self.wait_text(r"Starting Heat REST API on 127\.0\.0\.1:(\d+)$")[0])

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def workers(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def stop(self, signum=signal.SIGTERM):
        self.process.send_signal(signum)
        return self.process.wait(TIMEOUT)


@pytest.fixture
def start(tmp_path):
    programs = []

    def run(program="heat-api", *arguments, **more):
        programs.append(Program(tmp_path, program, *arguments, **more))
        return programs[-1]

    yield run
    for program in programs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.process.pid, signal.SIGKILL)  # a session of its own: the supervisor and its workers
        program.process.wait()


def test_heat_api_serves_until_it_is_told_to_stop(start, tmp_path):
    program = start("heat-api", "--config-file", str(tmp_path / "heat.conf"), "--workers", "2")
    status, _headers, body = program.request("GET", "/")
    assert (status, json.loads(body)["versions"][0]["id"]) == (300, "v1.0")
    assert len(program.workers()) == 2
    status, headers, body = program.request("GET", "/v1/admin/stacks")
    assert (status, json.loads(body)["error"]["type"]) == (500, "MessagingTimeout")
    request_id = headers["x-openstack-request-id"]
    # the line of the API, of the RPC and of the access log are of this request
    program.wait_text(rf"\[.*{request_id}.*\] Processing request: GET /v1/admin/stacks$")
    program.wait_text(rf"\[.*{request_id}.*\] No engine answered list_stacks")
    program.wait_text(rf'"GET /v1/admin/stacks HTTP/1\.1" 500 .*{request_id}$')
    assert "s3cret-of-broker" not in program.text()
    port = program.port
    assert program.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)


def test_nothing_is_patched_and_nothing_is_upstreams(start, tmp_path):
    """A patched process would block where ours parks; oslo.service brings eventlet along, which must stay unused."""
    (tmp_path / "probe_of_the_test.py").write_text(PROBE)
    paste = PASTE.replace("noauth = cors", "noauth = probe cors")
    paste += "\n[filter:probe]\npaste.filter_factory = probe_of_the_test:filter_factory\n"
    program = start("heatperf", "serve", "--config-file", str(tmp_path / "heat.conf"), "--workers", "1", paste=paste)
    assert program.request("GET", "/")[::2] == (200, b"")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_stops_in_the_middle_of_starting(start, tmp_path, signum):
    program = start("heat-api", "--config-file", str(tmp_path / "heat.conf"), "--workers", "1")
    program.wait_text("Pipeline station")
    assert program.stop(signum) in (0, -signum, 128 + signum)


def test_development_mode_needs_nothing(start):
    program = start("heatperf", "serve", "--dev", "--bind", "127.0.0.1:0", "--workers", "1")
    assert program.request("GET", "/")[0] == 300
    status, headers, body = program.request("GET", "/v1/admin/stacks")
    fault = json.loads(body)
    assert (status, fault["error"]["type"]) == (503, "EngineUnavailable")
    assert "development mode" in fault["error"]["message"] and headers["retry-after"].isdigit()
    assert "development mode" in program.text() and "no authentication" in program.text()
    assert program.stop() == 0


def test_development_mode_is_silent_on_what_it_brought_along(start):
    program = start("heatperf", "serve", "--dev", "--bind", "127.0.0.1:0", "--workers", "1")
    assert program.port
    assert "RPC goes to guest" not in program.text()


def test_development_mode_reads_no_file_of_the_search_path(start, tmp_path):
    (tmp_path / ".heat").mkdir()
    (tmp_path / ".heat" / "heat.conf").write_text("this is not even INI\n")
    program = start("heatperf", "serve", "--dev", "--bind", "127.0.0.1:0", "--workers", "1")
    assert program.request("GET", "/")[0] == 300


def test_bad_input_leaves_the_worker_unharmed(start, tmp_path):
    conf = CONF.replace("[paste_deploy]", "max_json_body_size = 1000\n[paste_deploy]")
    program = start("heat-api", "--config-file", str(tmp_path / "heat.conf"), "--workers", "1", conf=conf)
    json_type = {"Content-Type": "application/json"}
    pids = until(program.workers, program.text)

    def fault(*request):
        status, _headers, body = program.request(*request)
        return status, json.loads(body)["error"]["type"]

    create = "/v1/admin/stacks"
    assert fault("POST", create, b"{", json_type) == (400, "HTTPBadRequest")
    assert fault("POST", create, b"{\xff}", json_type) == (400, "HTTPBadRequest")
    assert fault("POST", create, b"{" + b" " * 1500 + b"}", json_type) == (400, "RequestLimitExceeded")
    assert fault("POST", create, b"{" + b" " * 500_000 + b"}", json_type) == (400, "RequestLimitExceeded")
    assert fault("POST", create, b'{"stack_name": "s"}', json_type) == (400, "HTTPBadRequest")
    assert fault("POST", create, b'{"stack_name": "s", "template": "a: ["}', json_type) == (400, "HTTPBadRequest")
    assert fault("PUT", create, None, {}) == (405, "HTTPMethodNotAllowed")
    assert program.request("GET", "/v1/admin/nothing")[0] == 404
    assert program.request("GET", "/v1/%ff/stacks")[0] == 400
    assert program.request("GET", "/v1/admin/stacks", None, {"X-Big": "x" * 20_000})[0] == 431
    assert program.request("GET", "/")[0] == 300
    assert program.workers() == pids


def test_unix_socket(start, tmp_path):
    path = tmp_path / "heat.sock"
    program = start(
        "heat-api", "--config-file", str(tmp_path / "heat.conf"), "--workers", "1", "--bind", f"unix:{path},mode=0600"
    )
    program.wait_text("Starting Heat REST API on unix:")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.0\r\nHost: h\r\n\r\n")
        assert b"300" in client.recv(4096)
    assert path.stat().st_mode & 0o777 == 0o600
    assert program.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("whom", ["supervisor", "worker"])
def test_report_on_demand(start, tmp_path, whom):
    """SIGUSR2 shows what every thread does, harms nobody and gives no secret away."""
    program = start("heat-api", "--config-file", str(tmp_path / "heat.conf"), "--workers", "1")
    assert program.request("GET", "/")[0] == 300
    pids = program.workers()
    os.kill(pids[0] if whom == "worker" else program.process.pid, signal.SIGUSR2)
    program.wait_text(REPORT)
    program.wait_text(r"(?i)transport_url")
    assert program.request("GET", "/")[0] == 300
    assert program.workers() == pids
    assert "s3cret-of-broker" not in program.text()
    assert program.stop() == 0


def test_usr2_is_harmless_where_a_file_asks_for_reports(start, tmp_path):
    asking = tmp_path / "asking"
    asking.touch()
    conf = f"{CONF}[oslo_reports]\nfile_event_handler = {asking}\n"
    program = start("heat-api", "--config-file", str(tmp_path / "heat.conf"), "--workers", "1", conf=conf)
    assert program.request("GET", "/")[0] == 300
    pids = program.workers()
    for pid in [*pids, program.process.pid]:
        os.kill(pid, signal.SIGUSR2)
    assert program.request("GET", "/")[0] == 300
    assert program.workers() == pids
    assert program.stop() == 0


def test_configuration_commands(tmp_path):
    (tmp_path / "heat.conf").write_text(CONF)
    shown = subprocess.run(
        [BIN / "heatperf", "config", "show", "--config-file", tmp_path / "heat.conf"], capture_output=True, text=True
    )
    assert shown.returncode == 0 and "rpc_response_timeout = 1" in shown.stdout
    assert "s3cret-of-broker" not in shown.stdout + shown.stderr

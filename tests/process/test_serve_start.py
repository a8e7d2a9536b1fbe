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

import pytest
from conftest import BIN, descriptors, heatperf, session, wait_for, workers_of, zygotes_of

from heatperf.config.paths import packaged_file

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


class Program:
    """One running server."""

    def __init__(self, folder, program, *arguments, conf=CONF, paste=PASTE):
        (folder / "heat.conf").write_text(conf)
        (folder / "api-paste.ini").write_text(paste)
        self.out = folder / "out"
        self.control = folder / "control.sock"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen(
                [BIN / program, *self.arguments(arguments)],
                stdout=out,
                stderr=out,
                env={**environment, "HOME": str(folder), "PYTHONPATH": str(folder)},
                cwd=folder,
                start_new_session=True,
            )

    def arguments(self, given):
        """Those given, and a control socket that is not another server's."""
        at = given[:1] == ("serve",)  # heatperf serve; else heat-api
        return [*given[:at], "--control", str(self.control), *given[at:]]

    def text(self):
        return self.out.read_text()

    def wait_text(self, pattern, count=1):
        def found():
            assert self.process.poll() is None or len(re.findall(pattern, self.text(), re.M)) >= count, self.text()
            matches = re.findall(pattern, self.text(), re.M)
            return matches if len(matches) >= count else None

        try:
            return wait_for(found, repr(pattern), TIMEOUT)
        except AssertionError:
            raise AssertionError(f"{pattern!r} did not appear in:\n{self.text()}") from None

    @property
    def port(self):
        return int(self.wait_text(r"Starting Heat REST API on 127\.0\.0\.1:(\d+)$")[0])

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def workers(self, count=1):
        """Their pids, as soon as there are so many."""
        return sorted(wait_for(lambda: len(pids := workers_of(self.process.pid)) == count and pids))

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
        program.process.kill()
        program.process.wait()
        while left := session(program.process.pid):  # of its own: the supervisor, its zygotes and their workers
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def test_heat_api_serves_until_it_is_told_to_stop(start, tmp_path):
    program = start("heat-api", "--config-file", str(tmp_path / "heat.conf"), "--workers", "2")
    status, _headers, body = program.request("GET", "/")
    assert (status, json.loads(body)["versions"][0]["id"]) == (300, "v1.0")
    assert len(program.workers(2)) == 2
    status, headers, body = program.request("GET", "/v1/admin/stacks")
    assert (status, json.loads(body)["error"]["type"]) == (500, "MessagingTimeout")
    request_id = headers["x-openstack-request-id"]
    # the line of the RPC and of the access log are of this request
    program.wait_text(rf"\[.*{request_id}.*\] No engine answered list_stacks")
    line = (
        rf'heatperf\.access \[None {request_id} .*\] 127\.0\.0\.1 "GET /v1/admin/stacks HTTP/1\.1" 500 .* {request_id}$'
    )
    program.wait_text(line)
    assert "s3cret-of-broker" not in program.text()
    port = program.port
    program.request("GET", "/?the-last-one")
    assert program.stop() == 0
    # what waited for its batch has been written
    assert re.search(r'"GET /\?the-last-one HTTP/1\.1" 300 ', program.text())
    assert not session(program.process.pid)
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


def test_nothing_exists_before_the_fork(start, tmp_path):
    """No thread, no loop, no connection: a worker is a copy of a process in which nothing is under way."""
    program = start("heat-api", "--config-file", str(tmp_path / "heat.conf"), "--workers", "1")
    assert program.request("GET", "/")[0] == 300
    (zygote,) = zygotes_of(program.process.pid)
    assert len(os.listdir(f"/proc/{zygote}/task")) == 1
    found = [re.sub(r"\d+", "", what) for fd, what in descriptors(zygote).items() if fd > 2]
    # The channel, the gate and the listener; and no epoll among the rest.
    assert found.count("socket:[]") == 3 and not any("event" in what for what in found), found
    maps = pathlib.Path(f"/proc/{program.process.pid}/maps").read_text()
    assert not re.search("greenlet|gevent|oslo|yaml", maps)


def test_reload_of_the_configuration(start, tmp_path):
    """heat.conf, refused with its line and taken over; what was written since has no effect on what serves."""
    program = start("heat-api", "--config-file", str(tmp_path / "heat.conf"), "--workers", "1")
    body = b'{"stack_name": "s", "files": {"x": "%s"}}' % (b"x" * 2000)

    def fault():
        _status, _headers, answer = program.request("POST", "/v1/a/stacks", body, {"Content-Type": "application/json"})
        return json.loads(answer)["error"]["type"]

    assert fault() == "HTTPBadRequest"
    (tmp_path / "heat.conf").write_text(CONF + "backlog = many\n")
    refused = heatperf("reload", "--control", program.control)
    assert refused.returncode == 1 and f"{tmp_path}/heat.conf:{CONF.count(chr(10)) + 1}" in refused.stderr
    assert "Traceback" not in refused.stderr + program.text()
    assert fault() == "HTTPBadRequest"
    (tmp_path / "heat.conf").write_text(CONF.replace("[paste_deploy]", "max_json_body_size = 1000\n[paste_deploy]"))
    done = heatperf("reload", "--control", program.control)
    assert (done.returncode, done.stderr) == (0, "")
    wait_for(lambda: {fault() for _ in range(5)} == {"RequestLimitExceeded"})
    assert program.stop() == 0


def test_reload_of_policy_and_logging(start, tmp_path):
    """Requests and the supervisor go by the new files; nothing of the new generation gets into the old log."""
    program = start("heat-api", "--config-file", str(tmp_path / "heat.conf"), "--workers", "1")
    assert program.request("GET", "/v1/a/stacks")[0] == 500  # no engine answers
    (tmp_path / "policy.yaml").write_text('"stacks:index": "!"\n')
    new = CONF.replace("[DEFAULT]", f"[DEFAULT]\nlog_file = {tmp_path}/new.log\nuse_json = true")
    new = new.replace("[oslo_policy]", f"[oslo_policy]\npolicy_file = {tmp_path}/policy.yaml")
    (tmp_path / "heat.conf").write_text(new)
    assert heatperf("reload", "--control", program.control).returncode == 0
    wait_for(lambda: {program.request("GET", "/v1/a/stacks")[0] for _ in range(3)} == {403})
    (pid,) = program.workers()
    os.kill(pid, signal.SIGKILL)

    def messages():
        lines = [json.loads(line) for line in (tmp_path / "new.log").read_text().splitlines()]
        return [line["message"] for line in lines]

    wait_for(lambda: any(f"(pid {pid}) was killed by SIGKILL" in message for message in messages()))
    assert any('"GET /v1/a/stacks HTTP/1.1" 403' in message for message in messages())
    assert "Reloaded: generation 2 serves with 1 worker" in messages()
    assert "Reloading" in program.text() and "Reloaded" not in program.text() and "SIGKILL" not in program.text()
    assert program.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--no-such-flag",), "error: unrecognized arguments: --no-such-flag"),
        (("--workers", "many"), "ERROR: "),
        (("--bind", "nowhere"), "ERROR: --bind nowhere is not an address"),
        (("--config-file", "/no/such/heat.conf"), "/no/such/heat.conf"),
    ],
)
def test_what_cannot_start_says_so_once(start, arguments, said):
    program = start("heat-api", *arguments)
    assert program.process.wait(TIMEOUT) == 2
    text = program.text()
    assert text.count(said) == 1 and "Traceback" not in text
    assert not session(program.process.pid) and not program.control.exists()


def test_development_mode_needs_nothing(start):
    program = start("heatperf", "serve", "--dev", "--bind", "127.0.0.1:0", "--workers", "1")
    assert program.request("GET", "/")[0] == 300
    status, _headers, body = program.request("GET", "/v1/admin/stacks")
    assert (status, json.loads(body)) == (200, {"stacks": []})
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
    pids = program.workers()

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

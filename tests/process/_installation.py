"""A folder with heat.conf, api-paste.ini, policy.yaml and certificates, and the programs that run on it.

Comes in: an empty folder. Goes out: running servers (the real ``heatperf serve``) and the results of ``heatperf
reload``, ``stop`` and ``status``. Raises AssertionError where a server does not do what it must before a scenario can
begin. The fake transport needs no broker, and noauth no Keystone.
"""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from heatperf.config.paths import packaged_file
from heatperf.server.control_client import call

HERE = Path(__file__).resolve().parent
HEATPERF = Path(sys.executable).with_name("heatperf")
PATIENCE = 30.0
OPTIONS = {
    "DEFAULT": {"transport_url": "fake://"},
    "paste_deploy": {"flavor": "noauth"},
    "oslo_policy": {"enforce_new_defaults": "false", "policy_file": "policy.yaml"},
    "heat_api": {"bind_host": "127.0.0.1"},
}
#: Takes the place of the filter's section.
FILTER = "\n[filter:probe]\npaste.filter_factory = _operator_filter:filter_factory\nvalue = {value}\n"
POLICY = '"stacks:index": "role:admin"\n'
#: Passes the descriptor given first as socket 3, the way systemd does, and becomes the program that follows.
ACTIVATE = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def until(condition, what, seconds=PATIENCE):
    """The first true value of condition()."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)
    return value


def alive(pid):
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def free_port():
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@dataclass
class Said:
    """What a command has said.

    :ivar text: standard output and error
    """

    code: int
    text: str


class Server:
    """One ``heatperf serve``."""

    def __init__(self, installation, number, listener=None):
        self.folder = installation.folder
        self.port = installation.port
        self.control = self.folder / f"control-{number}" / "control.sock"
        self.log = self.folder / f"log-{number}"
        command = [str(HEATPERF), "serve", "--config-file", str(installation.conf), "--control", str(self.control)]
        fds = []
        if listener is not None:
            fds = [listener.fileno()]
            command = [sys.executable, "-c", ACTIVATE, str(fds[0]), *command]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "LISTEN_"))}
        modules = [str(self.folder), *filter(None, [environment.get("PYTHONPATH")])]
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                command,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                pass_fds=fds,
                env={**environment, "HOME": str(self.folder), "PYTHONPATH": os.pathsep.join(modules)},
                start_new_session=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # The session is this server's alone.
        for pid in self.processes():
            self.kill(pid)
        self.process.wait()

    def processes(self):
        """Pids of its session: supervisor, zygotes, workers."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _parent, _group, session = entry.read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(session) == self.process.pid and state != "Z":
                found.append(int(entry.parent.name))
        return found

    def wait_until_serving(self, workers, without=()):
        """Wait until as many workers serve, and nothing else is going on.

        :param without: pids of workers that have been killed; the status may not have noticed yet
        """

        def serving():
            assert self.process.poll() is None, f"the server has ended:\n{self.text()[-2000:]}"
            status = self.status()
            pids = {worker["pid"] for worker in self.workers(status).values()}
            return status["state"] == "serving" and len(pids) == workers and pids.isdisjoint(without)

        until(serving, f"{workers} workers serve")

    def status(self):
        """What ``heatperf status --json`` prints, without the start of an interpreter."""
        try:
            return call(self.control, "status", timeout=PATIENCE)["status"]
        except Exception as exc:  # not there yet
            return {"state": f"unknown: {exc}", "workers": []}

    @staticmethod
    def workers(status):
        """Of a status: slot number -> worker, of those that serve."""
        return {worker["slot"]: worker for worker in status["workers"] if worker["state"] == "serving"}

    def command(self, name, *arguments):
        """Run ``heatperf NAME``."""
        done = subprocess.run(
            [str(HEATPERF), name, "--control", str(self.control), "--timeout", str(PATIENCE), *arguments],
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
        )
        return Said(done.returncode, done.stdout + done.stderr)

    @staticmethod
    def kill(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def text(self):
        return self.log.read_text()


class Installation:
    """The folder. ``options``, ``value`` and the texts may be changed; write() makes files of them."""

    def __init__(self, folder, workers=3, **heat_api):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.conf = self.folder / "heat.conf"
        self.port = heat_api.pop("bind_port", None) or free_port()
        self.options = {section: dict(options) for section, options in OPTIONS.items()}
        self.options["heat_api"].update(bind_port=self.port, workers=workers, **heat_api)
        self.value = 0
        self._servers = 0
        self._taken = None
        shutil.copy(HERE / "_operator_filter.py", self.folder)

    @property
    def workers(self):
        return int(self.options["heat_api"]["workers"])

    def write(self, conf="", paste=None, policy=POLICY, **options):
        """Write all files.

        :param conf: what follows the options in heat.conf
        :param paste: instead of the paste file that there should be
        :param options: for this time only, "section__option"
        """
        sections = {section: dict(values) for section, values in self.options.items()}
        for name, value in options.items():
            section, _, option = name.partition("__")
            sections.setdefault(section, {})[option] = value
        lines = []
        for section, values in sections.items():
            lines += [f"[{section}]", *(f"{name} = {value}" for name, value in values.items())]
        self._replace(self.conf, "\n".join(lines) + "\n" + conf)
        self._replace(self.folder / "api-paste.ini", self.paste() if paste is None else paste)
        self._replace(self.folder / "policy.yaml", policy)

    def paste(self):
        """The packaged paste file with the filter outermost."""
        text = Path(packaged_file("api-paste.ini")).read_text()
        assert "\nnoauth = cors " in text
        return text.replace("\nnoauth = cors ", "\nnoauth = probe cors ") + FILTER.format(value=self.value)

    @staticmethod
    def _replace(path, text):
        new = path.with_suffix(".new")
        new.write_text(text)
        new.replace(path)

    def start(self, listener=None):
        """Start a server on the files as they are."""
        self._servers += 1
        return Server(self, self._servers, listener)

    def taken_port(self):
        """A port on which somebody else listens."""
        if self._taken is None:
            self._taken = socket.create_server(("127.0.0.1", 0))
        return self._taken.getsockname()[1]

    def certificate(self, name):
        """Make a certificate of its own and its key.

        :returns: their paths
        """
        cert, key = self.folder / f"{name}.cert.pem", self.folder / f"{name}.key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(cert)],
            check=True, capture_output=True,
        )  # fmt: skip
        return cert, key


def unverified():
    """An ssl.SSLContext that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

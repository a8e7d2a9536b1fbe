"""Development mode as a user starts it: ``heatperf serve`` with its embedded engine, and a small REST client.

In: a run directory. Out: a running server whose processes can be told apart, and killed. Raises StackError where it
does not start, and what http.client raises where it does not answer.
"""

import contextlib
import http.client
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from .client import OpenStackClient
from .keystone import Credentials
from .paths import project
from .process import Part, Process, StackError, environment, free_port, wait_until

ENGINE, WORKER = "heatperf-engine", "heatperf-worker"
#: Seconds. Nothing here takes longer, unless it hangs.
PATIENCE = 30.0


class Answer(NamedTuple):
    """``body`` is what the JSON says, or the text where it is none."""

    status: int
    body: Any


class Project:
    """Requests to one project, as a program without any library would send them."""

    def __init__(self, port: int, name: str, timeout: float = PATIENCE) -> None:
        self.port = port
        self.name = name
        self.timeout = timeout

    def __call__(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request on a connection of its own; nothing is sent again.

        :param path: below the project, with its slash
        :param body: sent as JSON; bytes as they are
        """
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
        with contextlib.closing(connection):
            connection.request(
                method, f"/v1/{self.name}{path}", data, {"Content-Type": "application/json", **(headers or {})}
            )
            response = connection.getresponse()
            text = response.read()
        try:
            return Answer(response.status, json.loads(text))
        except ValueError:
            return Answer(response.status, text.decode(errors="replace"))

    def stacks(self) -> dict[str, dict[str, Any]]:
        """The project's stacks by name."""
        return {stack["stack_name"]: stack for stack in self("GET", "/stacks").body["stacks"]}

    def create(self, name: str, template: Mapping[str, Any], **more: Any) -> str:
        """Create a stack; its path below the project."""
        answer = self("POST", "/stacks", {"stack_name": name, "template": template, **more})
        if answer.status != 201:
            raise StackError(f"creating {name}: {answer}")
        return f"/stacks/{name}/{answer.body['stack']['id']}"

    def state(self, path: str) -> str:
        """What the stack at ``path`` says of itself, like CREATE_COMPLETE."""
        return str(self("GET", path).body["stack"]["stack_status"])

    def wait(self, path: str, seconds: float = PATIENCE) -> str:
        """Wait until nothing is in progress; the state."""

        def ended() -> str:
            state = self.state(path)
            return "" if state.endswith("_IN_PROGRESS") else state

        return wait_until(ended, seconds, f"end the operation on {path}")


class Stranger(OpenStackClient):
    """The stock client without a cloud's credentials."""

    def __init__(self, directory: Path, url: str, name: str) -> None:
        super().__init__(Credentials("", "", "", ""), directory)
        self.env = {key: value for key, value in self.env.items() if not key.startswith("OS_")}
        self.url = f"{url}/v1/{name}"

    def __call__(self, *arguments: str | Path, timeout: float = 120) -> str:
        return super().__call__("--os-auth-type", "none", "--os-endpoint", self.url, *arguments, timeout=timeout)


class Development(Part):
    """``heatperf serve``.

    :param arguments: instead of ``--dev --state``
    :param env: what the server finds in its environment, HOME among it
    """

    name = "development"

    def __init__(
        self,
        directory: Path,
        arguments: Sequence[str | Path] | None = None,
        env: Mapping[str, str] | None = None,
        workers: int = 1,
    ) -> None:
        super().__init__(directory)
        self.state = directory / "state"
        self.arguments = ["--dev", "--state", self.state] if arguments is None else list(arguments)
        self.env = dict(env or {})
        self.workers = workers
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.control = directory / "control.sock"
        self.home = directory / "home"
        # A unix socket's path is short; pytest's folders need not be.
        self._runtime: str | None = None
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The supervisor."""
        if self._process is None:
            raise StackError(f"{self.name} was not started")
        return self._process

    @property
    def output(self) -> str:
        """Everything the server has said so far, in all its lives."""
        return (self.directory / f"{self.name}.log").read_text(errors="replace")

    def project(self, name: str = "demo") -> Project:
        return Project(self.port, name)

    def command(self) -> list[str | Path]:
        return [
            *(project("heatperf"), "serve", "--workers", str(self.workers), "--control", self.control),
            *("--bind", f"127.0.0.1:{self.port}", *self.arguments),
        ]

    def run(self) -> Self:
        """Start it without waiting."""
        for folder in (self.directory, self.home):
            folder.mkdir(parents=True, exist_ok=True)
        self._runtime = self._runtime or tempfile.mkdtemp(prefix="heatperf-")
        env = environment(HOME=str(self.home), XDG_RUNTIME_DIR=self._runtime) | self.env
        for name in ("XDG_STATE_HOME", "RUNTIME_DIRECTORY"):
            env.pop(name, None)
        self._process = Process(self.name, self.command(), self.directory, env)
        self._process.start()
        return self

    def refusal(self) -> tuple[int, str]:
        """Of a server that was run and does not start: its exit code, and what it said."""
        try:
            wait_until(lambda: not self.process.running, PATIENCE, "refuse to start")
        finally:
            code = self.process.returncode
            self._stop()
        return -1 if code is None else code, self.output

    def _start(self) -> None:
        self.run()
        wait_until(self.ready, 60, "answer over its engine", self.process)

    def ready(self) -> bool:
        """Whether a request gets to the engine and back."""
        try:
            return self.project()("GET", "/build_info").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _stop(self) -> None:
        if self._process is not None:
            self._process.stop()
        if self._runtime is not None:
            shutil.rmtree(self._runtime, ignore_errors=True)
        self._process = self._runtime = None

    def processes(self) -> dict[int, str]:
        """Name by pid of the live processes of the server's session, whoever their parents are by now."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, rest = entry.read_text().partition("(")[2].rpartition(")")
            except OSError:
                continue
            state, _parent, _group, session = rest.split()[:4]
            if int(session) == self.process.pid and state != "Z":
                found[int(entry.parent.name)] = name
        return found

    def pids(self, name: str) -> list[int]:
        """Of the processes of that name."""
        return [pid for pid, found in self.processes().items() if found == name]

    def kill_all(self) -> None:
        """SIGKILL to every process of the session."""
        while found := self.processes():
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            # The supervisor is our child, and dead only when it was waited for.
            wait_until(lambda: not self.process.running, PATIENCE, "die")

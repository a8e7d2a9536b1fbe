"""The API servers: heatperf, which is under test, and upstream's WSGI application under uWSGI, to compare with.

Both take the same heat.conf and a port, and count as started when they answer ``GET /`` (300, which no flavor guards by
a token and which both forms of api-paste.ini have).
"""

import http.client
from collections.abc import Mapping, Sequence
from pathlib import Path

from .paths import HEAT_PEER, peer, project
from .process import Part, Process, StackError, environment, free_port, wait_until

_WSGI = """\
import sys

# The module parses sys.argv as the heat-api program would.
sys.argv = ["heat-api", "--config-file", {config!r}]
from heat.wsgi.api import application
"""


class ApiServer(Part):
    """What both have in common; ``url`` has no trailing slash."""

    def __init__(self, directory: Path, config_file: Path, port: int | None = None, workers: int = 2) -> None:
        super().__init__(directory)
        self.config_file = config_file
        self.port = port or free_port()
        self.workers = workers
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: Process | None = None

    @property
    def process(self) -> Process:
        """The running server: the supervisor, or uWSGI's master."""
        if self._server is None:
            raise StackError(f"{self.name} was not started")
        return self._server

    @property
    def output(self) -> str:
        """Everything it has written to stdout and stderr so far."""
        return self.process.log.read_text(errors="replace")

    def command(self) -> list[str | Path]:
        """The server's command line."""
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return environment()

    def _start(self) -> None:
        self._server = Process(self.name, self.command(), self.directory, self._environment(), stop_timeout=45)
        self._server.start()
        wait_until(self._answers, 60, "answer GET /", self._server, interval=0.1)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 300
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _stop(self) -> None:
        if self._server:
            self._server.stop()
        self._server = None


class Heatperf(ApiServer):
    """``heatperf serve``; ``executable`` stands for another installation than .venv's."""

    name = "heatperf"

    def __init__(
        self,
        directory: Path,
        config_file: Path,
        port: int | None = None,
        workers: int = 2,
        arguments: Sequence[str] = (),
        executable: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(directory, config_file, port, workers)
        self.arguments = list(arguments)
        self.executable = executable
        self.env = dict(env or {})

    def command(self) -> list[str | Path]:
        return [
            self.executable or project("heatperf"),
            "serve",
            *("--config-file", self.config_file, "--workers", str(self.workers)),
            *("--bind", f"127.0.0.1:{self.port}"),
            *("--control", "none"),
            *self.arguments,
        ]

    def _environment(self) -> dict[str, str]:
        return environment(**self.env)


class UpstreamApi(ApiServer):
    """heat-api 27 under uWSGI, with the options that kept real clients working."""

    name = "upstream-api"

    def command(self) -> list[str | Path]:
        module = self.directory / "upstream_api.py"
        module.write_text(_WSGI.format(config=str(self.config_file)))
        return [
            peer(HEAT_PEER, "uwsgi"),
            *("--http-socket", f"127.0.0.1:{self.port}", "--wsgi-file", module),
            *("--master", "--processes", str(self.workers), "--enable-threads", "--lazy-apps", "--need-app"),
            *("--buffer-size", "65535", "--die-on-term"),
            # uWSGI's http-socket closes kept-alive connections unannounced, and clients see resets.
            *("--add-header", "Connection: close"),
        ]

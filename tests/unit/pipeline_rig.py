"""A worker in miniature: a paste file, a real gevent loop in a thread, the real HTTP layer, and an engine of the test.

Imported by the pipeline, RPC and log tests of this folder.
"""

import contextlib
import http.client
import json
import pathlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg

from heatperf import loops
from heatperf.config.load import load
from heatperf.config.paths import packaged_file
from heatperf.loops import HttpLimits
from heatperf.loops.connection import HttpServer
from heatperf.pipeline import deploy
from heatperf.pipeline.parts import Parts
from heatperf.policy import Policy
from heatperf.rpc import nesting
from heatperf.rpc.client import EngineClient

TIMEOUT = 20.0
PASTE = pathlib.Path(packaged_file("api-paste.ini")).read_text()
#: Everybody is an administrator of project "admin" and may do everything, as in development mode.
OPEN = "[paste_deploy]\nflavor = noauth\n[oslo_policy]\nenforce_new_defaults = false\n"


def wait_for(condition: Callable[[], Any], what: str = "the condition", seconds: float = TIMEOUT) -> Any:
    """The first true value of condition()."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} was not met within {seconds} s"
        time.sleep(0.005)
    return value


def edited(section: str, stations: Mapping[str, str], text: str = PASTE) -> str:
    """The packaged paste file with the pipelines in ``stations`` replaced and ``section`` added."""
    for flavor, line in stations.items():
        text, found = re.subn(rf"(?m)^{flavor} = .*$", f"{flavor} = {line}", text)
        assert found
    return text + "\n" + section


class Engine:
    """The far end of the RPC: remembers every call and answers by a function of (method, arguments, context)."""

    def __init__(self, answer: Callable[..., Any] = lambda _method, _arguments, _context: []) -> None:
        self.answer = answer
        self.calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self.loop: Any = None

    def start(self, loop: Any) -> None:
        self.loop = loop

    def stop(self) -> None:
        self.loop = None

    def call(self, context: Any, method: str, arguments: Any, version: str, timeout: Any = None) -> Any:
        nesting.check(arguments)  # as every transport does
        values = context.to_rpc()
        self.calls.append((method, arguments, values))
        return self.answer(method, arguments, values)

    cast = call


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def configuration(tmp_path: pathlib.Path, text: str = OPEN, paste: str = PASTE) -> cfg.ConfigOpts:
    """The process's configuration, read from heat.conf and api-paste.ini in ``tmp_path``."""
    heat_conf = tmp_path / "heat.conf"
    heat_conf.write_text(text)
    (tmp_path / "api-paste.ini").write_text(paste)
    load(cfg.CONF, ["--config-file", str(heat_conf)])
    return cfg.CONF


def loaded(conf: cfg.ConfigOpts, transport: Any = None) -> deploy.Pipeline:
    """The pipeline that ``conf`` asks for, not started."""
    return deploy.load_paste_app(Parts(conf, Policy(conf), EngineClient(transport or Engine())))


class Worker:
    """Serves a pipeline on a loop of its own."""

    def __init__(self, pipeline: deploy.Pipeline, loop: str = "gevent") -> None:
        self.pipeline = pipeline
        self._loop_name = loop
        self.thread_id: int | None = None
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._sock.getsockname()[1]
        self._up = threading.Event()
        # Not Thread.join: where a station is the first to import eventlet, that makes a second module threading in this
        # thread, and the first is never told of the thread's end.
        self._over = threading.Event()
        self._timers: list[Any] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._up.wait(TIMEOUT)

    def _run(self) -> None:
        self.thread_id = threading.get_ident()
        self.loop = loops.create(self._loop_name)
        # A worker's process ends with its loop. Here a timer that still runs would keep the pipeline, with all rules of
        # its policy, for all the tests that follow.
        every = self.loop.every

        def remembered(seconds: float, function: Callable[[], Any]) -> Any:
            self._timers.append(every(seconds, function))
            return self._timers[-1]

        self.loop.every = remembered
        server = HttpServer(self.loop, lambda *call: self.pipeline.wsgi(*call), HttpLimits())

        def boot() -> None:
            self.pipeline.start(self.loop)
            self.loop.serve(self._sock, server.handle)
            self._up.set()

        self.loop.spawn(boot)
        self.loop.run()
        self._over.set()

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        timeout: float = TIMEOUT,
    ) -> Answer:
        """Send one request on a connection of its own; a body that is not bytes goes as JSON."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, {name.replace("_", "-"): value for name, value in headers.items()})

    def close(self) -> None:
        self.loop.run_on_loop(self.loop.stop_accepting)
        self.loop.run_on_loop(self.pipeline.stop)
        self.loop.run_on_loop(lambda: [timer.cancel() for timer in self._timers])
        self.loop.call_soon_threadsafe(self.loop.stop)
        assert self._over.wait(TIMEOUT)


@contextlib.contextmanager
def running(tmp_path: pathlib.Path, text: str = OPEN, paste: str = PASTE, transport: Any = None) -> Iterator[Worker]:
    """A worker that serves the pipeline of these files."""
    worker = Worker(loaded(configuration(tmp_path, text, paste), transport))
    try:
        yield worker
    finally:
        worker.close()


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Results of functions that are called at once, each in a thread."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]

"""A server of one worker, its loop running in a thread of the test process, for each loop there is."""

import base64
import json
import logging
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import gevent
import pytest

from heatperf import loops
from heatperf.loops import HttpLimits
from heatperf.loops.connection import HttpServer


class LoopServer:
    """The loop and the HTTP layer as a worker sets them up, with an application that can be swapped."""

    def __init__(self, loop_name, app, limits=None, ssl_context=None, observer=None):
        self.app = app
        self.errors = []
        self._limits = limits or HttpLimits()
        self._ssl_context = ssl_context
        self._observer = observer
        self.sock = socket.socket()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(1024)
        self.port = self.sock.getsockname()[1]
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(loop_name,), daemon=True)
        self._thread.start()
        assert self._up.wait(10)

    def _run(self, loop_name):
        self.loop = loops.create(loop_name)
        self.http = HttpServer(
            self.loop, lambda environ, start: self.app(environ, start), self._limits, observer=self._observer
        )
        self.loop.serve(self.sock, self.http.handle, self._ssl_context)
        self.loop.call_soon_threadsafe(self._up.set)
        self.loop.run()
        if loop_name == "gevent":
            gevent.get_hub().destroy(destroy_loop=True)  # a worker would end here, with its descriptors

    def on_loop(self, function, *args):
        """Run in a greenlet of the loop and wait for it."""
        return self.loop.run_on_loop(function, *args)

    def close(self):
        def end():
            self.loop.stop_accepting()
            self.loop.stop()

        self.loop.call_soon_threadsafe(self.loop.spawn, end)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.sock.close()


def inspect_app(environ, start_response):
    """Answers with the environ and the body, as JSON."""
    body = environ["wsgi.input"].read()
    seen = {key: value for key, value in environ.items() if isinstance(value, str | bool)}
    seen["body"] = base64.b64encode(body).decode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]


@pytest.fixture(params=loops.available(), scope="session")
def loop_name(request) -> str:
    """Each loop whose library is installed."""
    return request.param


@pytest.fixture
def make_server(loop_name) -> Iterator[Callable[..., LoopServer]]:
    """One server for one test: of some loops a process can run but one at a time."""
    made = []

    def make(app=inspect_app, limits=None, ssl_context=None, observer=None):
        server = LoopServer(loop_name, app, limits, ssl_context, observer)
        made.append(server)
        return server

    yield make
    for server in made:
        server.close()


@pytest.fixture
def server(make_server) -> LoopServer:
    """With default limits and the inspecting application."""
    return make_server()


@pytest.fixture
def serve_app(server) -> Callable[..., int]:
    """Have the server call another application; returns the port."""

    def put(app):
        server.app = app
        return server.port

    return put


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Paths of a certificate for localhost and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.fixture
def trusting(files):
    """What a client needs to believe it."""
    return ssl.create_default_context(cafile=files[0])


@pytest.fixture
def access_lines(caplog):
    """The access log of this test: a function that waits for ``count`` records."""
    caplog.set_level(logging.INFO, logger="heatperf.access")

    def lines(count):
        deadline = time.monotonic() + 10
        while True:
            found = [record for record in caplog.records if record.name == "heatperf.access"]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline
            time.sleep(0.005)

    return lines

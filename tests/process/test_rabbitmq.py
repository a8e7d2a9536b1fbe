"""The rabbit transport against a real RabbitMQ node and stock oslo.messaging's server, which must not tell it apart."""

import contextlib
import contextvars
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from oslo_config import cfg

from heatperf import loops
from heatperf.config.load import load
from heatperf.context import RequestContext
from heatperf.errors import heat
from heatperf.rpc.rabbit import options
from heatperf.rpc.rabbit.transport import RabbitTransport

ENGINE = Path(__file__).with_name("rpc_engine.py")
TIMEOUT = 30.0
TEMPLATE = {f"r{number}": {"type": "OS::Heat::Value", "properties": {"value": "ä" * 40}} for number in range(600)}

KOLLA = """
[oslo_messaging_rabbit]
rabbit_quorum_queue = true
rabbit_transient_quorum_queue = true
use_queue_manager = true
processname = PROCESS
hostname = here
[oslo_concurrency]
lock_path = PLACE
"""


def wait_for(condition, what="the condition", seconds=TIMEOUT):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} was not met"
        time.sleep(0.02)
    return value


@contextlib.contextmanager
def engine(config, broker, vhost):
    """A stock server that consumes, until the end of the block."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # A group of its own: stock queue managers ask the leader of their group for its age, and it must live for that.
    with subprocess.Popen([sys.executable, ENGINE, config], process_group=0, **pipes) as process:
        assert process.stdout.readline() == b"ready\n"
        wait_for(lambda: broker.consumers("engine", vhost))
        yield process
        process.stdin.close()


class Client:
    """A worker's loop in a thread with the transport on it."""

    def __init__(self, config, loop_name="gevent"):
        load(cfg.CONF, ["--config-file", str(config)])
        self.transport = RabbitTransport(options.read(cfg.CONF))
        up = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(loop_name, up), daemon=True)
        self._thread.start()
        assert up.wait(TIMEOUT)
        self.loop.run_on_loop(self.transport.start, self.loop)

    def _run(self, loop_name, up):
        self.loop = loops.create(loop_name)
        self.loop.call_soon_threadsafe(up.set)
        self.loop.run()

    def call(self, method, version="1.0", timeout=None, **arguments):
        context = contextvars.Context().run(RequestContext, user_id="u", request_id="req-1")
        return self.loop.run_on_loop(self.transport.call, context, method, arguments, version, timeout)

    def cast(self, method, **arguments):
        context = contextvars.Context().run(RequestContext, user_id="u")
        return self.loop.run_on_loop(self.transport.cast, context, method, arguments, "1.0")

    def close(self):
        self.loop.run_on_loop(self.transport.stop)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(TIMEOUT)


def configured(kind, broker, place, vhost):
    """A heat.conf for client and engine."""
    more = "" if kind == "defaults" else KOLLA.replace("PLACE", str(place)).replace("PROCESS", place.name)
    config = place / "heat.conf"
    config.write_text(f"[DEFAULT]\ntransport_url = {broker.url(vhost)}\nrpc_response_timeout = 20\n{more}")
    return config


def forget_numbers(place):
    """Of queues; they are in oslo.messaging's own place."""
    (Path("/dev/shm") / f"here_{place.name}_qmanager").unlink(missing_ok=True)  # noqa: S108


@pytest.fixture(scope="module", params=["defaults", "quorum"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def config(kind, broker, tmp_path_factory):
    place = tmp_path_factory.mktemp(kind)
    yield configured(kind, broker, place, f"rpc-{kind}")
    forget_numbers(place)


@pytest.fixture(scope="module")
def client(config, broker, kind):
    """Started before the engine: the broker knows neither exchange nor queue yet."""
    made = Client(config)
    with pytest.raises(heat.EngineUnavailable, match="No engine"):
        made.call("get_revision")
    with engine(config, broker, f"rpc-{kind}"):
        yield made
    made.close()


def test_calls(client):
    answer = client.call("list_stacks", "1.33", limit=None, filters={"a": [1, 2.5, "é", None]})
    assert answer["arguments"] == {"limit": None, "filters": {"a": [1, 2.5, "é", None]}}
    assert answer["context"]["user_id"] == "u" and answer["context"]["request_id"] == "req-1"


def test_a_large_template_both_ways(client):
    answer = client.call("create_stack", "1.36", stack_name="s", template=TEMPLATE)
    assert answer == {"stack_name": "s", "template": TEMPLATE}


def test_casts(client):
    client.cast("delete_stack", stack_identity={"id": 5})
    assert wait_for(lambda: client.call("get_revision")) == [{"id": 5}]


def test_remote_failures(client):
    with pytest.raises(heat.StackExists, match="zwölf"):
        client.call("preview_stack", "1.36")
    with pytest.raises(heat.RemoteError, match="no_such_method"):
        client.call("no_such_method")
    with pytest.raises(heat.RemoteError, match="UnsupportedVersion"):
        client.call("list_stacks", "1.99")


def test_a_timeout_and_the_reply_that_comes_later(client, caplog):
    began = time.monotonic()
    with pytest.raises(heat.MessagingTimeout):
        client.call("show_stack", timeout=0.5, seconds=1)
    assert 0.4 < time.monotonic() - began < 0.95
    assert client.call("show_stack", seconds=0) == "late"
    wait_for(lambda: "show_stack came too late" in caplog.text)


def test_names_and_numbers_of_queues_and_connections(client, kind, broker):
    listing = broker._control("list_queues", "-p", f"rpc-{kind}", "name", "durable")
    [(reply, durable)] = [line.split() for line in listing.splitlines() if line.startswith("reply_")]
    assert durable == str(kind == "quorum").lower() and reply.endswith(":1") == (kind == "quorum")
    assert broker.consumers(reply, f"rpc-{kind}") == 1
    connections = broker._control("list_connections", "vhost", "client_properties").splitlines()
    assert len([line for line in connections if line.startswith(f"rpc-{kind}") and "heatperf" in line]) == 2


def test_an_engine_that_has_stopped(broker, tmp_path):
    """Its queue is still there and takes messages for nobody."""
    vhost = "stopped"
    config = configured("quorum", broker, tmp_path, vhost)
    with open(config, "a") as file:
        file.write("\n[heatperf]\nrpc_engine_grace = 0\n")
    made = Client(config)
    try:
        with engine(config, broker, vhost):
            assert made.call("get_revision") == []
        wait_for(lambda: broker.consumers("engine", vhost) == 0)
        with contextlib.suppress(heat.MessagingTimeout, heat.EngineUnavailable):
            made.call("get_revision", timeout=0.5)  # a look that has found an engine is believed for a second
        with contextlib.suppress(heat.MessagingTimeout, heat.EngineUnavailable):
            made.call("get_revision", timeout=0.7)
        began = time.monotonic()
        with pytest.raises(heat.EngineUnavailable):
            made.call("get_revision")
        assert time.monotonic() - began < 2
        with engine(config, broker, vhost):
            assert made.call("get_revision") == []
    finally:
        made.close()
        forget_numbers(tmp_path)

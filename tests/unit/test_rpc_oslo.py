"""The transport over stock oslo.messaging: many calls at once, deadlines, bounds, and what goes on the wire.

``fake://`` is oslo.messaging's own driver inside one process; the engine is a real RPC server with threads of its own.
Driver ``rabbit`` with kombu's in-memory transport is used where failures must cross a serialiser.
"""

import logging
import threading
import time

import oslo_messaging
import pytest
from pipeline_rig import OPEN, Worker, configuration, loaded, together, wait_for

from heatperf.errors import ConfigurationError
from heatperf.rpc.oslo import OsloTransport

MANY = 200


class Engine:
    """Endpoint of the RPC server."""

    target = oslo_messaging.Target(version="1.36")

    def __init__(self):
        self.contexts = []
        self.calls = []
        self.inside = 0
        self.most = 0
        self.gate = threading.Event()
        self.gate.set()
        self.lock = threading.Lock()

    def _enter(self, context, name, arguments):
        with self.lock:
            self.contexts.append(context)
            self.calls.append((name, arguments))
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self.gate.wait(20)
        with self.lock:
            self.inside -= 1

    def list_stacks(self, context, **arguments):
        self._enter(context, "list_stacks", arguments)
        return []

    def get_revision(self, context):
        self._enter(context, "get_revision", {})
        return "r1"


@pytest.fixture
def engine():
    made = Engine()
    yield made
    made.gate.set()


@pytest.fixture
def serve(tmp_path, engine):
    """Start a worker whose engine is behind fake://; extra lines of heat.conf may be given."""
    started = []

    def start(more="", serving=True):
        text = f"{OPEN}[DEFAULT]\ntransport_url = fake://\nexecutor_thread_pool_size = {MANY + 20}\n{more}"
        conf = configuration(tmp_path, text)
        transport = OsloTransport(conf)
        transport._transport._driver.cleanup()  # the fake driver's queues are those of the process
        if serving:
            place = oslo_messaging.Target(topic="engine", server="host", version="1.36")
            server = oslo_messaging.get_rpc_server(transport._transport, place, [engine], executor="threading")
            server.start()
            started.append(server.stop)
        worker = Worker(loaded(conf, transport))
        started.append(worker.close)
        worker.transport = transport
        return worker

    yield start
    engine.gate.set()
    for end in reversed(started):
        end()


def test_two_hundred_calls_are_in_flight_in_one_worker(serve, engine):
    worker = serve()
    engine.gate.clear()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(worker.get("/v1/admin/stacks"))) for _ in range(MANY)]
    for thread in threads:
        thread.start()
    wait_for(lambda: engine.inside == MANY, "as many calls at the engine at once")
    assert worker.get("/").status == 300  # and the worker still answers
    engine.gate.set()
    for thread in threads:
        thread.join(20)
    assert [answer.status for answer in answers] == [200] * MANY


def test_more_than_the_bounds_are_refused_at_once(serve, engine, caplog):
    worker = serve("[heatperf]\nrpc_concurrency = 2\nrpc_queue = 1\n")
    engine.gate.clear()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(worker.get("/v1/admin/stacks"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: worker.transport._pool.outstanding == 3 and engine.inside == 2)
    began = time.monotonic()
    refused = worker.get("/v1/admin/stacks")
    assert time.monotonic() - began < 5
    assert (refused.status, refused.json["error"]["type"], refused.headers["retry-after"]) == (503, "Overloaded", "1")
    engine.gate.set()
    for thread in threads:
        thread.join(20)
    assert [answer.status for answer in answers] == [200] * 3 and engine.most == 2


def test_refusals_under_load_are_no_errors_in_the_log(serve, engine, caplog):
    worker = serve("[heatperf]\nrpc_concurrency = 1\nrpc_queue = 0\n")
    engine.gate.clear()
    held = threading.Thread(target=worker.get, args=("/v1/admin/stacks",))
    held.start()
    wait_for(lambda: engine.inside == 1)
    assert worker.get("/v1/admin/stacks").status == 503
    engine.gate.set()
    held.join(20)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_nobody_answers(serve):
    worker = serve("rpc_response_timeout = 1\n", serving=False)
    began = time.monotonic()
    answer = worker.get("/v1/admin/stacks")
    assert 1 <= time.monotonic() - began < OsloTransport.PUBLISH_GRACE
    assert (answer.status, answer.json["error"]["type"]) == (500, "MessagingTimeout")
    services = worker.get("/v1/admin/services")
    assert (services.status, services.json["error"]["message"]) == (503, "All heat engines are down.")


def test_publishing_that_hangs_has_a_deadline(serve, monkeypatch):
    """The stock driver tries for ever to reach a broker; here the lock of the fake one's queues is held."""
    monkeypatch.setattr(OsloTransport, "PUBLISH_GRACE", 0.5)
    worker = serve("rpc_response_timeout = 1\n", serving=False)
    queues = worker.transport._transport._driver._exchange_manager.get_exchange("heat")._queues_lock
    with queues:
        began = time.monotonic()
        answers = together(*(lambda: worker.get("/v1/admin/stacks") for _ in range(3)))
        assert 1.5 <= time.monotonic() - began < 5
        assert {answer.json["error"]["type"] for answer in answers} == {"MessagingTimeout"}
        assert worker.transport._pool.outstanding == 3  # these threads are lost as long as the hang lasts
    wait_for(lambda: worker.transport._pool.outstanding == 0, "the threads are free again")


def test_a_call_that_waited_too_long_for_a_thread_is_never_sent(serve, engine, monkeypatch):
    """Its client has been told that it failed: a stack must not appear later."""
    monkeypatch.setattr(OsloTransport, "PUBLISH_GRACE", 0.2)
    worker = serve("rpc_response_timeout = 1\n[heatperf]\nrpc_concurrency = 1\nrpc_queue = 5\n", serving=False)
    driver = worker.transport._transport._driver
    exchange = driver._exchange_manager.get_exchange("heat")
    with exchange._queues_lock:
        first = threading.Thread(target=worker.get, args=("/v1/admin/stacks",))
        first.start()
        wait_for(lambda: worker.transport._pool.outstanding == 1)
        assert worker.get("/v1/admin/stacks?limit=77").status == 500
        first.join(20)
    wait_for(lambda: worker.transport._pool.outstanding == 0)
    sent = [message["args"]["limit"] for _context, message, *_ in exchange._topic_queues[("engine", None)]]
    assert sent == [None]


def test_what_goes_on_the_wire(serve, engine):
    worker = serve()
    assert worker.get("/v1/admin/stacks?limit=3", X_Auth_User="zoe").status == 200
    context = engine.contexts[0]
    assert (context["user"], context["tenant_id"], context["username"]) == ("zoe", "admin", "zoe")
    name, arguments = engine.calls[0]
    assert (name, arguments["limit"]) == ("list_stacks", 3)
    assert {"sort_keys", "not_tags_any", "show_hidden"} <= set(arguments)


def test_version_pins_are_sent(serve, engine):
    """An engine of an older minor version refuses, and the client sees what upstream's would show."""
    Engine.target = oslo_messaging.Target(version="1.32")
    try:
        worker = serve()
        answer = worker.get("/v1/admin/stacks")  # pinned to 1.33
        assert (answer.status, answer.json["error"]["type"]) == (500, "UnsupportedVersion")
        assert worker.get("/v1/admin/build_info").json["engine"] == {"revision": "r1"}  # pinned to 1.0
    finally:
        Engine.target = oslo_messaging.Target(version="1.36")


def test_depth_of_what_is_sent(serve, engine):
    """As upstream: beyond, the client gets 500 RecursionError and the engine nothing."""
    engine.validate_template = lambda context, **arguments: engine.calls.append(arguments) or {}
    worker = serve()
    for opening, closing, levels, status in (
        ("[", "]", 460, 200),
        ("[", "]", 470, 500),
        ('{"a":', "}", 305, 200),
        ('{"a":', "}", 312, 500),
    ):
        engine.calls.clear()
        inner = opening * levels + "1" + closing * levels
        body = f'{{"template": {{"heat_template_version": "2018-08-31"}}, "files": {{"f": {inner}}}}}'.encode()
        answer = worker.request("POST", "/v1/admin/validate", {"Content-Type": "application/json"}, body)
        assert (answer.status, len(engine.calls)) == (status, int(status == 200)), (opening, levels)
        if status == 500:
            assert answer.json["error"]["type"] == "RecursionError"


class TestTransportUrl:
    @pytest.mark.parametrize(
        "url",
        [
            "rabbit://heat:s3cret@broker:notaport/",
            "rabbbit://heat:s3cret@broker:5672/",
            "heat:s3cret@broker",
            "rabbit://heat:s3cret@[::1/",
        ],
    )
    def test_malformed_ones_are_refused_without_their_password(self, tmp_path, url):
        with pytest.raises(ConfigurationError) as caught:
            OsloTransport(configuration(tmp_path, f"[DEFAULT]\ntransport_url = {url}\n"))
        assert "transport_url" in str(caught.value) and "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None  # a traceback would show the driver's text

    def test_nothing_connects_or_starts_before_the_worker(self, tmp_path):
        before = threading.active_count()
        OsloTransport(configuration(tmp_path, "[DEFAULT]\ntransport_url = rabbit://heat:x@127.0.0.1:9/\n"))
        assert threading.active_count() <= before


class TestFailures:
    """Failures that are serialised on their way, as on RabbitMQ."""

    @pytest.fixture
    def worker(self, tmp_path):
        class Failing:
            target = oslo_messaging.Target(version="1.36")
            error: Exception = ValueError("x")

            def list_stacks(self, context, **arguments):
                raise self.error

        text = f"{OPEN}[DEFAULT]\ntransport_url = kombu+memory:///\nrpc_response_timeout = 10\n"
        conf = configuration(tmp_path, text)
        transport = OsloTransport(conf)
        endpoint = Failing()
        place = oslo_messaging.Target(topic="engine", server="host", version="1.36")
        server = oslo_messaging.get_rpc_server(transport._transport, place, [endpoint], executor="threading")
        server.start()
        worker = Worker(loaded(conf, transport))
        worker.endpoint = endpoint
        yield worker
        worker.close()
        server.stop()

    def test_by_class(self, worker):
        class StackExists(Exception):
            safe = True

            def __init__(self, **kwargs):
                self.kwargs = kwargs

            def __str__(self):
                return "The Stack (s) already exists."

        StackExists.__module__ = "heat.common.exception"
        worker.endpoint.error = StackExists(stack_name="s")
        answer = worker.get("/v1/admin/stacks")
        assert (answer.status, answer.json["error"]["type"]) == (409, "StackExists")
        assert answer.json["error"]["message"] == "The Stack (s) already exists."

    def test_foreign_class(self, worker):
        kind = type("NotFound", (Exception,), {"__module__": "os"})
        worker.endpoint.error = kind("secret of the engine")
        answer = worker.get("/v1/admin/stacks")
        assert (answer.status, answer.json["error"]) == (500, {"type": "RemoteError", "traceback": None})

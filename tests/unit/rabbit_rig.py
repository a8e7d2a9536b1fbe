"""A worker's loop in a thread with the rabbit transport on it; calls come from any thread of the test."""

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from broker_rig import Broker

from heatperf import loops
from heatperf.context import RequestContext
from heatperf.rpc.rabbit.hosts import Host, Pace
from heatperf.rpc.rabbit.settings import RabbitSettings
from heatperf.rpc.rabbit.transport import RabbitTransport

TIMEOUT = 20.0


def wait_for(condition: Callable[[], Any], what: str = "the condition", seconds: float = TIMEOUT) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} was not met"
        time.sleep(0.005)
    return value


def somebody(**fields: Any) -> RequestContext:
    """A caller, made aside: a new context becomes the current one of whoever makes it."""
    return contextvars.Context().run(RequestContext, is_admin=False, **fields)


def settings(*brokers: Broker, **options: Any) -> RabbitSettings:
    hosts = tuple(Host("127.0.0.1", broker.port, "heat", "s3cret") for broker in brokers)
    return RabbitSettings(hosts=hosts, **{"pace": Pace(0.05, 0.0, 0.05), "response_timeout": TIMEOUT, **options})


class Client:
    """See the module's text."""

    def __init__(self, loop_name: str, what: RabbitSettings) -> None:
        self.transport = RabbitTransport(what)
        self._loop_name = loop_name
        up = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(up,), daemon=True)
        self._thread.start()
        assert up.wait(TIMEOUT)
        self.loop.run_on_loop(self.transport.start, self.loop)

    def _run(self, up: threading.Event) -> None:
        self.loop = loops.create(self._loop_name)
        self.loop.call_soon_threadsafe(up.set)
        self.loop.run()
        if self._loop_name == "gevent":
            gevent.get_hub().destroy(destroy_loop=True)  # a worker would end here, with its descriptors

    def ready(self) -> "Client":
        wait_for(lambda: self.transport._sender.link and self.transport._receiver.link, "both connections")
        return self

    def call(
        self, method: str = "list_stacks", timeout: float | None = None, context: Any = None, **arguments: Any
    ) -> Any:
        return self.loop.run_on_loop(self.transport.call, context or somebody(), method, arguments, "1.33", timeout)

    def cast(self, method: str = "delete_stack", context: Any = None, **arguments: Any) -> None:
        self.loop.run_on_loop(self.transport.cast, context or somebody(), method, arguments, "1.0")

    def begin(self, function: Callable[..., Any] | None = None, **arguments: Any) -> Callable[[], Any]:
        """Do it in a thread of its own; returns a function that waits for (result, error)."""
        outcome: list[Any] = []

        def body() -> None:
            try:
                outcome.append(((function or self.call)(**arguments), None))
            except Exception as error:
                outcome.append((None, error))

        thread = threading.Thread(target=body, daemon=True)
        thread.start()

        def end() -> Any:
            thread.join(TIMEOUT)
            return outcome[0]

        return end

    def close(self) -> None:
        self.loop.run_on_loop(self.transport.stop)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def connected(loop_name: str, *brokers: Broker, **options: Any) -> Iterator[Client]:
    """A client of these brokers, with both of its connections up."""
    client = Client(loop_name, settings(*brokers, **options))
    try:
        yield client.ready()
    finally:
        client.close()

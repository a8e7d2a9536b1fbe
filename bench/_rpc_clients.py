"""RPC clients to compare, each in a process of its own that is told when to work. A program, started by _rpc.py.

In: --client, TRANSPORT_URL, and lines of JSON on standard input: {"what": "call" or "cast", "payload", "concurrency",
"seconds"}. Out: a line each: {"messages", "seconds", "cpu"}; first {"ready": true}. CPU is the whole process', in
seconds. After casts it makes a call, outside the measurement: its answer means that the queue is empty again.

    lean-LOOP      heatperf's EngineClient on its lean transport; LOOP is gevent, uvloop or meinheld
    stock-threads  oslo.messaging's RPCClient, a native thread per message under way
    stock-gevent   the same, patched by gevent
    heat           heat.rpc.client.EngineClient, which has a serializer; in Heat's own environment. Threads
    kombu          publishes and consumes with kombu alone; one message at a time
    raw            frames encoded beforehand, a plain socket: what the broker and the responder can do
"""

import argparse
import contextlib
import json
import logging
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import _rpc_data

Send = Callable[[], Any]


class Client(Protocol):
    """What can be measured."""

    def measure(self, what: str, payload: str, concurrency: int, seconds: float) -> dict[str, float]:
        """:returns: messages, seconds, cpu"""


class _Clock:
    """Times and CPU between its making and ``done``."""

    def __init__(self) -> None:
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def done(self, messages: int) -> dict[str, float]:
        cpu = time.process_time() - self._cpu
        return {"messages": messages, "seconds": time.perf_counter() - self._began, "cpu": cpu}


class _Threads:
    """Runs a function in threads, again and again for a while. With gevent's patches they are greenlets."""

    def sender(self, what: str, payload: str) -> Send:
        """A function that sends one message and returns with its answer, or with the broker's confirm."""
        raise NotImplementedError

    def measure(self, what: str, payload: str, concurrency: int, seconds: float) -> dict[str, float]:
        send = self.sender(what, payload)
        counts, errors = [0] * concurrency, []
        begin, end = threading.Event(), [0.0]

        def work(number: int) -> None:
            begin.wait()
            try:
                while time.perf_counter() < end[0]:
                    send()
                    counts[number] += 1
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(concurrency)]
        for thread in threads:
            thread.start()
        clock = _Clock()
        end[0] = time.perf_counter() + seconds
        begin.set()
        for thread in threads:
            thread.join()
        result = clock.done(sum(counts))
        if errors:
            raise errors[0]
        if what == "cast":
            self.sender("call", "small")()
        return result


class Stock(_Threads):
    """RPCClient as its documentation has it, prepared once for each version."""

    def __init__(self, url: str) -> None:
        import oslo_messaging
        from oslo_config import cfg

        cfg.CONF([], project="heat", prog="heat-api")
        oslo_messaging.set_transport_defaults("heat")
        transport = oslo_messaging.get_rpc_transport(cfg.CONF, url)
        self._client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic="engine", version="1.0"))
        caller = dict(_rpc_data.CALLER)
        # What oslo.context makes of a caller, and what Heat adds.
        self._context = {
            **caller,
            "user": caller["user_id"],
            "tenant": caller["project_id"],
            "project_name": "demo",
            "username": "demo",
            "user_identity": f"{caller['user_id']} {caller['project_id']}",
            "is_admin_project": True,
            "read_only": False,
            "show_deleted": False,
            "auth_token_info": _rpc_data.token_info(),
            **dict.fromkeys(("domain", "system_scope", "global_request_id", "resource_uuid", "password", "aws_creds")),
            **dict.fromkeys(("trust_id", "trustor_user_id", "region_name")),
        }

    def sender(self, what: str, payload: str) -> Send:
        method, arguments, version = _rpc_data.payload(payload)
        prepared = self._client.prepare(version=version)
        send = prepared.call if what == "call" else prepared.cast
        return lambda: send(self._context, method, **arguments)


class Heat(_Threads):
    """Upstream's own client."""

    def __init__(self, url: str) -> None:
        from heat.common import context, messaging
        from heat.rpc import client
        from oslo_config import cfg

        cfg.CONF([], project="heat", prog="heat-api")
        messaging.setup(url)
        self._client = client.EngineClient()
        self._context = context.RequestContext(
            username="demo", auth_token_info=_rpc_data.token_info(), **_rpc_data.CALLER
        )

    def sender(self, what: str, payload: str) -> Send:
        method, arguments, version = _rpc_data.payload(payload)
        client, context = self._client, self._context
        send = client.call if what == "call" else client.cast
        return lambda: send(context, client.make_msg(method, **arguments), version=version)


class Lean:
    """On the loop's thread as in a worker; the commands come from a native thread that mostly sleeps."""

    def __init__(self, url: str, loop: str) -> None:
        from heatperf import loops
        from heatperf.context import Caller, RequestContext
        from heatperf.rpc.client import EngineClient
        from heatperf.rpc.methods import METHODS
        from heatperf.rpc.rabbit.hosts import Host
        from heatperf.rpc.rabbit.settings import RabbitSettings
        from heatperf.rpc.rabbit.transport import RabbitTransport

        parts = urlsplit(url)
        host = Host(parts.hostname or "", parts.port or 5672, parts.username or "", parts.password or "")
        self._transport = RabbitTransport(RabbitSettings(hosts=(host,), vhost=unquote(parts.path[1:]) or "/"))
        self._engine = EngineClient(self._transport)
        self._methods = METHODS
        self.loop = loops.create(loop)
        self._context = RequestContext(auth_token_info=_rpc_data.token_info(), **_rpc_data.CALLER)
        # As the context station leaves it: what the token says is encoded once.
        self._context.remember(Caller({}))

    def start(self) -> None:
        """From another thread, once the loop runs."""
        self._on_loop(self._transport.start, self.loop)

    def _on_loop(self, function: Callable[..., Any], *args: Any) -> Any:
        ended, outcome = threading.Event(), []

        def body() -> None:
            try:
                outcome.append((function(*args), None))
            except BaseException as error:
                outcome.append((None, error))
            ended.set()

        self.loop.call_soon_threadsafe(self.loop.spawn, body)
        ended.wait()
        result, error = outcome[0]
        if error is not None:
            raise error
        return result

    def measure(self, what: str, payload: str, concurrency: int, seconds: float) -> dict[str, float]:
        result: dict[str, float] = self._on_loop(self._measure, what, payload, concurrency, seconds)
        return result

    def _measure(self, what: str, payload: str, concurrency: int, seconds: float) -> dict[str, float]:
        method, arguments, version = _rpc_data.payload(payload)
        if version != self._methods[method].version or arguments.keys() != self._methods[method].arguments.keys():
            raise ValueError(f"{method} has changed: _rpc_data.py is not what goes on the wire any more")
        function, context = self._engine.call if what == "call" else self._engine.cast, self._context
        count, working, done, errors = [0], [concurrency], self.loop.waiter(), []

        def work() -> None:
            try:
                while time.perf_counter() < end:
                    function(context, method, **arguments)
                    count[0] += 1
            except Exception as error:
                errors.append(error)
            working[0] -= 1
            if not working[0]:
                done.wake()

        clock = _Clock()
        end = time.perf_counter() + seconds
        for _ in range(concurrency):
            self.loop.spawn(work)
        done.wait()
        result = clock.done(count[0])
        if errors:
            raise errors[0]
        if what == "cast":
            self._engine.call(context, "list_stacks")
        return result


def _envelope(what: str, payload: str, queue: str) -> dict[str, Any]:
    method, arguments, version = _rpc_data.payload(payload)
    inner: dict[str, Any] = {"method": method, "args": arguments, "version": version, "_unique_id": uuid.uuid4().hex}
    if what == "call":
        inner |= {"_msg_id": uuid.uuid4().hex, "_reply_q": queue, "_timeout": None}
    inner |= {f"_context_{name}": value for name, value in _rpc_data.CALLER.items()}
    inner["_context_auth_token_info"] = _rpc_data.token_info()
    return {"oslo.version": "2.0", "oslo.message": json.dumps(inner)}


class Kombu:
    """What kombu alone takes for the same messages: JSON, publisher confirms, an acknowledgement per reply."""

    def __init__(self, url: str) -> None:
        import kombu

        self._connection = kombu.Connection(
            url.replace("rabbit://", "amqp://"), transport_options={"confirm_publish": True}
        )
        self._queue = kombu.Queue(f"reply_{uuid.uuid4().hex}", auto_delete=True)
        self._exchange = kombu.Exchange("heat", "topic", durable=False)
        self._producer = self._connection.Producer()
        self._replies: list[Any] = []
        self._consumer = self._connection.Consumer([self._queue], callbacks=[self._replied])
        self._consumer.consume()

    def _replied(self, body: Any, message: Any) -> None:
        self._replies.append(json.loads(body["oslo.message"]))
        message.ack()

    def _send(self, what: str, payload: str) -> None:
        body = _envelope(what, payload, self._queue.name)
        self._producer.publish(body, exchange=self._exchange, routing_key="engine", declare=[], serializer="json")
        if what == "call":
            while not self._replies:
                self._connection.drain_events(timeout=60)
            self._replies.clear()

    def measure(self, what: str, payload: str, concurrency: int, seconds: float) -> dict[str, float]:
        if concurrency != 1:
            raise ValueError("a connection of kombu is for one message at a time")
        clock, count, end = _Clock(), 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            self._send(what, payload)
            count += 1
        result = clock.done(count)
        if what == "cast":
            self._send("call", "small")
        return result


class Raw:
    """As many messages under way as asked for, on one connection, without looking at what comes back."""

    _CALLS, _CASTS = 1, 2

    def __init__(self, url: str) -> None:
        from heatperf.rpc.amqp import codec
        from heatperf.rpc.amqp.connection import Connection, Login

        self._codec = codec
        parts = urlsplit(url)
        self._sock = socket.create_connection((parts.hostname or "", parts.port or 5672))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        vhost = unquote(parts.path[1:]) or "/"
        login = Login(parts.username or "", parts.password or "", vhost, heartbeat=0)
        self._arrived = self._answered = 0
        self._last = self._settled = 0
        self._connection = Connection(login, self)  # type: ignore[arg-type] # the rest of Events: __getattr__
        while not self._connection.open:
            self._exchange()
        self._queue = f"reply_{uuid.uuid4().hex}"
        for channel in (self._CALLS, self._CASTS):
            self._connection.open_channel(channel, 0)
        nothing, queue = codec.table({}), codec.short_string(self._queue)
        self._ask(self._CALLS, codec.QUEUE_DECLARE, b"\0\0" + queue + b"\x08" + nothing)  # auto-delete
        self._ask(self._CALLS, codec.BASIC_CONSUME, b"\0\0" + queue + codec.short_string("c") + b"\0" + nothing)
        self._ask(self._CASTS, codec.CONFIRM_SELECT, b"\0")
        while self._answered < 5:
            self._exchange()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_: None

    def answered(self, *_: Any) -> None:
        """Of Events."""
        self._answered += 1

    def delivered(self, _channel: int, tag: int, _body: bytes) -> None:
        """Of Events."""
        self._arrived += 1
        self._last = tag

    def confirmed(self, _channel: int, tag: int, multiple: bool, _positive: bool) -> None:
        """Of Events."""
        self._arrived += tag - self._settled if multiple else 1
        self._settled = tag if multiple else self._settled + 1

    def measure(self, what: str, payload: str, concurrency: int, seconds: float) -> dict[str, float]:
        channel = self._CALLS if what == "call" else self._CASTS
        frame_max = self._connection.frame_max
        publication = self._codec.Publication(channel, "heat", "engine", None, False, frame_max)
        message = publication.encode(json.dumps(_envelope(what, payload, self._queue)).encode())
        clock, count, end = _Clock(), 0, time.perf_counter() + seconds
        self._connection.send(message * concurrency)
        under_way = concurrency
        while under_way:
            self._arrived = 0
            self._exchange()
            count += self._arrived
            under_way -= self._arrived
            if self._arrived and channel == self._CALLS:
                self._connection.send(self._codec.ack(channel, self._last, True))
            if self._arrived and time.perf_counter() < end:
                self._connection.send(message * self._arrived)
                under_way += self._arrived
        result = clock.done(count)
        if what == "cast":
            self.measure("call", "small", 1, 0)
        return result

    def _ask(self, channel: int, method: int, arguments: bytes) -> None:
        self._connection.request(channel, method, arguments, 0)

    def _exchange(self) -> None:
        data = self._connection.take(0)
        if data:
            self._sock.sendall(data)
        data = self._sock.recv(65_536)
        if not data:
            raise SystemExit("the broker has hung up")
        self._connection.receive(data, 0)


def make(name: str, url: str) -> Client:
    """:param name: see the module's text"""
    if name.startswith("lean-"):
        return Lean(url, name.removeprefix("lean-"))
    kinds: dict[str, Callable[[str], Client]] = {
        "stock-threads": Stock,
        "stock-gevent": Stock,
        "heat": Heat,
        "kombu": Kombu,
        "raw": Raw,
    }
    return kinds[name](url)


def obey(client: Client, commands: Any, say: Callable[[Any], None]) -> None:
    """Until the commands end."""
    say({"ready": True})
    for line in commands:
        try:
            say(client.measure(**json.loads(line)))
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"})


def main() -> None:
    """Obey."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--client", required=True)
    name = parser.parse_args().client
    commands: Any = sys.stdin
    if name == "stock-gevent":
        from gevent import monkey
        from gevent.fileobject import FileObjectThread

        monkey.patch_all()
        # In a thread: the loop, and with it the heartbeats, must go on while there is nothing to do.
        commands = FileObjectThread(sys.stdin, "r")
    # It warns of as many calls under way as are wanted here.
    logging.getLogger("oslo").setLevel(logging.CRITICAL)
    logging.getLogger("oslo_messaging").setLevel(logging.ERROR)
    client = make(name, os.environ["TRANSPORT_URL"])

    def say(answer: Any) -> None:
        print(json.dumps(answer), flush=True)

    if not isinstance(client, Lean):
        obey(client, commands, say)
        return

    def talk() -> None:
        client.start()
        with contextlib.suppress(BrokenPipeError):
            obey(client, commands, say)
        client.loop.call_soon_threadsafe(client.loop.stop)

    threading.Thread(target=talk, daemon=True).start()
    client.loop.run()


if __name__ == "__main__":
    main()

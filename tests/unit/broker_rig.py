"""A message broker of the test: AMQP 0-9-1 over loopback, with the faults of real ones on demand.

Imported by the tests of the rabbit transport. It knows the default exchange, one engine queue and the reply queues that
clients declare; what is published to the engine queue goes to ``engine``, a function of (broker, Message), which may
answer by ``broker.reply``. One thread accepts, one per connection reads; everything else runs in the test's own.
"""

import asyncio
import contextlib
import json
import pathlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from heatperf.rpc.amqp import codec
from heatperf.rpc.amqp.codec import Frames, Reader

ENGINE_QUEUE = "engine"


@dataclass
class Message:
    """One message that was published."""

    tag: int
    exchange: str
    routing_key: str
    mandatory: bool
    body: bytes = b""
    header: bytes = b""
    size: int = 0

    @property
    def envelope(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def content(self) -> dict[str, Any]:
        return json.loads(self.envelope["oslo.message"])

    @property
    def context(self) -> dict[str, Any]:
        return {
            name.removeprefix("_context_"): value
            for name, value in self.content.items()
            if name.startswith("_context_")
        }


@dataclass
class Queue:
    """A reply queue: what nobody has consumed waits."""

    arguments: dict[str, Any]
    durable: bool
    waiting: list[bytes] = field(default_factory=list)
    #: of others
    consumers: int = 0


def answering(result: Any) -> Callable[..., None]:
    """An engine that answers every call at once."""

    def engine(broker: "Broker", message: Message) -> None:
        if "_msg_id" in message.content:
            broker.reply(message, result)

    return engine


def silent(_broker: "Broker", _message: Message) -> None:
    """An engine that takes calls and says nothing."""


def echo(broker: "Broker", message: Message) -> None:
    """One that answers each call with its arguments."""
    if "_msg_id" in message.content:
        broker.reply(message, message.content["args"])


class Broker:
    """See the module's text.

    :ivar consumers: of the engine queue; None: there is no such queue
    :ivar confirming: confirm messages at once; otherwise ``confirm`` does
    :ivar serving: new connections get a greeting; otherwise nothing
    :ivar hangs_up: on each consumer, as soon as it is there
    :ivar answers_after: seconds that opening the vhost takes
    """

    def __init__(self, engine: Callable[["Broker", Message], None] | None = None, heartbeat: int = 60) -> None:
        self.engine = engine or answering([])
        self.heartbeat = heartbeat
        self.consumers: int | None = 1
        self.confirming = True
        self.serving = True
        self.hangs_up = False
        self.answers_after = 0.0
        self.exchange_error: str | None = None
        self.look_error: int | None = None
        self.queues_on_dead_nodes: set[str] = set()
        self.messages: list[Message] = []
        self.declared: list[tuple[str, int, dict[str, Any]]] = []
        self.acknowledged = 0
        self.queues: dict[str, Queue] = {}
        self.connections: list[Connection] = []
        self.logins: list[tuple[str, bytes, str]] = []
        self.lock = threading.RLock()
        self.port = 0
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Listen, on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            connection = Connection(self, sock)
            with self.lock:
                self.connections.append(connection)
            threading.Thread(target=connection.run, daemon=True).start()

    def close(self, forget_queues: bool = False) -> None:
        """Die: no listener, no connections."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.drop()
        if forget_queues:
            self.queues.clear()

    def drop(self) -> None:
        """Cut all connections."""
        with self.lock:
            connections, self.connections = self.connections, []
        for connection in connections:
            connection.cut()

    @property
    def publishing(self) -> "Connection":
        return next(c for c in reversed(self.connections) if c.confirms)

    @property
    def receiving(self) -> "Connection":
        return next(c for c in reversed(self.connections) if c.consuming)

    def contents(self, method: str) -> list[dict[str, Any]]:
        with self.lock:
            return [m.content for m in self.messages if m.content["method"] == method]

    def reply(self, message: Message, result: Any = None, **parts: Any) -> None:
        """Answer a call as oslo.messaging's server does; ``parts`` replace or add members."""
        content = message.content
        inner = {"result": result, "failure": None, "ending": True, "_msg_id": content["_msg_id"], "_unique_id": "u"}
        inner.update(parts)
        self.deliver(content["_reply_q"], envelope(inner))

    def deliver(self, queue: str, body: bytes) -> None:
        with self.lock:
            if queue in self.queues:
                self.queues[queue].waiting.append(body)
                for connection in self.connections:
                    connection.flush(queue)

    def cancel_consumers(self) -> None:
        with self.lock:
            for connection in self.connections:
                if connection.consuming:
                    connection.send(codec.method(1, codec.BASIC_CANCEL, codec.short_string("replies") + b"\x01"))
                    connection.consuming = None


def envelope(content: dict[str, Any]) -> bytes:
    return json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(content)}).encode()


class Connection:
    """The broker's side of one connection."""

    def __init__(self, broker: Broker, sock: socket.socket) -> None:
        self.broker = broker
        self.sock = sock
        self.confirms = False
        self.consuming: str | None = None
        self.reading = threading.Event()
        self.reading.set()
        self.beats = 0
        self.received = 0
        self._tag = 0
        self._delivery = 0
        self._content: Message | None = None

    def send(self, data: bytes) -> None:
        with self.broker.lock, contextlib.suppress(OSError):
            self.sock.sendall(data)

    def cut(self) -> None:
        self.reading.set()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def block(self, reason: str = "low on memory") -> None:
        """Read nothing more, as under an alarm."""
        self.reading.clear()
        self.send(codec.method(0, codec.CONNECTION_BLOCKED, codec.short_string(reason)))

    def unblock(self) -> None:
        self.send(codec.method(0, codec.CONNECTION_UNBLOCKED))
        self.reading.set()

    def confirm(self, tag: int, multiple: bool = False, number: int = codec.BASIC_ACK) -> None:
        self.send(codec.method(1, number, struct.pack(">QB", tag, multiple)))

    def run(self) -> None:
        with self.sock:
            try:
                self._talk()
            except OSError:
                pass
            finally:
                with self.broker.lock:
                    if self in self.broker.connections:
                        self.broker.connections.remove(self)

    def _talk(self) -> None:
        greeting = b""
        while len(greeting) < 8:
            data = self.sock.recv(8 - len(greeting))
            if not data:
                return
            greeting += data
        if not self.broker.serving:
            self.sock.recv(1)
            return
        properties = codec.table({"product": "test", "version": "0"})
        self.send(
            codec.method(
                0,
                codec.CONNECTION_START,
                b"\x00\x09" + properties + codec.long_string(b"PLAIN AMQPLAIN EXTERNAL") + codec.long_string(b"en_US"),
            )
        )
        frames = Frames(131_072)
        while data := self.sock.recv(65_536):
            self.reading.wait()
            self.received += len(data)
            for kind, channel, payload in frames.feed(data):
                if kind == codec.HEARTBEAT:
                    self.beats += 1
                elif kind == codec.METHOD:
                    self._method(channel, int.from_bytes(payload[:4]), Reader(payload, 4))
                else:
                    self._piece(kind, channel, payload)

    def _method(self, channel: int, number: int, reader: Reader) -> None:
        broker = self.broker
        if number == codec.CONNECTION_START_OK:
            reader.table()
            mechanism, response = reader.short_string(), reader.long_string()
            broker.logins.append((mechanism, response, reader.short_string()))
            tune = struct.pack(">HIH", 2047, 131_072, broker.heartbeat)
            self.send(codec.method(0, codec.CONNECTION_TUNE, tune))
        elif number == codec.CONNECTION_OPEN:
            self.vhost = reader.short_string()
            time.sleep(broker.answers_after)
            self.send(codec.method(0, codec.CONNECTION_OPEN_OK, b"\x00"))
        elif number == codec.CHANNEL_OPEN:
            self.send(codec.method(channel, codec.CHANNEL_OPEN_OK, codec.long_string(b"")))
        elif number == codec.EXCHANGE_DECLARE:
            if broker.exchange_error:
                error, broker.exchange_error = broker.exchange_error, None
                self._close_channel(channel, 406, error)
            else:
                self.send(codec.method(channel, codec.EXCHANGE_DECLARE_OK))
        elif number == codec.QUEUE_DECLARE:
            self._declare(channel, reader)
        elif number == codec.CONFIRM_SELECT:
            self.confirms = True
            self.send(codec.method(channel, codec.CONFIRM_SELECT_OK))
        elif number == codec.BASIC_QOS:
            self.send(codec.method(channel, codec.BASIC_QOS_OK))
        elif number == codec.BASIC_CONSUME:
            reader.short()
            queue, consumer = reader.short_string(), reader.short_string()
            self.send(codec.method(channel, codec.BASIC_CONSUME_OK, codec.short_string(consumer)))
            with broker.lock:
                self.consuming = queue
                self.flush(queue)
            if broker.hangs_up:
                self.cut()
        elif number == codec.BASIC_PUBLISH:
            reader.short()
            self._tag += 1
            self._content = Message(self._tag, reader.short_string(), reader.short_string(), bool(reader.octet() & 1))
        elif number == codec.BASIC_ACK:
            broker.acknowledged = reader.long_long()
        elif number == codec.CONNECTION_CLOSE:
            self.send(codec.method(0, codec.CONNECTION_CLOSE_OK))

    def _declare(self, channel: int, reader: Reader) -> None:
        broker = self.broker
        reader.short()
        name, bits, arguments = reader.short_string(), reader.octet(), reader.table()
        with broker.lock:
            broker.declared.append((name, bits, arguments))
            if name == ENGINE_QUEUE:
                known, consumers = broker.consumers is not None, broker.consumers or 0
            else:
                if not bits & 1:
                    broker.queues.setdefault(name, Queue(arguments, bool(bits & 2)))
                known = name in broker.queues
                consumers = broker.queues[name].consumers if known else 0
                other = known and not bits & 1 and broker.queues[name].arguments != arguments
        if name == ENGINE_QUEUE and broker.look_error:
            self._close_channel(channel, broker.look_error, "ACCESS_REFUSED - no")
        elif name in broker.queues_on_dead_nodes:
            self._close_channel(channel, 404, f"NOT_FOUND - home node of queue '{name}' is down or inaccessible")
        elif name != ENGINE_QUEUE and other:
            self._close_channel(channel, 406, f"PRECONDITION_FAILED - inequivalent arg for queue '{name}'")
        elif known:
            counts = struct.pack(">II", 0, consumers)
            self.send(codec.method(channel, codec.QUEUE_DECLARE_OK, codec.short_string(name) + counts))
        else:
            self._close_channel(channel, 404, f"NOT_FOUND - no queue '{name}'")

    def _close_channel(self, channel: int, code: int, text: str) -> None:
        arguments = struct.pack(">H", code) + codec.short_string(text) + struct.pack(">HH", 50, 10)
        self.send(codec.method(channel, codec.CHANNEL_CLOSE, arguments))

    def _piece(self, kind: int, channel: int, payload: bytes) -> None:
        message = self._content
        assert message is not None
        if kind == codec.HEADER:
            message.header, message.size = payload, codec.body_size(payload)
        else:
            message.body += payload
        if len(message.body) < message.size:
            return
        self._content = None
        broker = self.broker
        if broker.consumers is None and message.mandatory:
            arguments = struct.pack(">H", 312) + codec.short_string("NO_ROUTE") + codec.short_string(message.exchange)
            self.send(
                codec.method(channel, codec.BASIC_RETURN, arguments + codec.short_string(message.routing_key))
                + codec.frame(codec.HEADER, channel, message.header)
                + codec.frame(codec.BODY, channel, message.body)
            )
            if broker.confirming:
                self.confirm(message.tag)
            return
        with broker.lock:
            broker.messages.append(message)
        if broker.confirming:
            self.confirm(message.tag)
        broker.engine(broker, message)

    def flush(self, queue: str) -> None:
        if self.consuming != queue:
            return
        waiting = self.broker.queues[queue].waiting
        for body in waiting:
            self._delivery += 1
            names = codec.short_string("replies") + struct.pack(">QB", self._delivery, 0) + b"\x00"
            header = struct.pack(">HHQH", 60, 0, len(body), 0)
            self.send(
                codec.method(1, codec.BASIC_DELIVER, names + codec.short_string(queue))
                + codec.frame(codec.HEADER, 1, header)
                + b"".join(
                    codec.frame(codec.BODY, 1, body[start : start + 131_064]) for start in range(0, len(body), 131_064)
                )
            )
        waiting.clear()


@contextlib.contextmanager
def tls_in_front(broker: Broker, files: pathlib.Path) -> Iterator[int]:
    """A port where the broker is reached by TLS with the certificate in ``files``, in a thread of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "cert.pem", files / "key.pem")
    loop = asyncio.new_event_loop()
    found: list[int] = []
    up = threading.Event()

    async def pump(reader: Any, writer: Any) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def forward(reader: Any, writer: Any) -> None:
        with contextlib.suppress(OSError):
            to_broker = await asyncio.open_connection("127.0.0.1", broker.port)
            await asyncio.gather(pump(reader, to_broker[1]), pump(to_broker[0], writer))
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
        found.append(server.sockets[0].getsockname()[1])
        up.set()

    def run() -> None:
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert up.wait(10)
    yield found[0]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)

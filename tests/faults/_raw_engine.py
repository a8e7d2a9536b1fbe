"""An engine that answers at once, keeps a record of all it gets, and misbehaves on demand: run as a program.

    _raw_engine.py OPTIONS-AS-JSON

ports, user, password   of the brokers, in turn when one is lost
queue                   {"durable": bool, "arguments": {...}}, of the queue ``engine``; "durable" also of the exchange
record                  a file; gets a line of JSON per message and per event, before anything is acknowledged
latency                 seconds before each reply

Orders come by stdin, one line of JSON each: "latency"; "hold" (true: answer nothing), "misbehave" (true: see
``_odd``), "pause" (seconds without a consumer after the queue was lost). It ends with its stdin.

It keeps a stock engine's order: acknowledge, work, reply; a reply that finds no queue, or that no broker has confirmed,
is sent again. One thread; blocking writes, since its messages are small.
"""

import heapq
import json
import os
import select
import socket
import sys
import time
import uuid
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from heatperf.rpc.amqp import codec  # noqa: E402
from heatperf.rpc.amqp.connection import AmqpError, Connection, Login  # noqa: E402

QUEUE_BIND = 50 << 16 | 20
PASSIVE, DURABLE, NOWAIT = 1, 2, 1
CHANNEL = 1
PROPERTIES = {"product": "responder", "capabilities": {"connection.blocked": True, "consumer_cancel_notify": True}}
#: Seconds: between attempts, and before a reply without a queue is tried again.
RETRY = 0.1
RESEND = 0.25
#: So long stock engines try.
GIVE_UP = 60.0
TENANT = "admin"


def marker_of(arguments):
    """The name of the stack, which each request has for itself."""
    identity = arguments.get("stack_identity") or {}
    return arguments.get("stack_name") or identity.get("stack_name", "")


def result_of(method, marker):
    """What an engine answers; the marker is in it."""
    identity = {"tenant": TENANT, "stack_name": marker, "stack_id": str(uuid.uuid4()), "path": ""}
    if method in ("create_stack", "identify_stack"):
        return identity
    if method == "show_stack":
        return [{"stack_identity": identity, "stack_name": marker, "stack_action": "CREATE", "stack_status": "FAILED"}]
    return {"description": marker, "padding": "x" * 20_000}


class Reply:
    """One that has not been confirmed."""

    __slots__ = ("body", "queue", "until")

    def __init__(self, queue, body):
        self.queue = queue
        self.body = body
        self.until = time.monotonic() + GIVE_UP


class Responder:
    """See the module's text. It is the Events of its Connection."""

    def __init__(self, options):
        self.options = options
        self.latency = options.get("latency", 0.0)
        self.hold = self.misbehave = False
        self.pause = 0.0
        self.link = 0
        self.turn = 0
        self.file = os.open(options["record"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.lines = []
        self.due = []
        self.count = self.oddities = 0
        self.unconfirmed = {}
        self.homeless = {}
        self.stdin = b""
        self.orders_end = False

    # Record

    def note(self, **what):
        self.lines.append(json.dumps({"at": time.monotonic(), **what}))

    def write(self):
        if self.lines:
            os.write(self.file, "".join(f"{line}\n" for line in self.lines).encode())
            self.lines = []

    # Connection

    def run(self):
        while not self.orders_end:
            try:
                self.connect()
                self.serve()
            except (OSError, AmqpError, codec.MalformedFrame, EOFError) as error:
                self.note(event="lost", why=repr(error))
                self.write()
            # as a stock engine: what no broker has confirmed is sent again
            for reply in dict.fromkeys([*self.unconfirmed.values(), *self.homeless.values()]):
                self.later(0.0, reply)
            self.unconfirmed, self.homeless = {}, {}
            self.wait(self.pause or RETRY)

    def connect(self):
        ports = self.options["ports"]
        self.turn += 1
        self.sock = socket.create_connection(("127.0.0.1", ports[self.turn % len(ports)]), 2)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(5)
        login = Login(self.options["user"], self.options["password"], "/", heartbeat=0, properties=PROPERTIES)
        self.core = Connection(login, self)
        self.link += 1
        self.tag = self.handled = 0
        self.consuming = self.cancelled_by_broker = False
        self.publications = {}
        while not self.core.open:
            self.flush()
            self.receive()
        self.core.open_channel(CHANNEL, "channel")
        durable = DURABLE * self.options["queue"]["durable"]
        name = codec.short_string("engine")
        exchange = codec.short_string("heat") + codec.short_string("topic")
        self.ask(codec.EXCHANGE_DECLARE, b"\0\0" + exchange + bytes([durable]) + codec.table({}))
        arguments = codec.table(self.options["queue"].get("arguments", {}))
        self.ask(codec.QUEUE_DECLARE, b"\0\0" + name + bytes([durable]) + arguments)
        names = name + codec.short_string("heat") + name
        self.core.send(codec.method(CHANNEL, QUEUE_BIND, b"\0\0" + names + bytes([NOWAIT]) + codec.table({})))
        self.ask(codec.CONFIRM_SELECT, b"\0")
        consumer = b"\0\0" + name + codec.short_string("e") + b"\0" + codec.table({})
        self.core.request(CHANNEL, codec.BASIC_CONSUME, consumer, "consume")
        deadline = time.monotonic() + 5
        while not self.consuming:
            if time.monotonic() > deadline:
                raise OSError("the broker lets nobody consume")
            self.flush()
            self.receive()
        # no time limit from here on: a broker under an alarm takes nothing for as long as it lasts
        self.sock.settimeout(None)

    def ask(self, number, arguments):
        self.core.request(CHANNEL, number, arguments, "set-up")

    def serve(self):
        while not self.orders_end and not self.cancelled_by_broker:
            self.flush()
            self.wait(max(0.0, self.due[0][0] - time.monotonic()) if self.due else 1.0, self.sock)
            self.send_due()
        self.sock.close()

    def wait(self, seconds, *socks):
        """Until something comes, or the time is over; orders are obeyed meanwhile."""
        ready = select.select([*socks, 0], [], [], seconds)[0]
        if 0 in ready:
            data = os.read(0, 4096)
            self.orders_end = not data
            *lines, self.stdin = (self.stdin + data).split(b"\n")
            for line in lines:
                self.__dict__.update(json.loads(line))
        if socks and socks[0] in ready:
            self.receive()

    def receive(self):
        data = self.sock.recv(262_144)
        if not data:
            raise EOFError("the broker has closed the connection")
        self.core.receive(data, 0.0)
        self.write()
        if self.handled:
            self.core.send(codec.ack(CHANNEL, self.handled, multiple=True))
            self.handled = 0

    def flush(self):
        if data := self.core.take(0.0):
            self.sock.sendall(data)

    # Replies

    def later(self, seconds, reply):
        self.count += 1
        heapq.heappush(self.due, (time.monotonic() + seconds, self.count, reply))

    def send_due(self):
        now = time.monotonic()
        while self.due and self.due[0][0] <= now:
            reply = heapq.heappop(self.due)[2]
            if reply.until < now:
                continue
            publication = self.publications.get(reply.queue)
            if publication is None:
                publication = codec.Publication(CHANNEL, "", reply.queue, None, True, self.core.frame_max)
                self.publications[reply.queue] = publication
            data = publication.encode(reply.body)
            # a message without a body has no frame for it either
            self.core.send(data if reply.body else data[: -codec.FRAME_OVERHEAD])
            self.tag += 1
            self.unconfirmed[self.tag] = reply

    def answer(self, message, result, **more):
        body = {"result": result, "failure": None, "ending": True, "_msg_id": message["_msg_id"]}
        body |= {"_unique_id": uuid.uuid4().hex, **more}
        return Reply(message["_reply_q"], envelope(body))

    # Events

    def delivered(self, _channel, tag, body):
        self.handled = tag
        message = json.loads(json.loads(body)["oslo.message"])
        marker, unique = marker_of(message["args"]), message["_unique_id"]
        self.note(marker=marker, method=message["method"], unique=unique, link=self.link, pid=os.getpid())
        if message.get("_msg_id") and not self.hold:
            reply = self.answer(message, result_of(message["method"], marker))
            if self.misbehave:
                self._odd(message, reply)
            else:
                self.later(self.latency, reply)

    def _odd(self, message, right):
        """A reply in one of the ways in which none should come. The right one comes last."""
        self.oddities += 1
        name, what = ODDITIES[self.oddities % len(ODDITIES)]
        self.note(event="odd", kind=name, marker=marker_of(message["args"]))
        if name == "late":
            self.later(self.options["deadline"] + 0.8, right)
            return
        for body in what(message, right):
            self.later(0.0, Reply(message["_reply_q"], body))
        self.later(0.02, right)

    def answered(self, token, _fields):
        if token == "consume":
            self.consuming = True
            self.note(event="consuming")
            self.write()

    def confirmed(self, _channel, tag, multiple, _positive):
        tags = [known for known in self.unconfirmed if known <= tag] if multiple else [tag]
        for known in tags:
            reply = self.unconfirmed.pop(known, None)
            if reply is not None and self.homeless.pop(reply.body, None) is not None:
                self.later(RESEND, reply)

    def returned(self, _channel, _code, _text, body):
        for reply in self.unconfirmed.values():
            if reply.body == body:
                self.homeless[body] = reply
                return

    def cancelled(self, _channel, _consumer):
        self.cancelled_by_broker = True
        self.note(event="cancelled")

    def refused(self, _token, error):
        raise error

    def channel_closed(self, _channel, error):
        raise error

    def closed(self, error):
        raise error

    def opened(self):
        """Nothing to do."""

    def blocked(self, reason):
        self.note(event="blocked", reason=reason)
        self.write()


def envelope(body):
    return json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(body)}).encode()


def _changed(message, **more):
    return envelope({"result": None, "failure": None, "ending": True, "_msg_id": message["_msg_id"], **more})


#: Kind -> bodies that come before the right reply, from the message and that reply.
ODDITIES = [
    ("right", lambda _message, _right: []),
    ("twice", lambda _message, right: [right.body]),
    ("for nobody", lambda message, _right: [_changed({**message, "_msg_id": uuid.uuid4().hex}, result="WRONG")]),
    ("no json", lambda _message, _right: [b"\x00\xff{", b"", b"x" * 300_000, b"{" * 100_000]),
    ("no message", lambda _message, _right: [b"[]", b"{}", b'{"oslo.message": 5}', b'{"oslo.message": "[]"}', b"null"]),
    ("no id", lambda _message, _right: [envelope({"result": "WRONG"}), envelope({"_msg_id": [1], "ending": True})]),
    ("bad failure", lambda message, _right: [_changed(message, failure="{"), _changed(message, failure=7)]),
    ("sign of life", lambda message, _right: [_changed(message, ending=False)] * 3),
    ("compressed noise", lambda _message, _right: [b"x\x9c" + b"\xff" * 64, b"BZh9" + b"\x00" * 64]),
    ("late", None),
]


if __name__ == "__main__":
    Responder(json.loads(sys.argv[1])).run()

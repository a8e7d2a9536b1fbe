"""A stand-in for heat-engine that costs next to nothing. A program; runs until it is told to end.

In: TRANSPORT_URL in the environment. It consumes from the queue ``engine`` and gives every method of _rpc_data.replies
its answer, list_stacks as many rows as its limit says. It does not parse: the few things it has to know of a message
are looked for in its bytes. So it costs a call about 20 microseconds of CPU, which _rpc.py measures beside each client.

Long lists are answered by a process of their own over a connection of their own: an engine has several workers too, and
stock oslo.messaging a pool of connections for replies, so a long one holds up no short ones.

--delay holds every answer back, and costs no more.
"""

import argparse
import collections
import json
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
from _rpc_data import replies, row

from heatperf.rpc.amqp import codec
from heatperf.rpc.amqp.connection import Connection, Login

EXCHANGE, QUEUE = "heat", "engine"
_CHANNEL = 1
_RECEIVE = 65_536
#: Rows of a long list.
_LONG = 1000
#: Names as they stand in the text inside the envelope.
_METHOD, _MSG_ID, _REPLY_QUEUE, _LIMIT = (
    b'\\"%b\\":' % name for name in (b"method", b"_msg_id", b"_reply_q", b"limit")
)  # fmt: skip


def text_after(body: bytes, name: bytes) -> bytes | None:
    """The string after a name; None if the name is not there."""
    at = body.find(name)
    if at < 0:
        return None
    start = body.index(b'\\"', at + len(name)) + 2
    return body[start : body.index(b'\\"', start)]


def number_after(body: bytes, name: bytes) -> int | None:
    """The number after a name; None if there is none."""
    at = body.find(name)
    digits = (
        body[at + len(name) : at + len(name) + 12].lstrip().partition(b",")[0].partition(b"}")[0] if at >= 0 else b""
    )
    return int(digits) if digits.isdigit() else None


class Answers:
    """Replies, encoded but for the id of what they answer.

    :param project: whose stacks they are
    """

    def __init__(self, project: str) -> None:
        self._project = project
        self._encoded = {(name, None): self._encode(result) for name, result in replies(project, 1).items()}

    @staticmethod
    def _encode(result: Any) -> bytes:
        # With the spaces and escapes of the real engine's: it is json.dumps there too.
        text = json.dumps({"result": result, "failure": None, "ending": True})
        return b'{"oslo.version": "2.0", "oslo.message": ' + orjson.dumps(text)[:-2] + b', \\"_msg_id\\": \\"'

    def to(self, method: bytes, limit: int | None, msg_id: bytes) -> bytes:
        """:raises KeyError: of a method nobody has prepared"""
        key = method.decode(), limit
        if key not in self._encoded:
            if key[0] != "list_stacks" or limit is None:
                raise KeyError(method)
            self._encoded[key] = self._encode([row(self._project, number) for number in range(limit)])
        return b'%b%b\\", \\"_unique_id\\": \\"%b\\"}"}' % (self._encoded[key], msg_id, msg_id)


class Publisher:
    """One connection that publishes."""

    def __init__(self, url: str) -> None:
        self._arrived: list[tuple[int, bytes]] = []
        self._publications: dict[str, codec.Publication] = {}
        parts = urlsplit(url)
        vhost = unquote(parts.path[1:]) or "/"
        self._sock = socket.create_connection((parts.hostname or "", parts.port or 5672))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        login = Login(parts.username or "", parts.password or "", vhost, heartbeat=0)
        self._connection = Connection(login, self)  # type: ignore[arg-type] # the rest of Events: __getattr__
        while not self._connection.open:
            self._exchange()
        self._connection.open_channel(_CHANNEL, 0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_: None

    def _publication(self, queue: str) -> codec.Publication:
        made = self._publications.get(queue)
        if made is None:
            made = codec.Publication(_CHANNEL, "", queue, None, False, self._connection.frame_max)
            self._publications[queue] = made
        return made

    def publish(self, queue: str, reply: bytes) -> None:
        """It goes out with the next flush."""
        self._connection.send(self._publication(queue).encode(reply))

    def flush(self) -> None:
        """Send all."""
        data = self._connection.take(0)
        if data:
            self._sock.sendall(data)

    def _exchange(self) -> None:
        self.flush()
        data = self._sock.recv(_RECEIVE)
        if not data:
            raise SystemExit("the broker has hung up")
        self._connection.receive(data, 0)


class Responder(Publisher):
    """It consumes as well.

    :param aside: takes who waits for a long list: queue, msg_id, rows
    """

    def __init__(self, url: str, answers: Answers, delay: float, aside: Callable[[bytes, bytes, int], None]) -> None:
        super().__init__(url)
        self._answers = answers
        self._delay = delay
        self._aside = aside
        self._due: collections.deque[tuple[float, str, bytes]] = collections.deque()
        self._consume()

    def _consume(self) -> None:
        nothing = codec.table({})
        send = self._connection.request
        exchange, queue = codec.short_string(EXCHANGE), codec.short_string(QUEUE)
        # As oslo.messaging declares them by default: neither durable nor deleted on their own.
        send(_CHANNEL, codec.EXCHANGE_DECLARE, b"\0\0" + exchange + codec.short_string("topic") + b"\0" + nothing, 0)
        send(_CHANNEL, codec.QUEUE_DECLARE, b"\0\0" + queue + b"\0" + nothing, 0)
        bind = 50 << 16 | 20
        self._connection.send(codec.method(_CHANNEL, bind, b"\0\0" + queue + exchange + queue + b"\1" + nothing))
        send(_CHANNEL, codec.BASIC_CONSUME, b"\0\0" + queue + codec.short_string("e") + b"\0" + nothing, 0)
        self.flush()

    def delivered(self, _channel: int, tag: int, body: bytes) -> None:
        """Of Events."""
        self._arrived.append((tag, body))

    def serve(self) -> None:
        """For ever."""
        while True:
            timeout = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            if not self._delay or select.select([self._sock], [], [], timeout)[0]:
                self._exchange()
            now = time.monotonic()
            for _tag, body in self._arrived:
                self._answer(body, now + self._delay)
            if self._arrived:
                self._connection.send(codec.ack(_CHANNEL, self._arrived[-1][0], True))
                self._arrived.clear()
            while self._due and self._due[0][0] <= time.monotonic():
                _moment, queue, reply = self._due.popleft()
                self.publish(queue, reply)
            self.flush()

    def _answer(self, body: bytes, due: float) -> None:
        msg_id, queue, method = (text_after(body, name) for name in (_MSG_ID, _REPLY_QUEUE, _METHOD))
        if msg_id is None or queue is None or method is None:
            return  # nobody waits for an answer to a cast
        limit = number_after(body, _LIMIT) if method == b"list_stacks" else None
        if limit is not None and limit >= _LONG:
            self._aside(queue, msg_id, limit)
            return
        self._due.append((due, queue.decode(), self._answers.to(method, limit, msg_id)))


def answer_aside(url: str, answers: Answers, delay: float) -> Callable[[bytes, bytes, int], None]:
    """Start the process for long lists.

    :returns: what tells it who waits for one
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(reading)
        return lambda queue, msg_id, rows: _tell(writing, b"%b %b %d\n" % (queue, msg_id, rows))
    os.close(writing)  # the other's end is this one's
    os.nice(10)  # an engine has a machine of its own: what it takes for a list is no business of those measured here
    publisher = Publisher(url)
    with open(reading, "rb") as lines:
        for line in lines:
            queue, msg_id, rows = line.split()
            time.sleep(delay)
            publisher.publish(queue.decode(), answers.to(b"list_stacks", int(rows), msg_id))
            publisher.flush()
    os._exit(0)


def _tell(pipe: int, line: bytes) -> None:
    os.write(pipe, line)  # in one piece, as it is short


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", required=True)
    parser.add_argument("--delay", type=float, default=0, help="milliseconds")
    options = parser.parse_args()
    url, answers, delay = os.environ["TRANSPORT_URL"], Answers(options.project), options.delay / 1000
    Responder(url, answers, delay, answer_aside(url, answers, delay)).serve()


if __name__ == "__main__":
    main()

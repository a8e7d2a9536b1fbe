"""A load that wrk cannot make: at a constant rate, or an exact number of requests. A program; one epoll loop.

In: a line of JSON on standard input: port, request (a file with its bytes), status, answer (a file, or null: the status
alone is compared), connections, and either rate and seconds, or count. Out: a line of JSON: requests, seconds, rate,
mean_ms, max_ms, percentiles, cpu; or error. _load.py runs it.

At a rate, a request's moment is fixed before the run. Its latency counts from that moment, whether a connection was
free then or not: a server that stops for a second is charged with all that should have been sent in it (coordinated
omission). Connections are made as they are needed, up to as many as were asked for, and kept where the server keeps
them; making one is part of the latency. With a count, each connection sends again as soon as it has its answer, and
exactly so many requests are sent: what a slow server still has to do after a run is nothing.

A request may have the bytes @@UNIQUE@@ in it, which become another number each time.
"""

import collections
import errno
import gc
import json
import os
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any

#: Seconds for one answer.
PATIENCE = 90.0
UNIQUE = b"@@UNIQUE@@"
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9)
_RECEIVE = 262_144
_CHUNK = 65_536


class Broken(Exception):
    """A wrong answer, or none."""


class Connection:
    """One request under way at a time."""

    __slots__ = ("data", "due", "expected", "left", "parts", "sock")

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self.due = 0.0
        self.left = memoryview(b"")
        self.data = b""
        self.parts: list[bytes] = []  # of a long body
        self.expected = -1  # bytes of the answer that have not come; -1 before its head is complete


class Load:
    """See the module's text."""

    def __init__(self, command: dict[str, Any]) -> None:
        self._address = "127.0.0.1", command["port"]
        self._request = Path(command["request"]).read_bytes()
        self._unique = UNIQUE in self._request
        self._status = command["status"]
        self._answer = None if command["answer"] is None else Path(command["answer"]).read_bytes()
        self._free = [Connection() for _ in range(command["connections"])]
        self._busy: dict[int, Connection] = {}
        self._epoll = select.epoll()
        self._latencies: list[float] = []
        self._sent = 0
        # Of all runs on this machine: stacks are told apart by it.
        self._number = time.time_ns() // 1000 % 10**10

    def at_rate(self, rate: float, seconds: float) -> None:
        """Send at fixed moments, and wait for all answers."""
        clock, free = time.perf_counter, self._free
        count, waiting = int(rate * seconds), collections.deque[float]()
        began, planned = clock() + 0.01, 0
        while len(self._latencies) < count:
            now = clock()
            while planned < count and began + planned / rate <= now:
                waiting.append(began + planned / rate)
                planned += 1
            while waiting and free:
                self._begin(free.pop(), waiting.popleft())
            self._turn(max(0.0, began + planned / rate - clock()) if planned < count else PATIENCE)

    def count(self, count: int) -> None:
        """Send so many."""
        while len(self._latencies) < count:
            while self._free and self._sent < count:
                self._begin(self._free.pop(), time.perf_counter())
            self._turn(PATIENCE)

    def result(self) -> dict[str, float]:
        """Of the answers; latencies in milliseconds."""
        found = sorted(self._latencies)
        made = {f"p{share:g}_ms": round(1000 * found[int((len(found) - 1) * share / 100)], 3) for share in PERCENTILES}
        mean, largest = round(1000 * sum(found) / len(found), 3), round(1000 * found[-1], 3)
        return {"requests": len(found), "mean_ms": mean, "max_ms": largest, **made}

    def _turn(self, timeout: float) -> None:
        # epoll's own timeout is whole milliseconds, which is much where a request comes every 300 microseconds.
        if not select.select([self._epoll], [], [], timeout)[0]:
            if timeout == PATIENCE:
                raise Broken(f"no answer within {PATIENCE:g} s")
            return
        for fd, events in self._epoll.poll(0):
            connection = self._busy[fd]
            if connection.left and events & select.EPOLLOUT:
                self._send(connection)
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self._receive(connection)

    def _begin(self, connection: Connection, due: float) -> None:
        connection.due = due
        self._sent += 1
        request = self._request
        if self._unique:
            self._number += 1
            request = request.replace(UNIQUE, b"%010d" % (self._number % 10**10))
        connection.left = memoryview(request)
        sock = connection.sock
        if sock is None:
            connection.sock = sock = socket.socket()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = sock.connect_ex(self._address)
            if code not in (0, errno.EINPROGRESS):
                raise Broken(os.strerror(code))
            self._epoll.register(sock.fileno(), select.EPOLLIN)
            self._busy[sock.fileno()] = connection
            if code:
                self._epoll.modify(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
                return
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        sock = connection.sock
        assert sock is not None
        interest = select.EPOLLIN
        while connection.left:
            try:
                connection.left = connection.left[sock.send(connection.left[:_CHUNK]) :]
            except BlockingIOError:
                interest |= select.EPOLLOUT
                break
        self._epoll.modify(sock.fileno(), interest)

    def _receive(self, connection: Connection) -> None:
        sock = connection.sock
        assert sock is not None
        try:
            data = sock.recv(_RECEIVE)
        except BlockingIOError:
            return
        if not data:
            raise Broken(f"the server has closed a connection after {connection.data[:300]!r}")
        if connection.expected >= 0:
            connection.parts.append(data)
            connection.expected -= len(data)
        else:
            connection.data += data
            head, end, body = connection.data.partition(b"\r\n\r\n")
            if not end:
                return
            connection.data, connection.parts = head, [body]
            connection.expected = self._length(head) - len(body)
        if connection.expected <= 0:
            self._done(connection)

    @staticmethod
    def _length(head: bytes) -> int:
        for line in head.split(b"\r\n")[1:]:
            name, _colon, value = line.partition(b":")
            if name.lower() == b"content-length":
                return int(value)
        raise Broken("an answer has no Content-Length")

    def _done(self, connection: Connection) -> None:
        now = time.perf_counter()
        head, body = connection.data, b"".join(connection.parts)
        if not head.startswith(b"HTTP/1.1 %d " % self._status) or (self._answer is not None and body != self._answer):
            line = head.partition(b"\r\n")[0]
            raise Broken(f"wrong answer: {line!r} {body[:300]!r}")
        self._latencies.append(now - connection.due)
        connection.data, connection.parts, connection.expected = b"", [], -1
        sock = connection.sock
        if sock is not None and b"connection: close" in head.lower():
            del self._busy[sock.fileno()]
            sock.close()  # which takes it from epoll
            connection.sock = None
        self._free.append(connection)


def main() -> None:
    """Run once."""
    command = json.loads(sys.stdin.readline())
    gc.disable()
    try:
        load = Load(command)
        began, cpu = time.perf_counter(), time.process_time()
        if "count" in command:
            load.count(command["count"])
        else:
            load.at_rate(command["rate"], command["seconds"])
        seconds = time.perf_counter() - began
        result = load.result()
        result |= {"seconds": round(seconds, 3), "rate": round(result["requests"] / seconds, 1)}
        print(json.dumps({**result, "cpu": round(time.process_time() - cpu, 3)}))
    except (Broken, OSError) as error:
        print(json.dumps({"error": str(error)}))


if __name__ == "__main__":
    main()

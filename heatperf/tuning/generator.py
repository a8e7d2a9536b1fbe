"""The load of a measurement: keep-alive HTTP/1.1 GETs of fixed bytes, each connection with one request under way.

Two ends. Generator, in the process of ``heatperf tune``, starts processes of ``python -P -m heatperf.tuning.generator``
and adds up what they say. Each of those is one epoll loop without threads. It reads lines of JSON on standard input and
writes lines of JSON on standard output:

    {"address", "requests", "connections", "cpus"}  ->  {"ready": true}
    {"seconds"}                                     ->  a Window, as often as asked; connections stay open
    end of input                                    ->  it leaves

An answer is only looked at as far as needed to know that it is the right one and where it ends: the first of each kind
is understood (status, Content-Length), the rest are expected to be as long. Raises LoadError with what went wrong.

Latency includes the time for which the answer waits in the kernel while this process is busy with others; so it is only
worth something where the generator was not the limit, which ``busy`` tells.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from heatperf.errors import HeatperfError

#: Steps of the histogram per doubling: 2**5 = 32, which is 3 % at most.
BITS = 5
#: Seconds for connections to be made, and for an answer that does not come.
PATIENCE = 10.0
LARGEST_HEAD = 65_536


class LoadError(HeatperfError):
    """The load could not be put on: nobody listens, a wrong answer, a connection that ended."""


@dataclass(frozen=True)
class Request:
    """:param target: path and query
    :param status: of the answer that is right
    """

    target: str
    status: int
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self) -> bytes:
        """The bytes on the wire."""
        lines = [f"GET {self.target} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode()


@dataclass
class Window:
    """What was seen in a stretch of time, by one process or by all of them together.

    :param seconds: how long it was
    :param answers: how many came
    :param cpu: seconds of CPU the generator took
    :param busiest: CPU share of the process of it that was busiest, 0 to 1
    :param latencies: step of the histogram -> answers, see step()
    """

    seconds: float = 0.0
    answers: int = 0
    cpu: float = 0.0
    busiest: float = 0.0
    latencies: dict[int, int] = field(default_factory=dict)

    def add(self, other: Window) -> None:
        """Take in what another process saw in the same stretch of time."""
        self.seconds = max(self.seconds, other.seconds)
        self.answers += other.answers
        self.cpu += other.cpu
        self.busiest = max(self.busiest, other.busiest)
        for number, count in other.latencies.items():
            self.latencies[number] = self.latencies.get(number, 0) + count

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds if self.seconds else 0.0

    def latency(self, share: float) -> float:
        """
        :param share: 0.5 for the median, 0.99 for what one of a hundred exceeds
        :returns: microseconds, at most 3 % too many; 0 without answers
        """
        left = share * sum(self.latencies.values())
        for number in sorted(self.latencies):
            left -= self.latencies[number]
            if left <= 0:
                return float(edge(number))
        return 0.0


def step(microseconds: int) -> int:
    """:returns: the step of the histogram for a latency"""
    shift = max(0, microseconds.bit_length() - BITS - 1)
    return (shift << BITS) + (microseconds >> shift)


def edge(number: int) -> int:
    """:returns: microseconds, the largest of a step"""
    shift = max(0, (number >> BITS) - 1)
    return ((number - (shift << BITS) + 1) << shift) - 1


class Generator:
    """The processes together. Use it as a context manager.

    :param address: (host, port), or the path of a unix socket
    :param requests: sent in turn on every connection
    :param processes: how many
    :param connections: in all
    :param cpus: where they may run; None: wherever this process may
    :raises LoadError: they cannot connect
    """

    def __init__(
        self,
        address: tuple[str, int] | str,
        requests: Sequence[Request],
        processes: int = 1,
        connections: int = 16,
        cpus: Sequence[int] | None = None,
    ) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        share = [connections // processes + (number < connections % processes) for number in range(processes)]
        try:
            for count in share:
                self._start(address, requests, count, cpus)
            for process in self._processes:
                self._hear(process)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _start(
        self, address: tuple[str, int] | str, requests: Sequence[Request], connections: int, cpus: Sequence[int] | None
    ) -> None:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, a module of ours
            [sys.executable, "-P", "-m", "heatperf.tuning.generator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        asked = {"address": address, "connections": connections, "cpus": list(cpus or ())}
        self._tell(process, {**asked, "requests": [(each.encode().decode(), each.status) for each in requests]})

    @property
    def pids(self) -> list[int]:
        """Of its processes."""
        return [process.pid for process in self._processes]

    def run(self, seconds: float) -> Window:
        """Put the load on for a while.

        :raises LoadError: an answer is wrong, or a connection has ended
        """
        for process in self._processes:
            self._tell(process, {"seconds": seconds})
        total = Window()
        for process in self._processes:
            answer = self._hear(process)
            counts = {int(number): count for number, count in answer.pop("latencies").items()}
            total.add(Window(**answer, latencies=counts))
        return total

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        self._processes.clear()

    @staticmethod
    def _tell(process: subprocess.Popen[str], message: dict[str, Any]) -> None:
        pipe: IO[str] | None = process.stdin
        assert pipe is not None  # noqa: S101 - asked for with PIPE
        with contextlib.suppress(BrokenPipeError):  # it has ended; hearing it will say so
            pipe.write(json.dumps(message) + "\n")
            pipe.flush()

    @staticmethod
    def _hear(process: subprocess.Popen[str]) -> dict[str, Any]:
        pipe: IO[str] | None = process.stdout
        assert pipe is not None  # noqa: S101 - asked for with PIPE
        line = pipe.readline()
        if not line:
            raise LoadError(f"a process of the load generator has ended with code {process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LoadError(answer["error"])
        return answer


# In its processes


class _Connection:
    """One of them, with what it waits for."""

    __slots__ = ("data", "kind", "sent", "sock")

    def __init__(self, sock: socket.socket, kind: int) -> None:
        self.sock = sock
        self.kind = kind  # which of the requests is under way
        self.sent = 0  # when, monotonic ns
        self.data = b""


class _Load:
    """One process of the generator."""

    def __init__(self, message: dict[str, Any]) -> None:
        self._requests = [text.encode() for text, _status in message["requests"]]
        self._statuses = [b"HTTP/1.1 %d " % status for _text, status in message["requests"]]
        self._lengths = [0] * len(self._requests)
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        if message["cpus"]:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, message["cpus"])
        address = message["address"]
        for number in range(message["connections"]):
            sock = self._connect(tuple(address) if isinstance(address, list) else address)
            self._connections[sock.fileno()] = _Connection(sock, number % len(self._requests))
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    @staticmethod
    def _connect(address: tuple[str, int] | str) -> socket.socket:
        deadline = time.monotonic() + PATIENCE
        while True:
            sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
            sock.settimeout(PATIENCE)
            try:
                sock.connect(address)
                if not isinstance(address, str):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
            except OSError as error:
                sock.close()
                # A unix socket with a full queue says so at once, a TCP one waits.
                if error.errno != errno.EAGAIN or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def run(self, seconds: float) -> Window:
        """Send on all connections, and again on each as its answer comes; at the end wait for what is under way."""
        clock, began, cpu = time.monotonic_ns, time.monotonic_ns(), time.process_time()
        end = began + int(seconds * 1e9)
        steps: dict[int, int] = {}
        for connection in self._connections.values():
            self._send(connection)
        answers, now = 0, began
        while now < end:
            events = self._epoll.poll(PATIENCE)
            if not events:
                raise LoadError(f"no answer within {PATIENCE:g} s")
            for fd, _events in events:
                connection = self._connections[fd]
                if self._receive(connection):
                    now = clock()
                    number = step((now - connection.sent) // 1000)
                    steps[number] = steps.get(number, 0) + 1
                    answers += 1
                    self._send(connection)
            now = clock()
        lasted, used = (now - began) / 1e9, time.process_time() - cpu
        self._settle()
        return Window(lasted, answers, used, used / lasted, steps)

    def _settle(self) -> None:
        under_way = set(self._connections)
        while under_way:
            events = self._epoll.poll(PATIENCE)
            if not events:
                raise LoadError(f"no answer within {PATIENCE:g} s")
            under_way -= {fd for fd, _events in events if self._receive(self._connections[fd])}

    def _send(self, connection: _Connection) -> None:
        kind = connection.kind + 1
        connection.kind = kind = kind if kind < len(self._requests) else 0
        connection.sent = time.monotonic_ns()
        # Small and alone on its way: the kernel takes all of it.
        connection.sock.send(self._requests[kind])

    def _receive(self, connection: _Connection) -> bool:
        """Whether the answer is complete."""
        data = connection.sock.recv(65_536)
        if not data:
            raise LoadError("the server has closed a connection")
        if connection.data:
            data = connection.data + data
        expected = self._lengths[connection.kind]
        if len(data) != expected and len(data) < self._understand(connection.kind, data):
            connection.data = data
            return False
        connection.data = b""
        if not data.startswith(self._statuses[connection.kind]):
            wanted, line = self._statuses[connection.kind].decode().strip(), data.split(b"\r\n")[0][:80]
            raise LoadError(f"the answer was {line.decode('latin-1')!r} where {wanted} was expected")
        return True

    def _understand(self, kind: int, data: bytes) -> int:
        """:returns: length of the answer that begins so"""
        head, end, _body = data.partition(b"\r\n\r\n")
        if not end:
            if len(data) > LARGEST_HEAD:
                raise LoadError("an answer's head does not end")
            return LARGEST_HEAD + 1
        for line in head.split(b"\r\n")[1:]:
            name, _colon, value = line.partition(b":")
            if name.lower() == b"content-length" and value.strip().isdigit():
                self._lengths[kind] = length = len(head) + 4 + int(value)
                return length
        raise LoadError("an answer has no Content-Length")


def main() -> None:
    """One process of the generator, until its standard input ends."""

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), flush=True)

    try:
        load = _Load(json.loads(sys.stdin.readline()))
        say({"ready": True})
        for line in sys.stdin:
            say(asdict(load.run(json.loads(line)["seconds"])))
    except (LoadError, OSError) as error:
        say({"error": str(error)})
    except (BrokenPipeError, KeyboardInterrupt):
        pass


if __name__ == "__main__":
    main()

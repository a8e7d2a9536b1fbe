"""Clients that send requests without a pause, and note about each what became of it.

Comes in: the port of a server. Goes out: a Record per request. Raises nothing in the clients' threads: whatever is not
exactly the answer that was asked for is a failure, and its reason is in the record.

A client of a kept connection opens another one only where the answer has said ``Connection: close``, or after a
failure. One that finds its connection closed otherwise has a failed request.
"""

import contextlib
import enum
import json
import random
import socket
import ssl
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

# Nothing here takes longer, unless it hangs.
PATIENCE = 20.0
# Before the next attempt of a client whose connection was refused.
RETRY_INTERVAL = 0.02
# An answer's head is a few hundred bytes.
MAX_HEAD = 16_384


class Outcome(enum.Enum):
    """What became of a request."""

    ANSWERED = "answered"
    REFUSED = "refused"  # nobody listened
    CUT = "cut"  # end of file or reset, before the answer was complete
    WRONG = "wrong"  # an answer, but not the right one
    HUNG = "hung"


class Broken(Exception):
    """Not the answer that was asked for."""

    def __init__(self, outcome, reason):
        super().__init__(reason)
        self.outcome = outcome


@dataclass(slots=True)
class Record:
    """One request. Times are of time.monotonic(); 0.0 for what has not happened.

    :ivar first: it was the first on its connection
    :ivar connected: when connect returned
    :ivar sent: when all of it was with the kernel
    :ivar pid: of the worker: what this answer says, else what an earlier one on the connection has said; 0: not known
    :ivar value: of the answer's X-Generation
    """

    kind: str
    first: bool = True
    began: float = 0.0
    connected: float = 0.0
    sent: float = 0.0
    ended: float = 0.0
    outcome: Outcome = Outcome.ANSWERED
    reason: str = ""
    pid: int = 0
    value: int = -1
    retries: int = 0

    def __str__(self):
        place = "first" if self.first else "later"
        sent = f"{self.ended - self.sent:.3f} s after it was sent" if self.sent else "before it was sent"
        return f"{self.kind}, {place} request of its connection, worker {self.pid or '?'}: {self.reason} ({sent})"


@dataclass
class Answer:
    """What exchange() has read."""

    pid: int
    value: int
    closing: bool  # said Connection: close


def request(target, close):
    """The bytes of a GET; see exchange."""
    wish = "Connection: close\r\n" if close else ""
    return f"GET {target} HTTP/1.1\r\nHost: heat.example\r\n{wish}\r\n".encode()


def exchange(sock, target, close, record=None):
    """Send a GET and read the answer.

    :param sock: connected
    :param target: "/" and perhaps a query
    :param close: ask for the end of the connection, and wait for it
    :param record: gets the time of sending
    :raises Broken: there is no such answer
    """
    try:
        sock.sendall(request(target, close))
        if record is not None:
            record.sent = time.monotonic()
        return _read_answer(sock, close)
    except TimeoutError:
        raise Broken(Outcome.HUNG, f"nothing came for {PATIENCE:g} s") from None
    except OSError as exc:
        raise Broken(Outcome.CUT, str(exc)) from None


class Rush:
    """Connections made all at once, half of them with a request; the others send theirs later."""

    def __init__(self, port, size):
        self._socks = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(size)]
        for sock in self._socks[::2]:
            sock.sendall(request("/", close=False))

    def settle(self):
        """Send the other half and read all answers.

        :returns: the reasons of those that failed
        """
        reasons = []
        for index, sock in enumerate(self._socks):
            with sock:
                try:
                    if index % 2 == 0:
                        _read_answer(sock, close=False)
                    else:
                        exchange(sock, "/", close=False)
                except (Broken, OSError) as exc:
                    reasons.append(f"{'second' if index % 2 else 'first'} half of the rush: {exc}")
        return reasons


def _read_answer(sock, close):
    data = b""
    while b"\r\n\r\n" not in data:
        if len(data) > MAX_HEAD:
            raise Broken(Outcome.WRONG, f"no end of the head: {data[:100]!r}")
        data += _receive(sock, data)
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
    if not status.startswith("HTTP/1.1 300 "):
        raise Broken(Outcome.WRONG, status)
    for name in ("content-length", "x-worker", "x-generation"):
        if not headers.get(name, "").isdigit():
            raise Broken(Outcome.WRONG, f"{name} is missing in {headers}")
    length = int(headers["content-length"])
    while len(body) < length:
        body += _receive(sock, data + body)
    if close:
        while more := sock.recv(65_536):
            body += more
    if len(body) > length:
        raise Broken(Outcome.WRONG, f"{len(body) - length} bytes too many")
    try:
        versions = json.loads(body)["versions"]
    except (ValueError, KeyError):
        versions = None
    if not versions:
        raise Broken(Outcome.WRONG, f"not the list of versions: {body[:100]!r}")
    closing = headers.get("connection", "").lower() == "close"
    if close and not closing:
        raise Broken(Outcome.WRONG, "Connection: close was asked for and not answered")
    return Answer(int(headers["x-worker"]), int(headers["x-generation"]), closing)


def _receive(sock, before):
    data = sock.recv(65_536)
    if not data:
        raise Broken(Outcome.CUT, f"end of file after {len(before)} bytes of the answer")
    return data


@dataclass
class Habit:
    """How a client behaves.

    :ivar kept: one connection for all requests, else one for each
    :ivar pause: most seconds between two requests
    :ivar delays: seconds that the server is asked to wait, one of them at random
    """

    name: str
    kept: bool
    pause: float
    delays: tuple[float, ...] = field(default=(0.0,))


MOSTLY_QUICK = (0.0,) * 9 + (0.05,)
#: Half of them keep their connections.
CROWD = (
    [Habit("kept", True, 0.04, MOSTLY_QUICK)] * 3
    + [Habit("new", False, 0.04, MOSTLY_QUICK)] * 4
    + [Habit("kept, often idle", True, 1.0)]
    + [Habit("kept, slow", True, 0.02, (0.05, 0.3))]
    + [Habit("new, slow", False, 0.02, (0.05, 0.3))]
)
#: For the end of a server: some requests take long, and some connections are idle for long.
LEAVING_CROWD = [
    *CROWD,
    Habit("kept, idle for long", True, 2.0),
    Habit("kept, long requests", True, 0.02, (0.3, 1.2)),
    Habit("new, long requests", False, 0.02, (0.3, 1.2)),
]


class Traffic:
    """Clients at work from ``with`` to the end of its block, each in a thread.

    :param retry: try again where a connection is refused, as part of the same request
    :param tls: connect with this ssl.SSLContext
    """

    def __init__(self, port, habits=CROWD, retry=False, tls=None):
        self.port = port
        self.retry = retry
        self.tls = tls
        self.stopped = threading.Event()
        self._clients = [_Client(self, habit) for habit in habits]

    def __enter__(self):
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Let every client finish its request. What it has noted is complete then."""
        self.stopped.set()
        for client in self._clients:
            if client.is_alive():
                client.join()

    @property
    def records(self):
        """All requests that have ended, of each client in order."""
        return [record for client in self._clients for record in list(client.records)]

    def count(self, *outcomes):
        counts = Counter(record.outcome for record in self.records)
        return sum(counts[outcome] for outcome in outcomes)

    def wait_for_more(self, number):
        """Wait until as many more requests have been answered."""
        wanted = self.count(Outcome.ANSWERED) + number
        deadline = time.monotonic() + PATIENCE
        while self.count(Outcome.ANSWERED) < wanted:
            if time.monotonic() > deadline:
                raise AssertionError(f"{number} more requests were not answered within {PATIENCE:g} s")
            time.sleep(0.02)


class _Client(threading.Thread):
    def __init__(self, traffic, habit):
        super().__init__(daemon=True)
        self.records = []
        self._traffic = traffic
        self._habit = habit
        self._chance = random.Random()
        self._sock = None
        self._pid = 0

    def run(self):
        stopped = self._traffic.stopped
        while not stopped.is_set():
            record = Record(self._habit.name, first=self._sock is None, pid=self._pid, began=time.monotonic())
            try:
                self._request(record)
            except Broken as broken:
                record.outcome, record.reason = broken.outcome, str(broken)
                self._hang_up()
            record.ended = time.monotonic()
            self.records.append(record)
            stopped.wait(self._chance.uniform(0.0, self._habit.pause) if record.connected else RETRY_INTERVAL)
        self._hang_up()

    def _request(self, record):
        if self._sock is None:
            self._connect(record)
        record.connected = record.connected or record.began
        delay = self._chance.choice(self._habit.delays)
        close = not self._habit.kept and self._chance.random() < 0.5
        answer = exchange(self._sock, f"/?delay={delay}" if delay else "/", close, record)
        if self._pid not in (0, answer.pid):
            raise Broken(Outcome.WRONG, f"answered by {answer.pid}, on a connection of {self._pid}")
        self._pid = record.pid = answer.pid
        record.value = answer.value
        if answer.closing or not self._habit.kept:
            self._hang_up()

    def _connect(self, record):
        sock = self._connected(record)
        record.connected = time.monotonic()
        try:
            self._sock = sock if self._traffic.tls is None else self._traffic.tls.wrap_socket(sock)
        except TimeoutError:
            raise Broken(Outcome.HUNG, f"no TLS handshake for {PATIENCE:g} s") from None
        except (OSError, ssl.SSLError) as exc:
            raise Broken(Outcome.CUT, f"in the TLS handshake: {exc}") from None

    def _connected(self, record):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self._traffic.port), PATIENCE)
            except ConnectionRefusedError:
                if not self._traffic.retry or time.monotonic() > deadline or self._traffic.stopped.is_set():
                    raise Broken(Outcome.REFUSED, "connection refused") from None
                record.retries += 1
                self._traffic.stopped.wait(RETRY_INTERVAL)
            except TimeoutError:
                raise Broken(Outcome.HUNG, f"no connection for {PATIENCE:g} s") from None
            except OSError as exc:
                raise Broken(Outcome.CUT, f"in connect: {exc}") from None

    def _hang_up(self):
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.close()
        self._sock, self._pid = None, 0

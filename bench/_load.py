"""Sends a workload to a server and checks every answer. In: url and workload. Out: rate, latency, CPU.

wrk sends as much as it can; _paced.py sends at a constant rate, or an exact number of requests.

The right answer is upstream's. Before anything is measured, each server's status, type and body are compared with
upstream's, bodies that are JSON as JSON: upstream writes a space after each comma, others need not. What the server has
answered then, byte by byte, is what every one of its measured answers must be (_check.lua).
"""

import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _paced import UNIQUE
from _paths import BENCH
from _system import cpu_seconds
from _workloads import HOST, Workload
from stack.api import ApiServer

TIMEOUT = 90


class WrongAnswer(Exception):
    """A server answered something else than upstream; the text shows both."""


@dataclass(frozen=True)
class Answer:
    """What a client sees of an answer, request ids and dates aside."""

    status: int
    kind: str
    body: bytes

    def same(self, other: "Answer") -> bool:
        """Equal, or equal as JSON."""
        if (self.status, self.kind) != (other.status, other.kind):
            return False
        if self.body == other.body:
            return True
        try:
            return bool(json.loads(self.body) == json.loads(other.body))
        except ValueError:
            return False


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    token: str
    project: str

    def headers(self, workload: Workload) -> dict[str, str]:
        """Of the workload's request."""
        own = {"X-Auth-Token": self.token} if workload.authenticated else {}
        return {"Host": HOST, **own, **dict(workload.headers)}

    def path(self, workload: Workload) -> str:
        return workload.path.format(project=self.project)


def ask(server: ApiServer, workload: Workload, caller: Caller) -> Answer:
    """One request, outside any measurement."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    body = workload.body
    if body is not None:
        body = body.replace(UNIQUE.decode(), f"{time.time_ns() // 1000 % 10**10:010d}")
    try:
        connection.request(workload.method, caller.path(workload), body, caller.headers(workload))
        answer = connection.getresponse()
        kind = (answer.headers["Content-Type"] or "").partition(";")[0].strip().lower()
        return Answer(answer.status, kind, answer.read())
    finally:
        connection.close()


def agreed(server: ApiServer, workload: Workload, caller: Caller, reference: Answer | None) -> Answer:
    """The answer that every measured one of this server must equal.

    :param reference: upstream's; None if the server is upstream
    :raises WrongAnswer: it is not upstream's, not the workload's status, or not the same twice
    """
    # A server that has just started asks Keystone, which may have other things to do: that is not what is measured.
    for _ in range(3):
        answer = ask(server, workload, caller)
        if answer.status != 503:
            break
        time.sleep(1)
    # Where one takes many seconds, once has to do.
    again = answer if workload.count == 1 else ask(server, workload, caller)
    if answer.status != workload.status:
        raise WrongAnswer(f"{server.name}: {workload.name}: {answer}")
    if again.status != answer.status or (workload.same and again != answer):
        raise WrongAnswer(f"{server.name}: {workload.name}: {answer}, and then {again}")
    if reference is not None and workload.same and not answer.same(reference):
        raise WrongAnswer(f"{server.name}: {workload.name}: {answer}; upstream: {reference}")
    return answer


@dataclass(frozen=True)
class Load:
    """How wrk is run.

    :param seconds: of one measurement; wrk takes whole ones
    :param cpu: bind wrk to this CPU
    """

    seconds: int
    connections: int
    cpu: int | None = None


@dataclass(frozen=True)
class Sent:
    """One kind of request of a measurement, and the answer that is right."""

    workload: Workload
    expected: Answer
    weight: int = 1


def drive(server: ApiServer, kinds: Sequence[Sent], caller: Caller, load: Load, folder: Path) -> dict[str, float]:
    """Measure once, with wrk.

    :param folder: for what wrk reads
    :returns: requests, seconds, rate (requests per second), cpu_us (per request, all processes of the server),
        mean_ms and max_ms, and percentiles of latency as p50_ms and so on. wrk's clock starts when a request is
        written: the time to connect does not count
    :raises WrongAnswer: any answer differed, or a connection failed
    """
    words = ["wrk", "-t1", f"-c{load.connections}", f"-d{load.seconds}s", "--timeout", f"{TIMEOUT}s", "--latency"]
    if load.cpu is not None:
        words = ["taskset", "-c", str(load.cpu), *words]
    headers: dict[str, str] = {}
    for kind in kinds:
        headers |= caller.headers(kind.workload)
    for name, value in headers.items():
        words += ["-H", f"{name}: {value}"]
    words += ["-s", str(BENCH / "_check.lua"), server.url + caller.path(kinds[0].workload), "--"]
    words.append(str(_manifest(kinds, caller, folder)))
    before = cpu_seconds(server.process.pid)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    spent = cpu_seconds(server.process.pid) - before
    found = re.search(r"^RESULT (.+)$", done.stdout, re.M)
    if done.returncode or not found:
        raise WrongAnswer(f"wrk ended with {done.returncode}: {done.stdout}{done.stderr}")
    values = {name: float(value) for name, value in (pair.split("=") for pair in found[1].split())}
    failed = sum(values[name] for name in ("wrong", "connect", "read", "write", "timeout"))
    if failed or not values["requests"] or values["right"] != values["requests"]:
        raise WrongAnswer(f"{server.name}: {kinds[0].workload.name}: {done.stdout}")
    seconds = values["microseconds"] / 1e6
    result = {
        "requests": int(values["requests"]),
        "seconds": round(seconds, 3),
        "rate": round(values["requests"] / seconds, 1),
        "cpu_us": round(1e6 * spent / values["requests"], 2),
        "mean_ms": round(values["mean"] / 1000, 3),
        "max_ms": round(values["max"] / 1000, 3),
    }
    return result | {f"{name}_ms": value / 1000 for name, value in values.items() if re.fullmatch(r"p[\d.]+", name)}


def _manifest(kinds: Sequence[Sent], caller: Caller, folder: Path) -> Path:
    """What _check.lua reads."""
    lines = []
    for number, kind in enumerate(kinds):
        body, text = folder / f"expected-{number}", folder / f"request-{number}"
        body.write_bytes(kind.expected.body)
        if kind.workload.body is not None:
            text.write_text(kind.workload.body)
        sent = "-" if kind.workload.body is None else str(text)
        lines.append(
            f"{kind.expected.status} {kind.workload.method} {caller.path(kind.workload)} {kind.weight} {body} {sent}\n"
        )
    manifest = folder / "manifest"
    manifest.write_text("".join(lines))
    return manifest


class Paced:
    """A run of _paced.py against a server, which goes on while others do.

    :param how: rate and seconds, or count; and connections
    """

    def __init__(self, server: ApiServer, sent: Sent, caller: Caller, how: dict[str, float]) -> None:
        self._server = server
        self._name = f"{server.name}: {sent.workload.name}"
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        (folder / "request").write_bytes(_encoded(sent.workload, caller))
        command = {"port": server.port, "status": sent.expected.status, "request": str(folder / "request"), **how}
        command["answer"] = None
        if sent.workload.same:
            command["answer"] = str(folder / "answer")
            (folder / "answer").write_bytes(sent.expected.body)
        self._before = cpu_seconds(server.process.pid)
        self._process = subprocess.Popen(
            [sys.executable, BENCH / "_paced.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """End it before its end; there is no result."""
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def result(self) -> dict[str, float]:
        """Wait for its end.

        :returns: as ``drive``; cpu is what the generator took, in seconds
        :raises WrongAnswer: any answer differed, or a connection failed
        """
        text, _ = self._process.communicate()
        spent = cpu_seconds(self._server.process.pid) - self._before
        self._folder.cleanup()
        result: dict[str, float] = json.loads(text or '{"error": "the generator has ended"}')
        if "error" in result:
            raise WrongAnswer(f"{self._name}: {result['error']}")
        return result | {"cpu_us": round(1e6 * spent / result["requests"], 2)}


def _encoded(workload: Workload, caller: Caller) -> bytes:
    """The request on the wire."""
    body = (workload.body or "").encode()
    headers = caller.headers(workload) | ({"Content-Length": str(len(body))} if workload.body is not None else {})
    lines = [f"{workload.method} {caller.path(workload)} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body

"""What is measured, phase by phase. In: a Rig. Out: plain records for the results file (see _results.py).

Servers take turns within a round, A B C D A B C D, so that a change of the machine's mood meets all of them; ratios are
made per round. Runs in the harness' main thread: the parts end with the thread that started them.
"""

import contextlib
import http.client
import json
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import _servers
from _load import Load
from _paths import BENCH
from _rig import CEILING, LOAD_CPU, SERVER_CPU, SWEPT, TWO_BYTES, Record, Rig
from _servers import ServerKind
from _system import leaves, pss, tree
from _workloads import BY_KEY, HOST, HTTP
from stack.api import ApiServer
from stack.process import StackError

import heatperf.loops


@contextlib.contextmanager
def _all_started(rig: Rig, workers: int) -> Iterator[list[tuple[ServerKind, ApiServer]]]:
    with contextlib.ExitStack() as running:
        yield [(kind, running.enter_context(rig.server(kind, workers))) for kind in rig.kinds]


def compare(rig: Rig) -> Iterator[Record]:
    """Every workload on every server. Servers and wrk share all CPUs."""
    plan = rig.plan
    with _all_started(rig, plan.workers) as servers:
        for workload in rig.workloads_of(HTTP):
            expected = {kind.key: rig.expected(server, workload) for kind, server in servers}
            for kind, server in servers:
                rig.warm(server, workload, expected[kind.key])
            for number in range(plan.rounds):
                for kind, server in servers:
                    measured = rig.load(server, workload, expected[kind.key], Load(plan.seconds, plan.connections))
                    yield {"workload": workload.key, "server": kind.key, "round": number, **measured}


def ceiling(rig: Rig) -> Iterator[Record]:
    """One worker on one CPU, wrk on another: the bare loop, and heatperf's pipeline on the same loop.

    The bare loop is measured anew right before each of the others, which is what ``beside`` says.
    """
    plan = rig.plan
    load = Load(plan.sweep_seconds, plan.connections, LOAD_CPU)
    with contextlib.ExitStack() as running:
        bare, logging = (
            running.enter_context(_servers.bare(rig.setting(key, 1, SERVER_CPU), access_log))
            for key, access_log in (("bare", False), ("bare-log", True))
        )
        ours = running.enter_context(_servers.heatperf(rig.setting("heatperf", 1, SERVER_CPU)))
        others = [("bare-log", logging, TWO_BYTES), *(("heatperf", ours, workload) for workload in CEILING)]
        answers = [rig.expected(server, workload) for _key, server, workload in others]
        two_bytes = rig.expected(bare, TWO_BYTES)
        rig.warm(bare, TWO_BYTES, two_bytes)
        for (_key, server, workload), answer in zip(others, answers, strict=True):
            rig.warm(server, workload, answer)
        for number in range(plan.rounds):
            for (key, server, workload), answer in zip(others, answers, strict=True):
                measured = rig.load(bare, TWO_BYTES, two_bytes, load)
                beside = workload.key if key == "heatperf" else key
                yield {"workload": TWO_BYTES.key, "server": "bare", "beside": beside, "round": number, **measured}
                measured = rig.load(server, workload, answer, load)
                yield {"workload": workload.key, "server": key, "round": number, **measured}


def loops(rig: Rig) -> Iterator[Record]:
    """One worker on one CPU, wrk on another: each loop that is installed, bare and with heatperf's pipeline; and the
    plainest loop of gevent and httptools."""
    plan = rig.plan
    load = Load(plan.sweep_seconds, plan.connections, LOAD_CPU)
    with contextlib.ExitStack() as running:
        plain = running.enter_context(_servers.plain(rig.setting("plain", 1, SERVER_CPU)))
        asked = [("plain", "gevent", plain, TWO_BYTES)]
        for loop in heatperf.loops.available():
            at = rig.setting(f"bare-{loop}", 1, SERVER_CPU)
            bare = running.enter_context(_servers.bare(at, loop=loop))
            at = rig.setting(f"heatperf-{loop}", 1, SERVER_CPU)
            ours = running.enter_context(_servers.heatperf(at, loop))
            asked += [("bare", loop, bare, TWO_BYTES)]
            asked += [("heatperf", loop, ours, workload) for workload in CEILING]
        answers = [rig.expected(server, workload) for _key, _loop, server, workload in asked]
        for (_key, _loop, server, workload), answer in zip(asked, answers, strict=True):
            rig.warm(server, workload, answer)
        for number in range(plan.rounds):
            for (key, loop, server, workload), answer in zip(asked, answers, strict=True):
                measured = rig.load(server, workload, answer, load)
                yield {"workload": workload.key, "server": key, "loop": loop, "round": number, **measured}


def workers(rig: Rig) -> Iterator[Record]:
    """Throughput and memory against the number of workers; memory is that after the load."""
    plan = rig.plan
    for count in plan.sweep_workers:
        for kind in rig.kinds:
            with rig.server(kind, count) as server:
                expected = rig.expected(server, SWEPT)
                rig.warm(server, SWEPT, expected)
                for number in range(plan.sweep_rounds):
                    measured = rig.load(server, SWEPT, expected, Load(plan.sweep_seconds, plan.connections))
                    yield {"server": kind.key, "workers": count, "round": number, **measured}
                pid = server.process.pid
                sizes = [pss([worker]) for worker in leaves(pid)]
                yield {"server": kind.key, "workers": count, "pss_total": pss(tree(pid)), "pss_workers": sizes}


def connections(rig: Rig) -> Iterator[Record]:
    """Throughput against the number of connections."""
    plan = rig.plan
    with _all_started(rig, plan.workers) as servers:
        expected = {kind.key: rig.expected(server, SWEPT) for kind, server in servers}
        for count in plan.sweep_connections:
            for number in range(plan.sweep_rounds):
                for kind, server in servers:
                    measured = rig.load(server, SWEPT, expected[kind.key], Load(plan.sweep_seconds, count))
                    yield {"server": kind.key, "connections": count, "round": number, **measured}


def startup(rig: Rig) -> Iterator[Record]:
    """Seconds from the start of the program to its first answer."""
    for number in range(rig.plan.starts):
        for kind in rig.kinds:
            server = rig.server(kind, rig.plan.workers)
            watch = _FirstAnswer(server.port)
            with server:
                yield {"server": kind.key, "round": number, "seconds": watch.seconds()}


class _FirstAnswer:
    """Polls from a thread of its own: the part has to be started from the main thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._found: float | None = None
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def seconds(self) -> float:
        """
        :raises StackError: there was none
        """
        self._thread.join(5)
        if self._found is None:
            raise StackError("no answer to GET /")
        return round(self._found - self._began, 3)

    def _poll(self) -> None:
        while time.monotonic() < self._began + 60:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
                connection.request("GET", "/")
                if connection.getresponse().status == BY_KEY["version"].status:
                    self._found = time.monotonic()
                    return
            time.sleep(0.005)


def idle(rig: Rig) -> Iterator[Record]:
    """Memory that idle keep-alive connections take, in the server's processes; the kernel's buffers are not in it."""
    count = rig.plan.idle
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with _servers.heatperf(rig.setting("idle", rig.plan.workers)) as server:
        expected = rig.expected(server, BY_KEY["version"])
        rig.warm(server, BY_KEY["version"], expected)
        pids = tree(server.process.pid)
        before = pss(pids)
        with contextlib.ExitStack() as opened:
            for _ in range(count):
                _one_request(opened.enter_context(socket.create_connection(("127.0.0.1", server.port), 30)))
            after = pss(pids)
        yield {"server": "heatperf", "connections": count, "bytes_each": round((after - before) / count)}


def _one_request(client: socket.socket) -> None:
    client.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"]}"):
        data = client.recv(4096)
        if not data:
            raise StackError(f"a connection that should stay was closed after {head!r}")
        head += data


def router(rig: Rig) -> Iterator[Record]:
    """Microseconds that the router needs for a request (_router.py)."""
    done = subprocess.run([sys.executable, BENCH / "_router.py"], capture_output=True, text=True, check=False)
    if done.returncode:
        yield {"error": done.stderr.strip().splitlines()[-1]}
        return
    yield from json.loads(done.stdout)


#: In the order in which they run.
PHASES = {
    "compare": compare,
    "ceiling": ceiling,
    "loops": loops,
    "workers": workers,
    "connections": connections,
    "startup": startup,
    "idle": idle,
    "router": router,
}

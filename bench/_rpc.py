"""The phases about RPC: clients alone, and the way of a request through the API server, the broker and an engine.

In: a Rig. Out: plain records for the results file (see _results.py). Everything takes turns as in _measure.py. Runs in
the harness' main thread.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import _servers
import orjson
from _engines import Engine, RpcClient, StockServer, settle
from _load import Answer, Load, Paced, Sent, agreed, ask, drive
from _real_engine import RealEngine
from _responder import Answers
from _rig import Record, Rig
from _rpc_data import PROJECT
from _servers import ServerKind
from _system import cpu_seconds, tree
from _workloads import BY_KEY, ENGINE, RPC, Workload
from stack.api import ApiServer

from heatperf import loops

#: Virtual hosts: the fast responder, the same with a delay, a server of stock oslo.messaging.
FAST, SLOW, STOCK = "fast", "slow", "stock"
LARGE = {"DEFAULT": {"max_template_size": "4000000", "max_json_body_size": "8000000"}}
LEAN = ("lean-gevent", "lean-uvloop", "lean-meinheld")
OURS, STOCKS = "lean-gevent", ("stock-threads", "stock-gevent")


@dataclass(frozen=True)
class Task:
    """What clients are told to do, and which."""

    server: str
    what: str
    payload: str
    concurrency: int
    clients: tuple[str, ...]


TASKS = (
    *(Task(FAST, what, "small", 1, (*LEAN, *STOCKS, "kombu", "raw")) for what in ("call", "cast")),
    *(Task(FAST, what, "small", 32, (*LEAN, *STOCKS, "heat", "raw")) for what in ("call", "cast")),
    *(Task(FAST, what, "small", 256, (OURS, *STOCKS, "raw")) for what in ("call", "cast")),
    Task(FAST, "call", "big", 1, (OURS, "stock-threads", "heat", "kombu", "raw")),
    Task(FAST, "call", "big", 32, (*LEAN, *STOCKS, "heat", "raw")),
    Task(FAST, "call", "big", 256, (OURS, "stock-threads")),
    Task(FAST, "cast", "big", 32, (OURS, *STOCKS, "raw")),
    Task(STOCK, "call", "small", 1, (OURS, "stock-threads", "heat")),
    Task(STOCK, "call", "small", 32, (*LEAN, *STOCKS, "heat")),
    Task(STOCK, "call", "big", 32, (OURS, "stock-threads", "heat")),
)


def _installed(clients: Sequence[str]) -> list[str]:
    """Those whose loop there is: gevent always."""
    missing = {f"lean-{loop}" for loop in loops.LOOPS} - {f"lean-{loop}" for loop in loops.available()}
    return [name for name in clients if name not in missing]


def client(rig: Rig) -> Iterator[Record]:
    """Clients alone, each in a process of its own; what else has to work for them is measured beside."""
    plan, broker = rig.plan, rig.surroundings.broker
    with contextlib.ExitStack() as running:
        project = ["--project", PROJECT]
        engines = {
            FAST: running.enter_context(Engine(rig.folder / "responder", broker, "client-fast", project)),
            STOCK: running.enter_context(StockServer(rig.folder / "stock", broker, "client-stock", project)),
        }
        pairs = dict.fromkeys((task.server, name) for task in TASKS for name in _installed(task.clients))
        clients = {
            (server, name): running.enter_context(
                RpcClient(name, broker.url(engines[server].vhost), rig.folder / f"{server}-{name}.log")
            )
            for server, name in pairs
        }
        for (_server, _name), one in clients.items():
            one.measure(what="call", payload="small", concurrency=1, seconds=0.1)  # connects
        for task in TASKS:
            command = {"what": task.what, "payload": task.payload, "concurrency": task.concurrency}
            for number in range(plan.client_rounds):
                for name in _installed(task.clients):
                    pids = {"broker_us": broker.node_pid, "server_us": engines[task.server].pid}
                    before = {key: cpu_seconds(pid) for key, pid in pids.items()}
                    found = clients[task.server, name].measure(**command, seconds=plan.client_seconds)
                    count = found["messages"]
                    beside = {
                        key: round(1e6 * (cpu_seconds(pid) - before[key]) / count, 2) for key, pid in pids.items()
                    }
                    yield {
                        "client": name,
                        "server": task.server,
                        **command,
                        "round": number,
                        "rate": round(count / found["seconds"], 1),
                        "cpu_us": round(1e6 * found["cpu"] / count, 2),
                        **beside,
                    }


def _acquaint(rig: Rig, server: ApiServer) -> None:
    """See that every worker knows the token and has called the engine: on enough connections, each meets some."""
    workload = BY_KEY["rpc-build"]
    sent = Sent(workload, agreed(server, workload, rig.caller, None))
    Paced(server, sent, rig.caller, {"count": 96, "connections": 32}).result()


def _idle_share(server: ApiServer, seconds: float) -> float:
    """Seconds of CPU per second that a server takes for nothing."""
    settle(server.process.pid)
    before = cpu_seconds(server.process.pid)
    time.sleep(seconds)
    return (cpu_seconds(server.process.pid) - before) / seconds


@contextlib.contextmanager
def _responding(rig: Rig, vhost: str, delay: float = 0.0) -> Iterator[Engine]:
    """A fast responder whose stacks are in the ordinary user's project.

    :param delay: milliseconds
    """
    arguments = ["--project", rig.caller.project, "--delay", str(delay)]
    with Engine(rig.folder / vhost, rig.surroundings.broker, vhost, arguments) as engine:
        yield engine


@contextlib.contextmanager
def _serving(
    rig: Rig, config_file: Path, kinds: Sequence[ServerKind] | None = None
) -> Iterator[list[tuple[ServerKind, ApiServer]]]:
    with contextlib.ExitStack() as running:
        yield [
            (kind, running.enter_context(rig.server(kind, rig.plan.workers, config_file=config_file)))
            for kind in kinds or rig.kinds
        ]


class Contest:
    """Servers that take turns with one workload.

    :param others: name of a field -> process whose CPU is measured beside: engine_us, broker_us
    :param idle: seconds in which to measure what a server takes without any request, which is then taken off: where an
        engine lets few requests pass, timers and watchdogs would count for much. 0: leave it in
    """

    def __init__(
        self,
        rig: Rig,
        servers: Sequence[tuple[ServerKind, ApiServer]],
        others: dict[str, int],
        idle: float = 0.0,
    ) -> None:
        self._rig = rig
        self._servers = servers
        self._others = others
        self._agreed: dict[tuple[str, str], Answer] = {}
        for _kind, server in servers:
            _acquaint(rig, server)
        self._idle = {kind.key: _idle_share(server, idle) if idle else 0.0 for kind, server in servers}

    def among(self, workload: Workload) -> list[tuple[ServerKind, ApiServer]]:
        """The servers that get it: where it takes too long for all, the first and heatperf."""
        chosen = (self._servers[0][0].key, "heatperf")
        return [pair for pair in self._servers if not workload.scarce or pair[0].key in chosen]

    def kinds_of(self, workload: Workload) -> list[tuple[Workload, int]]:
        """What a workload sends, and how often."""
        return [(BY_KEY[key], weight) for key, weight in workload.mix] or [(workload, 1)]

    def prepare(self, workload: Workload) -> None:
        """See that all servers answer as the first, which is upstream's."""
        for part, _weight in self.kinds_of(workload):
            reference: Answer | None = None
            for kind, server in self.among(workload):
                if (kind.key, part.key) not in self._agreed:
                    self._agreed[kind.key, part.key] = agreed(server, part, self._rig.caller, reference)
                reference = reference or self._agreed[kind.key, part.key]

    def measure(self, workload: Workload, rounds: int, seconds: int) -> Iterator[Record]:
        """Every server, in turns."""
        self.prepare(workload)
        if workload.count is None and self._rig.plan.warm:
            for kind, server in self._servers:
                self._once(kind, server, workload, self._rig.plan.warm)
        for number in range(min(rounds, workload.scarce or rounds)):
            for kind, server in self.among(workload):
                settle(server.process.pid)
                before = {name: cpu_seconds(pid) for name, pid in self._others.items()}
                found = self._once(kind, server, workload, seconds)
                idle = 1e6 * self._idle[kind.key] * found["seconds"] / found["requests"]
                found["cpu_us"] = round(max(0.0, found["cpu_us"] - idle), 2)
                for name, pid in self._others.items():
                    found[name] = round(1e6 * (cpu_seconds(pid) - before[name]) / found["requests"], 2)
                yield {"workload": workload.key, "server": kind.key, "round": number, **found}

    def _once(self, kind: ServerKind, server: ApiServer, workload: Workload, seconds: int) -> Record:
        rig = self._rig
        sent = [Sent(part, self._agreed[kind.key, part.key], weight) for part, weight in self.kinds_of(workload)]
        connections = workload.connections or rig.plan.connections
        if workload.count is None:
            return drive(server, sent, rig.caller, Load(seconds, connections), rig.folder)
        how = {"count": max(1, round(workload.count * rig.plan.rpc_share)), "connections": connections}
        return Paced(server, sent[0], rig.caller, how).result()


def http(rig: Rig) -> Iterator[Record]:
    """Requests that reach an engine, which is the fast responder. Servers, broker, responder and wrk share all CPUs."""
    plan, around = rig.plan, rig.surroundings
    chosen = rig.workloads_of(RPC)
    # The delay of the responder is of no interest to who wants to know costs: --engine-delay is for experiments.
    with _responding(rig, FAST, plan.engine_delay) as engine:
        for large in (False, True):
            workloads = [workload for workload in chosen if workload.large is large]
            if not workloads:
                continue
            config_file = around.config(f"fast-{large}", FAST, LARGE if large else {})
            with _serving(rig, config_file) as servers:
                others = {"engine_us": engine.pid, "broker_us": around.broker.node_pid}
                contest = Contest(rig, servers, others)
                for workload in workloads:
                    rounds = plan.rpc_rounds if workload.count is None else plan.heavy_rounds
                    yield from contest.measure(workload, rounds, plan.rpc_seconds)


def engine(rig: Rig) -> Iterator[Record]:
    """The same with a stock heat-engine, which is slower than any API server. Creates come last: they add stacks."""
    plan = rig.plan
    cloud = RealEngine(rig.folder / "cloud", rig.surroundings, plan.engine_rows)
    with cloud as real, _serving(rig, real.config_file) as servers:
        path = real.fill(servers[0][1], rig.caller)
        others = {"engine_us": real.pid, "broker_us": rig.surroundings.broker.node_pid}
        contest = Contest(rig, servers, others, idle=1.0 + plan.rpc_seconds)
        for workload in rig.workloads_of(ENGINE):
            chosen = workload if workload.path else replace(workload, path=path)
            for record in contest.measure(chosen, plan.engine_rounds, plan.rpc_seconds):
                yield record
                settle(real.pid)


def latency(rig: Rig) -> Iterator[Record]:
    """Latency of a list of one at half of what a server can do, which is measured right before."""
    plan, workload = rig.plan, BY_KEY["rpc-list-1"]
    config_file = rig.surroundings.config("latency", FAST, {})
    with _responding(rig, FAST), _serving(rig, config_file) as servers:
        contest = Contest(rig, servers, {})
        expected = {kind.key: Sent(workload, agreed(server, workload, rig.caller, None)) for kind, server in servers}
        for number in range(plan.heavy_rounds):
            found = list(contest.measure(workload, 1, plan.rpc_seconds))
            for (kind, server), capacity in zip(servers, found, strict=True):
                settle(server.process.pid)
                how = {"rate": capacity["rate"] / 2, "seconds": plan.latency_seconds, "connections": 128}
                measured = Paced(server, expected[kind.key], rig.caller, how).result()
                yield {"server": kind.key, "round": number, "capacity": capacity["rate"], **measured}


def _floor(reply: bytes, answer: bytes) -> float:
    """Seconds of CPU that orjson takes to parse a reply, which is JSON in JSON, and to write an answer."""
    prepared = orjson.loads(answer)
    best = []
    for _ in range(5):
        began = time.process_time()
        orjson.loads(orjson.loads(reply)["oslo.message"])
        orjson.dumps(prepared)
        best.append(time.process_time() - began)
    return sorted(best)[len(best) // 2]


def lists(rig: Rig) -> Iterator[Record]:
    """What a list of 10 000 costs beside parsing and writing it, and what it costs others: a list of one, 50 times a
    second, alone and while one client lists 10 000 again and again."""
    plan, large, small = rig.plan, BY_KEY["rpc-list-10000"], BY_KEY["rpc-list-1"]
    config_file = rig.surroundings.config("lists", FAST, {})
    reply = Answers(rig.caller.project).to(b"list_stacks", 10_000, b"0" * 32)
    kinds = [kind for kind in rig.kinds if kind.key in (_servers.COMPARED[0].key, "heatperf")]
    with _responding(rig, FAST), _serving(rig, config_file, kinds) as servers:
        answers = {
            kind.key: [Sent(each, agreed(server, each, rig.caller, None)) for each in (large, small)]
            for kind, server in servers
        }
        steady = {"rate": 50, "seconds": plan.latency_seconds, "connections": 64}
        for _kind, server in servers:
            _acquaint(rig, server)
        for number in range(plan.heavy_rounds):
            for kind, server in servers:
                big, one = answers[kind.key]
                floor = _floor(reply, big.expected.body)
                settle(server.process.pid)
                count = 8 if kind.key == "heatperf" else 2
                cost = Paced(server, big, rig.caller, {"count": count, "connections": 1}).result()
                idle = Paced(server, one, rig.caller, steady).result()
                background = Paced(server, big, rig.caller, {"count": 10_000, "connections": 1})
                busy = Paced(server, one, rig.caller, steady).result()
                background.stop()
                record = {"server": kind.key, "round": number}
                record |= {"cpu_us": cost["cpu_us"], "floor_us": round(1e6 * floor)}
                for name in ("p50_ms", "p99_ms"):
                    record |= {f"idle_{name}": idle[name], f"busy_{name}": busy[name]}
                yield record


#: Calls of a second each at once: what a worker is asked for, or what it can do in a few seconds.
_FLIGHT = {"uwsgi": 4, "uwsgi-router": 4, "uwsgi-threads": 64, "gunicorn": 64}


def flight(rig: Rig) -> Iterator[Record]:
    """Calls that take an engine a second, all at once, in one worker; and that worker's connections to the broker."""
    plan, workload = rig.plan, BY_KEY["rpc-list-1"]
    port = rig.surroundings.broker.port
    config_file = rig.surroundings.config("slow", SLOW, {})
    with _responding(rig, SLOW, 1000.0):
        for kind in rig.kinds:
            with rig.server(kind, 1, config_file=config_file) as server:
                sent = Sent(workload, ask(server, workload, rig.caller))
                count = _FLIGHT.get(kind.key, plan.flight)
                for number in range(plan.heavy_rounds if kind.key == "heatperf" else 1):
                    load = Paced(server, sent, rig.caller, {"count": count, "connections": count})
                    most = 0
                    while load.running:
                        most = max(most, *(connections_to(port, pid) for pid in tree(server.process.pid)))
                        time.sleep(0.1)
                    found = load.result()
                    seconds = round(found["max_ms"] / 1000, 3)
                    yield {"server": kind.key, "round": number, "calls": count, "seconds": seconds, "connections": most}


def connections_to(port: int, pid: int) -> int:
    """Established TCP connections of a process to a port."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[2].rpartition(":")[2], 16) == port and fields[3] == "01":
                inodes.add(f"socket:[{fields[9]}]")
    # Not descriptors: a loop may have two of one connection, to watch its two directions.
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(entry.path))
    return len(found & inodes)


PHASES: dict[str, Any] = {
    "rpc-client": client,
    "rpc-http": http,
    "rpc-latency": latency,
    "rpc-lists": lists,
    "rpc-flight": flight,
    "rpc-engine": engine,
}

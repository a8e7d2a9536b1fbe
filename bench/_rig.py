"""Where phases run: the plan, and the rig that they get. Runs in the harness' main thread."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import _servers
from _cloud import Surroundings
from _load import Answer, Caller, Load, Sent, WrongAnswer, agreed, drive
from _servers import ServerKind, Setting
from _workloads import BY_KEY, HTTP, Workload
from stack.api import ApiServer
from stack.process import StackError

Record = dict[str, Any]

#: What a sweep drives: the whole pipeline, no engine.
SWEPT = BY_KEY["notfound"]
#: Against the bare loop: those that have a bar.
CEILING = tuple(BY_KEY[key] for key in ("version", "notfound", "options", "denied"))
TWO_BYTES = Workload("bare", "two bytes", "/", 200, "the HTTP layer alone", authenticated=False)
#: For server and load generator, where they must not share one.
CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, LOAD_CPU = CPUS[0], CPUS[-1]


@dataclass(frozen=True)
class Plan:
    """How much. Seconds are those of one measurement."""

    rounds: int = 5
    seconds: int = 3
    connections: int = 32
    workers: int = 2
    sweep_rounds: int = 3
    sweep_seconds: int = 2
    sweep_workers: tuple[int, ...] = (1, 2, 3)
    sweep_connections: tuple[int, ...] = (1, 8, 32, 128)
    starts: int = 5
    idle: int = 5000
    warm: int = 1
    client_rounds: int = 5
    client_seconds: float = 1.0
    rpc_rounds: int = 5
    rpc_seconds: int = 2
    #: of what takes long: each sends a count of requests
    heavy_rounds: int = 3
    #: of those counts
    rpc_share: float = 1.0
    engine_rounds: int = 3
    engine_rows: int = 10_000
    #: milliseconds that the fast responder waits before each answer
    engine_delay: float = 0.0
    latency_seconds: int = 4
    flight: int = 500


@dataclass
class Rig:
    """Where phases run: the cloud around the servers, and upstream's answers once ``learn`` has asked for them."""

    folder: Path
    surroundings: Surroundings
    plan: Plan
    kinds: Sequence[ServerKind]
    workloads: Sequence[Workload]
    caller: Caller = field(init=False)
    references: dict[str, Answer] = field(default_factory=dict)
    _started: int = 0

    def __post_init__(self) -> None:
        self.caller = Caller(self.surroundings.token, self.surroundings.project)

    def learn(self) -> None:
        """Ask upstream for the right answers."""
        with self.server(_servers.COMPARED[0], workers=1) as server:
            for workload in {*self.workloads_of(HTTP), *CEILING, SWEPT}:
                self.references[workload.key] = agreed(server, workload, self.caller, None)
            self._prove_the_check(server)

    def _prove_the_check(self, server: ApiServer) -> None:
        """A check that lets one changed byte pass proves nothing.

        :raises StackError: it does
        """
        right = self.references[SWEPT.key]
        for wrong in (replace(right, body=right.body.replace(b"N", b"M", 1)), replace(right, status=right.status + 1)):
            try:
                self.load(server, SWEPT, wrong, Load(1, 1))
            except WrongAnswer:
                continue
            raise StackError(f"wrk took {right} for {wrong}")

    def workloads_of(self, group: Sequence[Workload]) -> list[Workload]:
        """Those of a group that were chosen."""
        return [workload for workload in group if workload in self.workloads]

    def setting(self, name: str, workers: int, cpu: int | None = None, config_file: Path | None = None) -> Setting:
        """With a folder that no other server has.

        :param config_file: another than the surroundings'
        """
        self._started += 1
        return Setting(
            self.folder / f"{self._started}-{name}", config_file or self.surroundings.config_file, workers, cpu
        )

    def server(
        self, kind: ServerKind, workers: int, cpu: int | None = None, config_file: Path | None = None
    ) -> ApiServer:
        """Not started yet; a context manager."""
        return kind.start(self.setting(kind.key, workers, cpu, config_file))

    def expected(self, server: ApiServer, workload: Workload) -> Answer:
        """What every measured answer of this server must be, byte by byte."""
        return agreed(server, workload, self.caller, self.references.get(workload.key))

    def load(self, server: ApiServer, workload: Workload, expected: Answer, load: Load) -> Record:
        """Drive it once; see _load.drive."""
        return drive(server, [Sent(workload, expected)], self.caller, load, self.folder)

    def warm(self, server: ApiServer, workload: Workload, expected: Answer) -> None:
        """Drive it before the first measurement, so that caches are full and code is loaded."""
        if self.plan.warm:
            self.load(server, workload, expected, Load(self.plan.warm, self.plan.connections))

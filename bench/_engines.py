"""What answers RPC in the benchmarks, and the clients that ask, as parts: programs of this folder, started and stopped.

In: a broker of tests/stack. StackError where a program does not start. Runs in the harness' main thread.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _paths import BENCH
from _system import cpu_seconds
from stack import RabbitMQ, StackError
from stack.paths import HEAT_PEER, peer
from stack.process import Part, Process, environment, wait_until

#: Seconds that a client may take for one measurement beyond what it was asked for.
PATIENCE = 90.0


class Engine(Part):
    """A program that consumes from the queue ``engine`` of a virtual host.

    :param arguments: of the program
    """

    name = "responder"
    program = "_responder.py"

    def __init__(self, directory: Path, broker: RabbitMQ, vhost: str, arguments: Sequence[str]) -> None:
        super().__init__(directory)
        self.broker = broker
        self.vhost = vhost
        self.arguments = list(arguments)
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise StackError(f"{self.name} was not started")
        return self._process.pid

    def _start(self) -> None:
        env = environment(TRANSPORT_URL=self.broker.url(self.vhost), PYTHONPATH=str(BENCH))
        words: list[str | Path] = [sys.executable, BENCH / self.program, *self.arguments]
        self._process = Process(f"{self.name}-{self.vhost}", words, self.directory, env)
        self._process.start()
        what = "consume from the queue engine"
        wait_until(lambda: self.broker.consumers("engine", self.vhost) > 0, 30, what, self._process)

    def _stop(self) -> None:
        if self._process:
            self._process.stop()
        self._process = None


class StockServer(Engine):
    """The same answers by stock oslo.messaging."""

    name = "stock-server"
    program = "_stock_server.py"


class RpcClient:
    """One client of _rpc_clients.py. A context manager."""

    def __init__(self, name: str, url: str, log: Path) -> None:
        self.name = name
        self._url = url
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "RpcClient":
        python = peer(HEAT_PEER, "python") if self.name == "heat" else Path(sys.executable)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [python, BENCH / "_rpc_clients.py", "--client", self.name],
                env=environment(TRANSPORT_URL=self._url, PYTHONPATH=str(BENCH)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._hear()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()

    def measure(self, **command: Any) -> dict[str, float]:
        """See _rpc_clients.py.

        :raises StackError: it cannot
        """
        if self._process is None or self._process.stdin is None:
            raise StackError(f"{self.name} was not started")
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> dict[str, float]:
        if self._process is None or self._process.stdout is None:
            raise StackError(f"{self.name} was not started")
        line = self._process.stdout.readline()
        if not line:
            raise StackError(f"the client {self.name} has ended: {self._log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise StackError(f"the client {self.name}: {answer['error']}")
        return answer


def settle(root: int, seconds: float = 30.0) -> None:
    """Wait until a tree of processes has next to nothing to do any more: what nobody waits for may still be under way.

    :param seconds: to wait at most
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = cpu_seconds(root)
        time.sleep(0.1)
        if cpu_seconds(root) - before < 0.01:
            return

"""What becomes of requests when the stock heat-engine is killed in the middle of a call, and started again.

The engine keeps no record, so only what clients see is judged. They ask for stacks by names that nobody has: an answer
(404) holds the name, and costs the engine a look into its database. A lock on the table of stacks makes the calls last
until the engine is killed: it has taken them, acknowledged them, and waits.
"""

import contextlib
import subprocess
import time

from _stage import Stage, until
from _verdict import LOST, TIMED_OUT, none
from stack import HeatEngine, MariaDB

#: Requests that are in the middle of a call for certain, besides those of the load.
IN_CALL = 6
_WAITING = "select count(*) from information_schema.processlist where state like 'Waiting for table%';"


class _Engine(HeatEngine):
    def kill(self):
        """SIGKILL to all its processes; the broker has noticed when this comes back."""
        self._engine.kill()
        until(lambda: self.broker.consumers("engine") == 0, "the broker notices")

    end = HeatEngine.stop


class _Database(MariaDB):
    def _client(self, *arguments, **more):
        login = [
            "--no-defaults",
            "--host=127.0.0.1",
            f"--port={self.port}",
            "--user=heat",
            f"--password={self.password}",
        ]
        command = ["mariadb", *login, "--batch", "--skip-column-names", "--unbuffered", *arguments, "heat"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more)

    @contextlib.contextmanager
    def locked(self, table):
        """Meanwhile nobody else reads it."""
        with self._client(stdin=subprocess.PIPE) as client:
            try:
                client.stdin.write(f"lock tables {table} write;\nselect 'locked';\n")
                client.stdin.flush()
                if client.stdout.readline() != "locked\n":
                    raise AssertionError(f"the table {table} cannot be locked")
                yield
            finally:
                client.stdin.close()

    def waiting(self):
        """How many statements wait for a lock."""
        with self._client("--execute", _WAITING) as client:
            return int(client.stdout.read())


class _StockStage(Stage):
    kinds, kind = ("missing",), "missing"

    def __init__(self, folder, node, database):
        super().__init__(folder, [node], casts=False, clients=6, pause=0.05)
        self._database = database

    def _sections(self, hosts):
        sections = super()._sections(hosts)
        sections["DEFAULT"] |= {"auth_encryption_key": 32 * "0", "num_engine_workers": 1}
        return sections | {"database": {"connection": self._database.url("heat")}}

    def start_engine(self):
        """The engine; it consumes when this comes back."""
        first = not self.engines
        if first:
            # its log is its own affair: it may well hold a traceback
            self.engines.append(_Engine(self.folder / "engine", self.folder / "heat.conf", self.broker))
        self.engine.migrate = first
        return self.engine.start()

    def deliveries(self):
        """Nobody knows."""


def killed_stock(folder, node, turns=2):
    """SIGKILL to the stock heat-engine while it works on calls; it is started again at once."""
    folder.mkdir(parents=True, exist_ok=True)
    with _Database(folder / "mariadb", ["heat"]) as database, _StockStage(folder, node, database) as stage:
        for _ in range(turns):
            stage.warm_up(40)
            stage.strike()
            with database.locked("stack"):
                in_call = stage.begin(IN_CALL)
                until(lambda: database.waiting() >= IN_CALL, "the engine works on calls", interval=0.1)
                stage.engine.kill()
            # These find no engine, and wait in the queue for one.
            stage.last(0.5)
            began = time.monotonic()
            stage.start_engine()
            stage.well()
            booted = time.monotonic() - began
            none(
                (r for r in in_call() if r.error not in (TIMED_OUT, LOST)),
                "were in the middle of a call, and had another end than that nobody knows of it",
            )
        stage.warm_up(40)
        return f"{turns} times; the engine takes {booted:.1f} s to start; {stage.finish()}"

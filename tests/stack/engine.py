"""The stock heat-engine, from an openstack-heat package in .peers/heat-*.

In: a heat.conf. Out: an engine that consumes from the queue ``engine``, beside others that do so already.
"""

from pathlib import Path

from .paths import HEAT_PEER, peer
from .process import Part, Process, environment, run, wait_until
from .rabbitmq import RabbitMQ


class HeatEngine(Part):
    """heat-engine with the workers that heat.conf asks for; its database is migrated first, unless told otherwise."""

    name = "heat-engine"

    def __init__(
        self,
        directory: Path,
        config_file: Path,
        broker: RabbitMQ,
        vhost: str = "/",
        release: str = HEAT_PEER,
        migrate: bool = True,
    ) -> None:
        super().__init__(directory)
        self.config_file = config_file
        self.broker = broker
        self.vhost = vhost
        self.release = release
        self.migrate = migrate
        self._engine: Process | None = None

    @property
    def pid(self) -> int:
        """Process id of the engine's parent process."""
        if self._engine is None:
            raise RuntimeError("heat-engine was not started")
        return self._engine.pid

    def _start(self) -> None:
        options = ["--config-file", str(self.config_file)]
        # A name of its own: engines of several releases would share the per-server queue of the machine's name.
        (self.directory / "host.conf").write_text(f"[DEFAULT]\nhost = {self.release}\n")
        if self.migrate:
            migration = [peer(self.release, "heat-manage"), *options, "db_sync"]
            run(migration, timeout=120, env=environment(), cwd=self.directory)
        consumers = self.broker.consumers("engine", self.vhost)
        # It waits for its threads when told to end, which may take half a minute; nothing is left to lose by then.
        command = [peer(self.release, "heat-engine"), *options, "--config-file", self.directory / "host.conf"]
        self._engine = Process("heat-engine", command, self.directory, stop_timeout=3)
        self._engine.start()
        wait_until(
            lambda: self.broker.consumers("engine", self.vhost) > consumers,
            90,
            "consume from queue engine",
            self._engine,
            0.2,
        )

    def _stop(self) -> None:
        if self._engine:
            self._engine.stop()
        self._engine = None

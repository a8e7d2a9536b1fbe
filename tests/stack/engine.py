"""The stock heat-engine, from the openstack-heat package in .peers/heat-27.

In: a heat.conf. Out: an engine that consumes from the queue ``engine``. Its database is migrated first.
"""

from pathlib import Path

from .paths import HEAT_PEER, peer
from .process import Part, Process, environment, run, wait_until
from .rabbitmq import RabbitMQ


class HeatEngine(Part):
    """heat-engine with the workers that heat.conf asks for."""

    name = "heat-engine"

    def __init__(self, directory: Path, config_file: Path, broker: RabbitMQ, vhost: str = "/") -> None:
        super().__init__(directory)
        self.config_file = config_file
        self.broker = broker
        self.vhost = vhost
        self._engine: Process | None = None

    @property
    def pid(self) -> int:
        """Process id of the engine's parent process."""
        if self._engine is None:
            raise RuntimeError("heat-engine was not started")
        return self._engine.pid

    def _start(self) -> None:
        options = ["--config-file", str(self.config_file)]
        run([peer(HEAT_PEER, "heat-manage"), *options, "db_sync"], timeout=120, env=environment(), cwd=self.directory)
        # It waits for its threads when told to end, which may take half a minute; nothing is left to lose by then.
        command = [peer(HEAT_PEER, "heat-engine"), *options]
        self._engine = Process("heat-engine", command, self.directory, stop_timeout=3)
        self._engine.start()
        wait_until(
            lambda: self.broker.consumers("engine", self.vhost), 90, "consume from queue engine", self._engine, 0.2
        )

    def _stop(self) -> None:
        if self._engine:
            self._engine.stop()
        self._engine = None

"""A small cloud: broker, Keystone and a stock heat-engine, on one heat.conf, waiting for an API server in front.

In: a run directory. Out: the three parts running, ``config_file`` for an API server, ``api_port`` as the port that
Keystone's catalog names for orchestration.
"""

from collections.abc import Mapping
from pathlib import Path

from .engine import HeatEngine
from .heat_conf import heat_conf
from .keystone import Keystone
from .paths import upstream_paste_file
from .process import Part
from .rabbitmq import RabbitMQ

_VHOST = "heat"


class Cloud(Part):
    """Everything of OpenStack that a stack without servers and networks needs, except the API."""

    name = "cloud"

    def __init__(self, directory: Path, broker: RabbitMQ, keystone: Keystone) -> None:
        super().__init__(directory)
        self.broker = broker
        self.keystone = keystone
        self.api_port = keystone.orchestration_port
        self.config_file = directory / "heat.conf"
        self.engine = HeatEngine(directory / "engine", self.config_file, broker, _VHOST)

    @property
    def parts(self) -> list[Part]:
        return [self.engine, self.broker, self.keystone]

    def config(self, name: str, paste_file: Path, extra: Mapping[str, Mapping[str, str]] | None = None) -> Path:
        """Another heat.conf beside the first, for an API server with other settings in front of the same engine."""
        path = self.directory / name
        path.write_text(self._render(paste_file, extra or {}))
        return path

    def _render(self, paste_file: Path, extra: Mapping[str, Mapping[str, str]]) -> str:
        database = f"sqlite:///{self.directory}/heat.db"
        return heat_conf(self.keystone, self.broker.url(_VHOST), database, paste_file, extra)

    def _start(self) -> None:
        self.config_file.write_text(self._render(upstream_paste_file(), {}))
        self.engine.start()

    def _stop(self) -> None:
        self.engine.stop()

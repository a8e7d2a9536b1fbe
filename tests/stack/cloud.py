"""A small cloud: broker, Keystone and a stock heat-engine with its database, waiting for an API server in front.

In: a run directory, a broker and Keystone. Out: an engine running on one heat.conf, ``config_file`` for an API server
and ``api_port``, the port that Keystone's catalog names for orchestration.
"""

from collections.abc import Mapping
from pathlib import Path

from .engine import HeatEngine
from .heat_conf import heat_conf
from .keystone import Keystone
from .mariadb import MariaDB
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
        self.database = MariaDB(directory / "mariadb")
        self.engine = HeatEngine(directory / "engine", self.config_file, broker, _VHOST)

    @property
    def logs(self) -> list[Path]:
        return [*self.engine.logs, *self.database.logs]

    def config(self, name: str, paste_file: Path, extra: Mapping[str, Mapping[str, str]] | None = None) -> Path:
        """Another heat.conf beside the first, for an API server with other settings in front of the same engine."""
        path = self.directory / name
        path.write_text(self._render(paste_file, extra or {}))
        return path

    def _render(self, paste_file: Path, extra: Mapping[str, Mapping[str, str]]) -> str:
        return heat_conf(self.keystone, self.broker.url(_VHOST), self.database.url("heat"), paste_file, extra)

    def _start(self) -> None:
        self.database.start()
        self.config_file.write_text(self._render(upstream_paste_file(), {}))
        self.engine.start()

    def _stop(self) -> None:
        self.engine.stop()
        self.database.stop()

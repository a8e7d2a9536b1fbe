"""A small cloud: broker, Keystone and a stock heat-engine with its database, waiting for an API server in front.

In: a run directory, a broker and Keystone. Out: one engine or engines of several releases running on one heat.conf and
one queue, ``config_file`` for an API server and ``api_port``, the port that Keystone's catalog names for orchestration.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .engine import HeatEngine
from .heat_conf import heat_conf
from .keystone import Keystone
from .mariadb import MariaDB
from .paths import HEAT_PEER, upstream_paste_file
from .process import Part
from .rabbitmq import RabbitMQ

Options = Mapping[str, Mapping[str, str]]


class Cloud(Part):
    """Everything of OpenStack that a stack without servers and networks needs, except the API.

    ``releases`` are the environments in .peers to start an engine from, the newest first: it migrates the database,
    and the others work on its schema, as in the middle of a rolling upgrade. ``options`` are for heat.conf, which
    engines and API share. ``vhost`` keeps clouds with different options for queues apart on one broker. ``database``
    is a server that runs already and has a database named ``schema``, by default as ``vhost``; without it the cloud
    starts its own.
    """

    name = "cloud"

    def __init__(
        self,
        directory: Path,
        broker: RabbitMQ,
        keystone: Keystone,
        *,
        vhost: str = "heat",
        releases: Sequence[str] = (HEAT_PEER,),
        options: Options | None = None,
        database: MariaDB | None = None,
        schema: str | None = None,
    ) -> None:
        super().__init__(directory)
        self.broker = broker
        self.keystone = keystone
        self.vhost = vhost
        self.schema = schema or vhost
        self.options = options or {}
        self.api_port = keystone.orchestration_port
        self.config_file = directory / "heat.conf"
        self.database = database or MariaDB(directory / "mariadb", [self.schema])
        self._own_database = database is None
        self.engines = [
            HeatEngine(directory / f"engine-{release}", self.config_file, broker, vhost, release, migrate=number == 0)
            for number, release in enumerate(releases)
        ]
        self.engine = self.engines[0]

    @property
    def logs(self) -> list[Path]:
        return [*(log for engine in self.engines for log in engine.logs), *self.database.logs]

    def config(self, name: str, paste_file: Path, extra: Options | None = None) -> Path:
        """Another heat.conf beside the first, for an API server with other settings in front of the same engine."""
        path = self.directory / name
        path.write_text(self._render(paste_file, extra or {}))
        return path

    def _render(self, paste_file: Path, extra: Options) -> str:
        # Both are off by default, and the engine refuses what the client offers.
        groups = {"DEFAULT": {"enable_stack_abandon": "true", "enable_stack_adopt": "true"}}
        for options in (self.options, extra):
            for group, values in options.items():
                groups.setdefault(group, {}).update(values)
        database = self.database.url(self.schema)
        return heat_conf(self.keystone, self.broker.url(self.vhost), database, paste_file, groups)

    def _start(self) -> None:
        if self._own_database:
            self.database.start()
        self.config_file.write_text(self._render(upstream_paste_file(), {}))
        for engine in self.engines:
            engine.start()

    def _stop(self) -> None:
        for engine in self.engines:
            engine.stop()
        if self._own_database:
            self.database.stop()

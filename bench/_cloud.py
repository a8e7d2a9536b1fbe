"""What the servers stand in: broker, Keystone, heat.conf.

In: a folder. Out: heat.conf files, the ordinary user's token and project id. StackError when a part is missing or does
not start. Runs in the harness' main thread. Phases that need an engine start one themselves: _engines.py,
_real_engine.py.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import _paths  # noqa: F401 - the way to ``stack``
from stack import Keystone, RabbitMQ, free_port
from stack.heat_conf import heat_conf
from stack.paths import upstream_paste_file


class Surroundings:
    """A context manager; everything has stopped when it is left."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running.close()

    def _start(self) -> None:
        self.broker = self._running.enter_context(RabbitMQ(self.directory / "rabbitmq"))
        self.keystone = self._running.enter_context(Keystone(self.directory / "keystone", free_port()))
        self.config_file = self.config("heat", "heat", {})
        self.token = self.keystone.token(self.keystone.user)
        self.project = self.keystone.project_id(self.keystone.user)

    def config(self, name: str, vhost: str, options: Mapping[str, Mapping[str, str]]) -> Path:
        """A heat.conf.

        :param vhost: on the broker, where an engine may be
        :param options: that it has in addition, by group
        """
        path = self.directory / f"{name}.conf"
        # The API opens no database.
        database = "mysql+pymysql://nobody@127.0.0.1/none"
        url = self.broker.url(vhost)
        path.write_text(heat_conf(self.keystone, url, database, upstream_paste_file(), options))
        return path

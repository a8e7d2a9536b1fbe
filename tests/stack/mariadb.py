"""A MariaDB server of our own for the engine's database.

In: a run directory and the names of the databases. Out: a server on a loopback port and a Unix socket in the run
directory. SQLite would do for Keystone, but not for the engine: it writes from several threads, and resources fail with
"database is locked" when a client asks at the wrong moment.
"""

import os
import pwd
import secrets
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from .process import Part, Process, StackError, environment, free_port, run, wait_until

# In front of PATH: a user's PATH has no sbin.
_FOLDERS = "/usr/sbin:/usr/libexec:/usr/local/sbin"
_USER = "heat"
_PROTOCOL_VERSION = 10


def _program(*names: str) -> str:
    for name in names:
        if found := shutil.which(name, path=f"{_FOLDERS}:{os.environ.get('PATH', '')}"):
            return found
    raise StackError(f"{names[0]} is missing; install the package mariadb-server-core (make system does, as root)")


class MariaDB(Part):
    """One private server; ``url(name)`` is what goes into ``[database] connection``."""

    name = "mariadb"

    def __init__(self, directory: Path, databases: Sequence[str] = ("heat",)) -> None:
        super().__init__(directory)
        self.port = free_port()
        self.password = secrets.token_hex(8)
        self.databases = list(databases)
        self._server: Process | None = None

    def url(self, database: str) -> str:
        """SQLAlchemy's URL of one of the databases."""
        if database not in self.databases:
            raise StackError(f"there is no database {database}, but {', '.join(self.databases)}")
        return f"mysql+pymysql://{_USER}:{self.password}@127.0.0.1:{self.port}/{database}?charset=utf8mb4"

    def _start(self) -> None:
        home = self.directory
        data = home / "data"
        # As root it insists on being told that this is meant.
        common = ["--no-defaults", f"--datadir={data}", f"--user={pwd.getpwuid(os.getuid()).pw_name}"]
        if not data.exists():
            install = [_program("mariadb-install-db", "mysql_install_db"), *common]
            run(
                [*install, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"],
                timeout=120,
                env=environment(),
                cwd=home,
            )
        grant = [f"CREATE USER IF NOT EXISTS '{_USER}'@'127.0.0.1' IDENTIFIED BY '{self.password}';"]
        for database in self.databases:
            grant.append(f"CREATE DATABASE IF NOT EXISTS {database} CHARACTER SET utf8mb4;")
            grant.append(f"GRANT ALL ON {database}.* TO '{_USER}'@'127.0.0.1';")
        init = home / "init.sql"
        init.write_text("\n".join(grant) + "\n")
        self._server = Process(
            "mariadb",
            [
                *(_program("mariadbd", "mysqld"), *common),
                *(f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve"),
                *(f"--socket={home}/mariadb.sock", f"--pid-file={home}/mariadb.pid", f"--init-file={init}"),
                # Nobody needs the data after the run: no waiting for the disk, little memory.
                *("--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--innodb-doublewrite=0"),
                *("--innodb-buffer-pool-size=64M", "--performance-schema=OFF", "--skip-log-bin"),
            ],
            home,
        )
        self._server.start()
        wait_until(self._greets, 60, "greet a client", self._server, interval=0.1)

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
                greeting = connection.recv(5)
        except OSError:
            return False
        return len(greeting) == 5 and greeting[4] == _PROTOCOL_VERSION

    def _stop(self) -> None:
        if self._server:
            self._server.stop()
        self._server = None

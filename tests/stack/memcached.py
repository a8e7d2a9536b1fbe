"""A memcached of our own for Keystone tokens.

In: a run directory. Out: a server on a loopback port.
"""

import os
import pwd
import shutil
import socket
from pathlib import Path

from .process import Part, Process, StackError, free_port, wait_until


class Memcached(Part):
    """One private server; ``address`` is what goes into ``[keystone_authtoken] memcached_servers``."""

    name = "memcached"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._server: Process | None = None

    def _start(self) -> None:
        program = shutil.which("memcached")
        if program is None:
            raise StackError("memcached is missing; install the package memcached (make system does, as root)")
        user = pwd.getpwuid(os.getuid()).pw_name
        self._server = Process(
            self.name, [program, "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-u", user], self.directory
        )
        self._server.start()
        wait_until(lambda: self.statistics() != {}, 10, "answer", self._server)

    def statistics(self) -> dict[str, str]:
        """What it counts; empty when it does not answer."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"stats\r\nquit\r\n")
                lines = connection.makefile("r").read().splitlines()
        except OSError:
            return {}
        return {name: value for _stat, name, value in (line.split(" ", 2) for line in lines if line != "END")}

    def _stop(self) -> None:
        if self._server:
            self._server.stop()
        self._server = None

"""The stock command line client: ``openstack`` from .peers/client, run as a user would, its JSON parsed."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .keystone import Credentials
from .paths import peer
from .process import StackError, environment


class CommandFailed(StackError):
    """The client ended with an error; ``output`` is what it printed."""

    def __init__(self, command: str, status: int, output: str) -> None:
        super().__init__(f"{command} ended with {status}\n{output}")
        self.status = status
        self.output = output


class OpenStackClient:
    """Runs ``openstack`` as one user; a new process per call, so every call authenticates anew."""

    def __init__(self, credentials: Credentials, directory: Path, extra: Mapping[str, str] | None = None) -> None:
        self.credentials = credentials
        self.directory = directory
        # A clouds.yaml of the person running the tests must not be found.
        self.env = environment(HOME=str(directory), XDG_CONFIG_HOME=str(directory), **credentials.environment())
        self.env |= extra or {}

    def __call__(self, *arguments: str | Path, timeout: float = 120) -> str:
        """Run it and return its standard output; CommandFailed with its messages when it fails."""
        words = [str(peer("client", "openstack")), *map(str, arguments)]
        try:
            done = subprocess.run(
                words,
                env=self.env,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise StackError(f"{' '.join(words)} took longer than {timeout:g} s") from error
        if done.returncode:
            raise CommandFailed(" ".join(["openstack", *words[1:]]), done.returncode, done.stdout + done.stderr)
        return done.stdout

    def json(self, *arguments: str | Path, timeout: float = 120) -> Any:
        """Run it with ``-f json`` and parse the answer; the events that ``--wait`` prints first are passed over."""
        lines = self(*arguments, "-f", "json", timeout=timeout).splitlines()
        while lines and lines[0][:1] not in ("{", "["):
            del lines[0]
        return json.loads("\n".join(lines))

"""The stock clients from .peers/client: ``openstack`` run as a user would, its JSON parsed, and scripts that use the
client libraries in that interpreter."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .keystone import Credentials
from .paths import peer
from .process import StackError, environment, run


class CommandFailed(StackError):
    """The client ended with an error; ``output`` is what it printed."""

    def __init__(self, command: str, status: int, output: str) -> None:
        super().__init__(f"{command} ended with {status}\n{output}")
        self.status = status
        self.output = output


@dataclass
class Report:
    """What a script reported: rows by name with their error, empty when passed; calls offered and not made."""

    rows: dict[str, str]
    uncalled: set[str]

    @property
    def failures(self) -> dict[str, str]:
        return {name: error for name, error in self.rows.items() if error}


def run_script(
    script: Path, *arguments: str | Path, credentials: Credentials, directory: Path, timeout: float = 300
) -> Report:
    """Run a script that prints a JSON object per row (tests/e2e/clients) with the clients' interpreter."""
    env = environment(HOME=str(directory), XDG_CONFIG_HOME=str(directory), **credentials.environment())
    words = [str(peer("client", "python")), str(script), *map(str, arguments)]
    try:
        done = subprocess.run(
            words, env=env, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"{' '.join(words)} took longer than {timeout:g} s") from error
    report = Report({}, set())
    ended = False
    for line in done.stdout.splitlines():
        said = json.loads(line)
        if "row" in said:
            report.rows[said["row"]] = "" if said["passed"] else said["error"] or "failed"
        else:
            report.uncalled = set(said["offered"]) - set(said["called"])
            ended = True
    if not ended:
        raise CommandFailed(" ".join(words), done.returncode, done.stdout + done.stderr)
    return report


def client_versions(*packages: str) -> dict[str, str]:
    """The versions of these packages in .peers/client."""
    code = "import importlib.metadata, json, sys\n"
    code += "print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))"
    said: dict[str, str] = json.loads(run([peer("client", "python"), "-c", code, *packages], timeout=60))
    return said


class OpenStackClient:
    """Runs ``openstack`` as one user; a new process per call, so every call authenticates anew."""

    # "heat", the older program of python-heatclient, takes the same settings.
    program = "openstack"

    def __init__(self, credentials: Credentials, directory: Path, extra: Mapping[str, str] | None = None) -> None:
        self.credentials = credentials
        self.directory = directory
        # A clouds.yaml of the person running the tests must not be found.
        self.env = environment(HOME=str(directory), XDG_CONFIG_HOME=str(directory), **credentials.environment())
        self.env |= extra or {}

    def __call__(self, *arguments: str | Path, timeout: float = 120) -> str:
        """Run it and return its standard output; CommandFailed with its messages when it fails."""
        words = [str(peer("client", self.program)), *map(str, arguments)]
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
            raise CommandFailed(" ".join([self.program, *words[1:]]), done.returncode, done.stdout + done.stderr)
        return done.stdout

    def json(self, *arguments: str | Path, timeout: float = 120) -> Any:
        """Run it with ``-f json`` and parse the answer; the events that ``--wait`` prints first are passed over."""
        lines = self(*arguments, "-f", "json", timeout=timeout).splitlines()
        while lines and lines[0][:1] not in ("{", "["):
            del lines[0]
        return json.loads("\n".join(lines))

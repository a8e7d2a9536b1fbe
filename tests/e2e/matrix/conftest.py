"""What the matrix shares: versions for the table, a database server for all clouds, API servers in own regions."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from client_table import Serve, Table
from stack import Credentials, Heatperf, Keystone, MariaDB, UpstreamApi, client_versions, free_port
from stack.api import ApiServer
from stack.launcher import Launcher

# Databases, and virtual hosts of the broker, of the clouds that the tests start beside the session's.
CLOUDS = ("alone24", "alone25", "alone27", "rolling", "quorum", "transient", "manager", "stream", "upgrade")


@pytest.fixture(scope="session", autouse=True)
def versions(table: Table) -> None:
    packages = ("python-openstackclient", "python-heatclient", "openstacksdk")
    table.versions.update(client_versions(*packages))


@pytest.fixture(scope="session")
def databases(launcher: Launcher, stack_directory: Path) -> Iterator[MariaDB]:
    """A database server with a database for each cloud of CLOUDS."""
    part = launcher.start(MariaDB(stack_directory / "matrix-mariadb", CLOUDS))
    yield part
    launcher.stop(part)


@pytest.fixture
def serve(request: pytest.FixtureRequest, launcher: Launcher, keystone: Keystone) -> Iterator[Serve]:
    """Starts the API server under test on a heat.conf, in a region of its own; ends it with the test.

    Gives the server and the ordinary user's credentials for that region.
    """
    kind = UpstreamApi if request.config.getoption("--api") == "upstream" else Heatperf
    started: list[ApiServer] = []

    def start(directory: Path, config: Path) -> tuple[ApiServer, Credentials]:
        port = free_port()
        region = f"Region{port}"
        keystone.add_region(region, port)
        started.append(launcher.start(kind(directory, config, port)))
        return started[-1], replace(keystone.user, region=region)

    yield start
    for server in started:
        launcher.stop(server)

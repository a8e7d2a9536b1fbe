"""The table of the client matrix: which client did what in front of which engines, and whether it passed.

Tests add rows while they run; the table is printed at the end of a run that was asked for tests/e2e/matrix. That folder
takes minutes and is collected only when it is named (``make e2e`` does); ``make test`` runs a slice of it from here.
"""

from pathlib import Path

import pytest
from client_table import Table

HERE = Path(__file__).resolve().parent
MATRIX = HERE / "matrix"
TABLE: pytest.StashKey[Table] = pytest.StashKey()


def _matrix_asked_for(config: pytest.Config) -> bool:
    paths = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return any(path.is_relative_to(MATRIX) for path in paths)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if collection_path == MATRIX and not _matrix_asked_for(config) else None


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Table:
    """The table that this run fills."""
    return request.config.stash.setdefault(TABLE, Table())


@pytest.fixture(scope="session")
def nested() -> Path:
    """The folder of a template with a file, nested templates and an environment."""
    return HERE / "data" / "nested"


@pytest.fixture(scope="session")
def scripts() -> Path:
    """The folder of the scripts that use the client libraries."""
    return HERE / "clients"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    table = terminalreporter.config.stash.get(TABLE, None)
    if table and table.rows and _matrix_asked_for(terminalreporter.config):
        terminalreporter.section("clients")
        for line in table.lines():
            terminalreporter.write_line(line)

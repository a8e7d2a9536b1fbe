"""The table of the client matrix: which client did what in front of which engines, and whether it passed.

In: rows from the tests. Out: lines of text. Also the types that the matrix' tests share.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stack import Credentials, Report
from stack.api import ApiServer

STOCK = "27.0.1"
# Starts the API server under test: run directory and heat.conf to the server and a user who reaches it.
Serve = Callable[[Path, Path], tuple[ApiServer, Credentials]]


@dataclass
class Table:
    """Rows in the order in which they were tried."""

    rows: list[tuple[str, str, str, bool]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def add(self, client: str, what: str, passed: bool, engines: str = STOCK) -> None:
        """One row: the client, what it did, in front of engines of which releases."""
        self.rows.append((what, client, engines, passed))

    @contextlib.contextmanager
    def row(self, client: str, what: str, engines: str = STOCK) -> Iterator[None]:
        """A row that has passed when its block ends without an exception."""
        try:
            yield
        except BaseException:
            self.add(client, what, False, engines)
            raise
        self.add(client, what, True, engines)

    def add_report(self, client: str, report: Report, engines: str = STOCK) -> None:
        """The rows that a script reported."""
        for what, error in report.rows.items():
            self.add(client, what, not error, engines)

    def lines(self) -> list[str]:
        """The table as text."""
        widths = [max(len(str(row[column])) for row in self.rows) for column in range(3)]
        lines = [f"{name} {version}" for name, version in sorted(self.versions.items())]
        titles = ("row", "client", "engines")
        lines.append("  ".join(f"{title:<{width}}" for title, width in zip(titles, widths, strict=True)) + "  passed")
        for *texts, passed in self.rows:
            cells = "  ".join(f"{text:<{width}}" for text, width in zip(texts, widths, strict=True))
            lines.append(f"{cells}  {'yes' if passed else 'NO'}")
        number = sum(passed for *_, passed in self.rows)
        return [*lines, f"{number} of {len(self.rows)} rows passed"]

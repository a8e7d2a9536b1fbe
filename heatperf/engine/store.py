"""The engine's memory: SQLite, one writer at a time, readers beside it.

Comes in: records to keep and questions about them. Goes out: records (records.py). Raises: ConfigurationError when
opening; StoreUnwritable when a write cannot reach the disk (full, read-only, failing), in which case the transaction
left no trace. Called from any thread of the engine process.

WAL with synchronous=FULL: what a committed transaction wrote is there after kill -9 and after a power cut; what was
not committed never was. So every step that must not be half seen (a stack with its first event, a resource's state
with its event) is one transaction.
"""

import contextlib
import datetime
import os
import pathlib
import queue
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

from heatperf.engine import records, statefolder
from heatperf.errors import ConfigurationError, heat

R = TypeVar("R", bound=records.Record)

#: Readers that may run at once beside the writer; more wait.
_READERS = 4

_NUMBERS = ("timeout", "template_id", "previous_template_id", "nested_depth", "replaces", "replaced_by")

_INDEXES = (
    # One living stack of a name per project; a race of two creates ends here.
    "CREATE UNIQUE INDEX stacks_name ON stacks (tenant, name) WHERE deleted_at IS NULL AND owner_id IS NULL",
    "CREATE INDEX stacks_tenant ON stacks (tenant, created_at)",
    "CREATE INDEX stacks_status ON stacks (status) WHERE deleted_at IS NULL",
    "CREATE INDEX templates_stack ON templates (stack_id)",
    "CREATE INDEX resources_stack ON resources (stack_id)",
    "CREATE INDEX resources_physical ON resources (physical_id)",
    "CREATE INDEX events_stack ON events (stack_id)",
    "CREATE INDEX events_uuid ON events (uuid)",
    "CREATE INDEX snapshots_stack ON snapshots (stack_id)",
    "CREATE INDEX software_configs_tenant ON software_configs (tenant, created_at)",
    "CREATE INDEX software_deployments_tenant ON software_deployments (tenant, server_id)",
)


#: SQLite's errors about files and disks, as opposed to those about statements and values.
_DISK_TROUBLE = (sqlite3.OperationalError, sqlite3.InternalError)


class StoreUnwritable(heat.Error):
    """The disk failed: a write was taken back whole, or nothing could be read."""


def utcnow() -> datetime.datetime:
    """Now in UTC, without a zone, as all times in the store."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


class Session:
    """One transaction's view of the store. Table and column names come from records only, never from callers' data."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def insert(self, record: R) -> R:
        """Store a new record; its row number, where it has one, is filled in.

        :raises sqlite3.IntegrityError: a unique index objects
        """
        kind = type(record)
        columns = kind.columns()
        values = [kind.encode(column, getattr(record, column)) for column in columns]
        marks = ", ".join("?" * len(columns))
        names = ", ".join(f'"{column}"' for column in columns)
        cursor = self._connection.execute(f"INSERT INTO {kind.table} ({names}) VALUES ({marks})", values)  # noqa: S608
        if getattr(record, kind.key) is None:
            setattr(record, kind.key, cursor.lastrowid)
        return record

    def update(self, kind: type[R], key: Any, where: str = "1", parameters: tuple[Any, ...] = (), **values: Any) -> int:
        """Change columns of one row, provided ``where`` holds for it.

        :returns: 1, or 0 where there was no such row
        """
        names = ", ".join(f'"{column}" = ?' for column in values)
        encoded = [kind.encode(column, value) for column, value in values.items()]
        cursor = self._connection.execute(
            f"UPDATE {kind.table} SET {names} WHERE {kind.key} = ? AND {where}",  # noqa: S608
            (*encoded, key, *parameters),
        )
        return cursor.rowcount

    def delete(self, kind: type[R], where: str, *parameters: Any) -> int:
        """Remove rows; returns how many."""
        return self._connection.execute(f"DELETE FROM {kind.table} WHERE {where}", parameters).rowcount  # noqa: S608

    def get(self, kind: type[R], key: Any) -> R | None:
        """The record with this key, or None."""
        return next(iter(self.select(kind, f"{kind.key} = ?", key)), None)

    def select(self, kind: type[R], where: str = "1", *parameters: Any, tail: str = "") -> list[R]:
        """Records for which ``where`` holds; ``tail``: ORDER BY and LIMIT."""
        names = ", ".join(f'{kind.table}."{column}"' for column in kind.columns())
        rows = self._connection.execute(f"SELECT {names} FROM {kind.table} WHERE {where} {tail}", parameters)  # noqa: S608
        return [kind.decode(row) for row in rows]

    def count(self, kind: type[R], where: str = "1", *parameters: Any) -> int:
        """Number of rows for which ``where`` holds."""
        row = self._connection.execute(f"SELECT count(*) FROM {kind.table} WHERE {where}", parameters)  # noqa: S608
        return int(row.fetchone()[0])


class Store:
    """The database of one engine.

    :param state: the folder; made where it is missing
    :raises ConfigurationError: see statefolder; or the database cannot be opened or written
    """

    def __init__(self, state: pathlib.Path) -> None:
        self.path = state / statefolder.DATABASE
        self._lock_file = statefolder.acquire(state)
        self._writing = threading.RLock()
        self._readers: queue.LifoQueue[sqlite3.Connection | None] = queue.LifoQueue()
        for _ in range(_READERS):
            self._readers.put(None)
        self._closed = False
        try:
            statefolder.check(self.path)
            self._writer = self._open_writer()
        except BaseException:
            self._lock_file.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        # Each connection is used by one thread at a time (lock, queue), not by one thread for ever.
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA busy_timeout = 30000")
        return connection

    def _open_writer(self) -> sqlite3.Connection:
        try:
            # Values of resources are secrets: the file is its owner's alone; SQLite gives its side files the same mode.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = self._connect()
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE")
                if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                    _create_schema(connection)
                # A write, even of what stood there, is the only proof that writing works.
                connection.execute(f"PRAGMA user_version = {statefolder.SCHEMA_VERSION}")
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise ConfigurationError(
                f"the engine cannot write its database {self.path}: {error}",
                "free disk space there or correct the permissions; stored stacks are as they were",
            ) from error
        return connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Session]:
        """Read and write as one step: all of it happens, or none. Nests: an inner one joins the outer.

        :raises StoreUnwritable: the disk is full or failing
        """
        with self._writing:
            if self._closed:
                raise StoreUnwritable("The engine is stopping and keeps no more changes.")
            if self._writer.in_transaction:
                yield Session(self._writer)
                return
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield Session(self._writer)
                self._writer.execute("COMMIT")
            except BaseException as error:
                if self._writer.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._writer.execute("ROLLBACK")
                if isinstance(error, _DISK_TROUBLE):
                    raise StoreUnwritable(f"The engine cannot keep its state: {error}.") from error
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """A consistent view that blocks nobody."""
        connection = self._readers.get()
        try:
            if self._closed:
                raise StoreUnwritable("The engine is stopping.")
            try:
                connection = connection or self._connect()
                connection.execute("BEGIN")
                try:
                    yield Session(connection)
                finally:
                    connection.execute("ROLLBACK")
            except _DISK_TROUBLE as error:
                raise StoreUnwritable(f"The engine cannot read its state: {error}.") from error
        finally:
            self._readers.put(connection)

    def close(self) -> None:
        """Close the database and free the folder. Waits for transactions that run."""
        with self._writing:
            if self._closed:
                return
            self._closed = True
            for _ in range(_READERS):
                connection = self._readers.get()
                if connection is not None:
                    connection.close()
            for _ in range(_READERS):
                self._readers.put(None)
            self._writer.close()
            self._lock_file.close()


def _create_schema(connection: sqlite3.Connection) -> None:
    for kind in records.TABLES:
        columns = []
        for column in kind.columns():
            numbered = kind.__annotations__[column] == int | None and column == kind.key
            if numbered:
                # AUTOINCREMENT: a number is never given twice, so a reference to a deleted row stays dangling.
                columns.append(f'"{column}" INTEGER PRIMARY KEY AUTOINCREMENT')
            elif column == kind.key:
                columns.append(f'"{column}" TEXT PRIMARY KEY')
            else:
                is_number = column in _NUMBERS or column in kind.bool_columns
                columns.append(f'"{column}" {"INTEGER" if is_number else "TEXT"}')
        connection.execute(f"CREATE TABLE {kind.table} ({', '.join(columns)})")
    for statement in _INDEXES:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {statefolder.APPLICATION_ID}")

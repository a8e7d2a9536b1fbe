"""The engine's state folder: one holder at a time, and a database that is ours and whole.

Comes in: a path. Goes out: an open lock file and the path of a database that passed its checks. Raises:
ConfigurationError with what is wrong and what to do. Runs in the engine process, once, before any thread starts.
Nothing in the folder is changed before the lock is held, and a database that fails a check is left as it is.
"""

import errno
import fcntl
import os
import pathlib
import sqlite3
import time
from typing import TextIO

from heatperf.errors import ConfigurationError

DATABASE = "engine.sqlite"
LOCK = "lock"

# Seconds; a side process without a supervisor ends after two.
LOCK_WAIT = 3.0
_MAGIC = b"SQLite format 3\0"
#: Written into the database header ("heat" in ASCII), so that a foreign SQLite file is never taken for ours.
APPLICATION_ID = 0x68656174
SCHEMA_VERSION = 1


def acquire(state: pathlib.Path) -> TextIO:
    """Create the folder where it is missing, and hold its lock.

    :param state: folder of one engine
    :returns: the open lock file; closing it, or the end of the process, frees the lock
    :raises ConfigurationError: the folder cannot be made or written, or another engine holds it
    """
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"the engine cannot keep its state in {state}: {error.strerror or error}",
            "name a folder on a local disk that this user may write",
        ) from error
    file = os.fdopen(descriptor, "r+")
    try:
        _lock(file)
    except OSError as error:
        holder = file.read().split()
        file.close()
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise ConfigurationError(
                f"the engine cannot lock {state / LOCK}: {error.strerror}", "name a folder on a local disk"
            ) from error
        name = f"process {holder[0]}" if holder else "a process that did not say its number"
        raise ConfigurationError(
            f"another engine ({name}) holds the state in {state}",
            "stop that engine, or name another folder for this one",
        ) from error
    try:
        # The holder's number and start time (clock ticks since boot: a reused number differs in it), for people.
        file.truncate()
        file.write(f"{os.getpid()} {_start_time()}\n")
        file.flush()
    except OSError as error:
        file.close()
        raise ConfigurationError(
            f"the engine cannot write in {state}: {error.strerror}", "free some disk space there"
        ) from error
    return file


def _lock(file: TextIO) -> None:
    """A predecessor whose supervisor was killed needs a moment to notice."""
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


def _start_time() -> str:
    """Start of this process as /proc tells it; seconds since the epoch where there is no /proc."""
    try:
        # The name in field 2 may hold spaces; what follows its closing parenthesis does not.
        return pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return str(int(time.time()))


def check(path: pathlib.Path) -> None:
    """See that the database at ``path`` is absent, or ours, whole, and of a version this program knows.

    :raises ConfigurationError: it is not; the file stays as it was
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
        size = path.stat().st_size
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationError(f"the engine cannot read {path}: {error.strerror}") from error
    if size == 0:
        return
    if head != _MAGIC:
        raise _damaged(path, "it is no SQLite database")
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if application not in (0, APPLICATION_ID):
                raise ConfigurationError(
                    f"{path} belongs to another application", "name another folder for the engine's state"
                )
            if version > SCHEMA_VERSION:
                raise ConfigurationError(
                    f"{path} was written by a newer release (schema {version}, known here: {SCHEMA_VERSION})",
                    "run that release, or name another folder for the engine's state",
                )
            # quick_check reads every page; it finds torn and missing ones without the cost of checking indexes.
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise _damaged(path, str(error)) from error
    if verdict != "ok":
        raise _damaged(path, verdict.splitlines()[0])


def _damaged(path: pathlib.Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the engine's database {path} is damaged: {reason}",
        "restore it from a backup, or move it away to start without stacks",
    )

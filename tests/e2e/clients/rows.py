"""What the scripts beside this one share: rows of the matrix, counted calls, waiting.

Runs in the client's interpreter (.peers/client), not in the project's: standard library only. In: rows, tried one after
the other. Out: one JSON object per line on stdout: ``{"row", "passed", "error"}`` for each row, at the end
``{"offered", "called"}``, the calls that the client library offers and those that were made.
"""

import contextlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any


class RowFailed(Exception):
    """A row failed, and with it the rest of its scenario."""


def emit(**fields: object) -> None:
    """One line of the report."""
    print(json.dumps(fields), flush=True)


@contextlib.contextmanager
def row(name: str) -> Iterator[None]:
    """A row: passed when its block ends without an exception; RowFailed, after the report, when not."""
    try:
        yield
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)
        lines = ", ".join(f"{frame.name}:{frame.lineno}" for frame in where[1:4])
        emit(row=name, passed=False, error=f"{type(error).__name__}: {error} ({lines})")
        raise RowFailed(name) from error
    emit(row=name, passed=True, error="")


def check(condition: object, shown: object = "") -> None:
    """An assertion that says what it saw."""
    if not condition:
        raise AssertionError(f"not so: {shown!r}")


def equal(found: object, expected: object) -> None:
    """An assertion of equality that says both."""
    if found != expected:
        raise AssertionError(f"{found!r} instead of {expected!r}")


def refused(kind: type[BaseException], call: Callable[[], object]) -> BaseException:
    """The exception of a call that must fail with this kind."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def wait_for(ready: Callable[[], Any], what: str, timeout: float = 60) -> Any:
    """Ask until the answer is true, and return it; AssertionError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (answer := ready()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what}")
        time.sleep(0.2)
    return answer


class Counted:
    """Stands for a library object and notes which of its calls are made, as ``prefix + name``."""

    def __init__(self, target: object, prefix: str, called: set[str]) -> None:
        self._target, self._prefix, self._called = target, prefix, called

    def __getattr__(self, name: str) -> Any:
        self._called.add(self._prefix + name)
        return getattr(self._target, name)


def run(scenarios: list[Callable[[], None]], offered: set[str], called: set[str]) -> None:
    """Run the scenarios; one that fails does not stop the others. Ends the process with 1 when any failed."""
    failed = False
    for scenario in scenarios:
        try:
            scenario()
        except RowFailed:
            failed = True
        except Exception:
            failed = True
            emit(row=f"{scenario.__name__} (between rows)", passed=False, error=traceback.format_exc())
    emit(offered=sorted(offered), called=sorted(called & offered))
    sys.exit(failed)

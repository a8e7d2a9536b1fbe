"""Starts parts for tests, keeps the list of those that run, and lets a part that does not start fail the test."""

from typing import TypeVar

import pytest

from .process import Part, StackError

PartType = TypeVar("PartType", bound=Part)


class Launcher:
    """What the fixtures and tests start parts with; ``running`` is what a failing test shows the logs of."""

    def __init__(self) -> None:
        self.running: list[Part] = []

    def start(self, part: PartType) -> PartType:
        """Start it; the test fails with the reason, never skips, when it is missing or does not come up."""
        try:
            part.start()
        except StackError as error:
            pytest.fail(f"{part.name} is needed by this test and did not start: {error}", pytrace=False)
        self.running.append(part)
        return part

    def stop(self, part: Part) -> None:
        """Stop it."""
        part.stop()
        if part in self.running:
            self.running.remove(part)

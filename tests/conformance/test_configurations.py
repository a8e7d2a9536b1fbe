"""Configurations that the recorded variants do not have, and that must make no difference to the same cases.

Files of other years (api-paste.ini with one pipeline per flavor, policy.json), and tracing that is on while nobody asks
for a trace; conftest.py has them. Upstream's own api-paste.ini is what the end-to-end tests run on.
"""

from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("name", ["stein", "policy-json", "tracing"])
def test_the_answers_are_the_same(name: str, request: pytest.FixtureRequest, replayed: Any, folder: Path) -> None:
    if request.config.getoption("--api") == "upstream":
        pytest.skip("is about heatperf")
    scores = replayed.configurations[name]
    differing = {group: score for group, score in scores.items() if score.passed < score.total}
    assert not differing, f"differences: {folder}/shared.txt"

"""Default rules against those of an installed Heat; the peer is required (make peers), not optional."""

import json
import os
import pathlib
import subprocess

import pytest

from heatperf.policy import defaults

ROOT = pathlib.Path(__file__).parents[2]

SCRIPT = """
import json
from heat import policies
rules = {}
for rule in policies.list_rules():
    old = rule.deprecated_rule
    rules[rule.name] = [
        rule.check_str, rule.scope_types, [old.name, old.check_str, old.deprecated_since] if old else None]
print(json.dumps(rules))
"""


def upstream_python() -> str:
    return os.environ.get("HEATPERF_UPSTREAM_PYTHON", str(ROOT / ".peers/heat-27/bin/python"))


@pytest.fixture(scope="module")
def upstream() -> dict:
    done = subprocess.run([upstream_python(), "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_same_rules_as_heat(upstream):
    ours = {}
    for rule in defaults.list_rules():
        old = rule.deprecated_rule
        ours[rule.name] = [
            rule.check_str,
            rule.scope_types,
            [old.name, old.check_str, old.deprecated_since] if old else None,
        ]
    assert ours == upstream


def test_names_are_unique_and_every_rule_is_described():
    rules = defaults.list_rules()
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(rule.description for rule in rules)

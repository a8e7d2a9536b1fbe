"""The scenarios of ``make process``, a few turns of each."""

import pytest
from scenarios import SCENARIOS


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name, tmp_path):
    scenario, few = SCENARIOS[name]
    assert scenario(tmp_path, few)

"""Agreement with upstream's recorded answers never sinks: a floor per group, over what floors.yaml says is replayed.

make conformance replays everything; here it is three variants in full, a tenth of every other, and of every other
combination of loop, transport and stations a tenth of those three.
"""

from pathlib import Path
from typing import Any

import matrix
import pytest
import rig
from stack import RabbitMQ

PLAN = rig.load_floors()


@pytest.fixture(scope="session")
def scores(request: pytest.FixtureRequest, replayed: Any, closing_lines: list[str]) -> dict[str, rig.Score]:
    peer = request.config.getoption("--api")
    found: dict[str, rig.Score] = replayed.plan
    passed, total = sum(score.passed for score in found.values()), sum(score.total for score in found.values())
    tenths = f", a tenth of {len(rig.sampled_variants())} others" if peer == "heatperf" else ""
    closing_lines.append(
        f"{peer} answers {passed} of {total} cases as upstream did ({', '.join(PLAN['full'])} in full{tenths})"
    )
    higher = [group for group, score in found.items() if score.passed > PLAN["floors"].get(group, 0)]
    if higher and peer == "heatperf":
        closing_lines.append(f"{len(higher)} groups are above their floor: tests/conformance/run.py --raise-floors")
    return found


@pytest.mark.parametrize("group", sorted(PLAN["floors"]))
def test_score_is_not_below_the_floor(
    group: str, request: pytest.FixtureRequest, scores: dict[str, rig.Score], folder: Path
) -> None:
    if request.config.getoption("--api") == "heatperf":
        score, floor = scores[group], PLAN["floors"][group]
    else:
        score = scores.get(group, rig.Score(0, 0, 0))
        floor = score.total
    assert score.passed >= floor, (
        f"{group}: {score.passed} of {score.total}, floor {floor}; differences: {folder}/*.txt"
    )


def test_every_replayed_group_has_a_floor(request: pytest.FixtureRequest, scores: dict[str, rig.Score]) -> None:
    if request.config.getoption("--api") == "heatperf":
        assert set(scores) == set(PLAN["floors"])


def test_other_combinations_answer_the_same(folder: Path, broker: RabbitMQ) -> None:
    """Each value of each dimension once; there are none yet besides the default ones."""
    differing = {}
    for combination in matrix.neighbours():
        with (folder / f"{combination.name}.txt").open("w") as output:
            runs = rig.tenths(PLAN["full"], combination)
            found = rig.added(*rig.replay_sharing(folder / combination.name, runs, broker, 400, output).values())
        differing |= {
            f"{combination.name} {group}": score for group, score in found.items() if score.passed < score.total
        }
    assert not differing, f"differences: {folder}"

"""Agreement with upstream's recorded answers never sinks: a floor per group, over the variants named in floors.yaml.

make conformance replays all variants; these few run with every make test.
"""

from pathlib import Path

import pytest
import rig
from stack import RabbitMQ, StackError

PLAN = rig.load_floors()


@pytest.fixture(scope="session")
def report(stack_directory: Path) -> Path:
    """Where the replay prints its differences."""
    return stack_directory / "conformance.txt"


@pytest.fixture(scope="session")
def scores(
    request: pytest.FixtureRequest,
    stack_directory: Path,
    broker: RabbitMQ,
    report: Path,
    closing_lines: list[str],
) -> dict[str, rig.Score]:
    peer = request.config.getoption("--api")
    try:
        with report.open("w") as output:
            found = rig.replay(
                stack_directory / "conformance", PLAN["variants"], broker, peer=peer, show=400, output=output
            )
    except StackError as error:
        pytest.fail(f"{error}\n{report.read_text()[-3000:]}", pytrace=False)
    passed, total = sum(score.passed for score in found.values()), sum(score.total for score in found.values())
    closing_lines.append(f"{peer} answers {passed} of {total} cases as upstream did ({', '.join(PLAN['variants'])})")
    higher = [group for group, score in found.items() if score.passed > PLAN["floors"].get(group, 0)]
    if higher and peer == "heatperf":
        closing_lines.append(f"{len(higher)} groups are above their floor: tests/conformance/run.py --raise-floors")
    return found


@pytest.mark.parametrize("group", sorted(PLAN["floors"]))
def test_score_is_not_below_the_floor(group: str, scores: dict[str, rig.Score], report: Path) -> None:
    floor = PLAN["floors"][group]
    score = scores[group]
    assert score.passed >= floor, f"{group}: {score.passed} of {score.total}, floor {floor}; differences: {report}"


def test_every_replayed_group_has_a_floor(scores: dict[str, rig.Score]) -> None:
    assert set(scores) == set(PLAN["floors"])

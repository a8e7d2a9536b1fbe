"""What make test replays, once for all the tests of this folder: what floors.yaml plans, and a few configurations more.

They are replayed together: starting an engine for each would cost more than the cases.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cases
import pytest
import rig
from stack import RabbitMQ, StackError

STEIN = Path(__file__).resolve().parent / "data" / "api-paste-stein.ini"
TRACING = "[profiler]\nenabled = true\nhmac_keys = secret\nconnection_string = messaging://\n"


@dataclass(frozen=True)
class Replayed:
    """The scores per group: of the plan, and of each further configuration."""

    plan: dict[str, rig.Score]
    configurations: dict[str, dict[str, rig.Score]]


def configurations(folder: Path) -> list[rig.Run]:
    """Files of other years, and tracing that is on while nobody asks for a trace; ``folder`` is where they will be."""
    everything = cases.load()
    tenth = [case for case in cases.tenth(everything) if case["variant"] == "keystone"]
    # Stein had no health check.
    of_stein = [case for case in tenth if case["group"] != "healthcheck"]
    # The file the variant has would hide it if nobody read this one.
    policies = {"policy.yaml": "{}\n", "policy.json": json.dumps(rig.variants()["kspolicy"][2])}
    setting = f"[oslo_policy]\npolicy_file = {folder / 'policy-json' / 'policy.json'}\n"
    of_policy = [case for case in everything if case["variant"] == "kspolicy"]
    return [
        rig.Run("keystone", of_stein, files={"api-paste.ini": STEIN.read_text()}, name="stein"),
        rig.Run("kspolicy", of_policy, heat_conf=setting, files=policies, name="policy-json"),
        rig.Run("keystone", tenth, heat_conf=TRACING, name="tracing"),
    ]


@pytest.fixture(scope="session")
def folder(stack_directory: Path) -> Path:
    """Where the replays print their differences, and keep configuration and logs."""
    made = stack_directory / "conformance"
    made.mkdir()
    return made


@pytest.fixture(scope="session")
def replayed(request: pytest.FixtureRequest, folder: Path, broker: RabbitMQ) -> Replayed:
    """The replay itself; of upstream, the variants in full only."""
    try:
        if request.config.getoption("--api") == "heatperf":
            return Replayed(*rig.replay_planned(folder, broker, 400, configurations(folder / "shared")))
        with (folder / "launched.txt").open("w") as output:
            full = rig.load_floors()["full"]
            return Replayed(rig.replay(folder, full, broker, peer="upstream", show=400, output=output), {})
    except StackError as error:
        reports = "\n".join(report.read_text()[-3000:] for report in sorted(folder.glob("*.txt")))
        pytest.fail(f"{error}\n{reports}", pytrace=False)

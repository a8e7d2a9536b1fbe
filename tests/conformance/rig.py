"""Runs the recorded cases in upstream/ against heatperf, or against upstream itself to prove the rig.

In: a broker, a real Keystone where variant ``realks`` is among the variants, the variants. Out: the score per group.
Used by run.py (make conformance) and by test_floors.py (make test); the runner in upstream/ does the work in child
processes and is kept as it was recorded.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import yaml
from stack import Keystone, RabbitMQ, StackError, paths
from stack.process import environment

HERE = Path(__file__).resolve().parent
CASES = HERE / "upstream"
FLOORS = HERE / "floors.yaml"
VHOST = "conformance"


@dataclass(frozen=True)
class Score:
    """Of one group: cases replayed, cases that agree, and how many of these agree only by an accepted difference."""

    total: int
    passed: int
    accepted: int


def all_variants() -> list[str]:
    """Names of the configuration variants, in the order of the runner."""
    sys.path.insert(0, str(CASES))
    try:
        import variants  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(CASES))
    return list(variants.VARIANTS)


def needs_keystone(variants: Sequence[str]) -> bool:
    return "realks" in variants


def replay(
    folder: Path,
    variants: Sequence[str],
    broker: RabbitMQ,
    keystone: Keystone | None = None,
    peer: str = "heatperf",
    show: int = 5,
    output: TextIO | None = None,
) -> dict[str, Score]:
    """Replay the variants one after the other and return the score per group.

    :param folder: keeps configuration, logs and detailed results per variant
    :param peer: ``heatperf``, or ``upstream`` to run heat-api against its own recording
    :param show: differences to print per variant
    :param output: where the runner's report goes; standard output when None
    :raises StackError: when a server did not start, or nothing was replayed
    """
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / "score.json"
    result.unlink(missing_ok=True)
    env = environment(HEAT_VENV=str(paths.ROOT / ".peers" / paths.HEAT_PEER), ORACLE_TRANSPORT_URL=broker.url(VHOST))
    if needs_keystone(variants):
        if keystone is None:
            raise StackError("variant realks needs a real Keystone")
        env |= keystone.admin.environment()
        # The cases append the version themselves.
        env["ORACLE_REAL_KEYSTONE"] = keystone.url.removesuffix("/v3")
        env |= {"ORACLE_SVC_USER": keystone.heat.username, "ORACLE_SVC_PASSWORD": keystone.heat.password}
    command = [paths.peer(paths.HEAT_PEER, "python"), CASES / "run_all.py", "--work", folder, "--json", result]
    command += ["--variants", ",".join(variants), "--show", str(show)]
    if peer == "upstream":
        command += ["--kind", "reference"]
    else:
        serve = f"{shlex.quote(str(paths.project('heatperf')))} serve --workers 1"
        env["CANDIDATE_CMD"] = serve + " --bind 127.0.0.1:{port} --config-file {config}"
        command += ["--kind", "candidate", "--known", HERE / "known_differences.yaml"]
    done = subprocess.run(list(map(str, command)), env=env, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    if done.returncode not in (0, 1) or not result.exists():
        raise StackError(f"the replay ended with {done.returncode}; logs are in {folder}")
    scores = {group: Score(*counts) for group, counts in json.loads(result.read_text()).items()}
    if not scores:
        raise StackError(f"nothing was replayed; logs are in {folder}")
    return scores


def load_floors() -> dict[str, Any]:
    """``variants`` (list) and ``floors`` (group -> cases that must pass) of floors.yaml."""
    return dict(yaml.safe_load(FLOORS.read_text()))


def raise_floors(scores: dict[str, Score]) -> dict[str, tuple[int, int]]:
    """Write the scores into floors.yaml where they are higher, and return what changed as group -> (old, new).

    A floor never sinks here: giving a case up is an edit by hand, with a reason in the commit.
    """
    old = load_floors()["floors"]
    risen = {
        group: (old.get(group, 0), score.passed)
        for group, score in sorted(scores.items())
        if score.passed > old.get(group, 0)
    }
    text = FLOORS.read_text()
    for group, (_, new) in risen.items():
        line = f"  {group}: {new}\n"
        text, found = re.subn(rf"(?m)^  {re.escape(group)}: \d+\n", line, text)
        if not found:
            text += line
    FLOORS.write_text(text)
    return risen

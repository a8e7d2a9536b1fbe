"""The project's own recorded cases, in own/: what make compare has found, with upstream's answer.

Same form as upstream/corpus and upstream/golden, so that the same runner replays both.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .peers import Comparison

OWN = Path(__file__).resolve().parents[1] / "own"
GROUP = "compared"


def save(comparisons: Sequence[Comparison]) -> int:
    """Add cases with upstream's answers, except those that are there already.

    :returns: how many were added
    """
    cases, answers = _load("corpus"), _load("golden")
    there = {case["id"] for case in cases}
    added = 0
    for comparison in comparisons:
        case = {key: value for key, value in comparison.case.items() if key != "timeout"}
        content = json.dumps([case[key] for key in sorted(case) if key != "id"])
        name = f"{GROUP}-{case['variant']}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
        if name in there:
            continue
        there.add(name)
        cases.append({**case, "id": name, "group": GROUP})
        answers.append({"id": name, **comparison.expected})
        added += 1
    if added:
        _store("corpus", cases)
        _store("golden", answers)
    return added


def _file(kind: str) -> Path:
    return OWN / kind / f"{GROUP}.json"


def _load(kind: str) -> list[dict[str, Any]]:
    path = _file(kind)
    return list(json.loads(path.read_text())) if path.exists() else []


def _store(kind: str, entries: list[dict[str, Any]]) -> None:
    path = _file(kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(json.dumps(entry, sort_keys=True) for entry in entries) + "\n]\n")

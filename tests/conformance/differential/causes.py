"""From differences to causes: what is accepted, and which differences look alike.

In: the (kind, text) pairs of a comparison. Out: those that nobody has accepted, and a signature in which names and
numbers are blanked, so that one cause does not fill the report.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .peers import Comparison, replay

KNOWN = Path(__file__).resolve().parents[1] / "known_differences.yaml"
_BLANKS = [
    (re.compile(r"\{\{[^}]*\}\}"), "X"),
    (re.compile(r"\"(?:[^\"\\]|\\.)*\""), '"..."'),
    (re.compile(r"'(?:[^'\\]|\\.)*'"), "'...'"),
    (re.compile(r"\d+"), "0"),
]


class Known:
    """The accepted differences of known_differences.yaml.

    Entries for generated requests select ``group: generated`` and may say ``text``, a regular expression that must be
    found in the difference's text, and ``request``, one that must be found in the lines of the request's head.
    """

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = replay.load_known(KNOWN)

    def reason(self, case: dict[str, Any], kind: str, text: str) -> str | None:
        """Why this difference is accepted; None when it is not."""
        for entry in self.entries:
            if not replay.accepted(case, kind, [entry]):
                continue
            if not re.search(entry.get("text", ""), text):
                continue
            if re.search(entry.get("request", ""), _head(case), re.MULTILINE):
                return str(entry["reason"])
        return None

    def split(self, comparison: Comparison) -> tuple[list[tuple[str, str]], set[str]]:
        """The differences nobody has accepted, and the reasons for the others."""
        left, reasons = [], set()
        for kind, text in comparison.differences:
            reason = self.reason(comparison.case, kind, text)
            if reason is None:
                left.append((kind, text))
            else:
                reasons.add(reason)
        return left, reasons


def _head(case: dict[str, Any]) -> str:
    lines = [f"{case['method']} {case['path']}", *(f"{name}: {value}" for name, value in case["headers"])]
    return "\n".join(lines)


def signature(differences: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The kinds of difference with what was expected and what came, values blanked (except statuses)."""
    found = set()
    for kind, text in differences:
        if kind != "status":
            for pattern, blank in _BLANKS:
                text = pattern.sub(blank, text)
        found.add(f"{kind}: {text[:200]}")
    return tuple(sorted(found))


def same_cause(wanted: tuple[str, ...], found: tuple[str, ...]) -> bool:
    """Whether a smaller request still shows what the larger did: the most telling of its differences."""
    statuses = {line for line in wanted if line.startswith("status:")}
    if statuses:
        return statuses <= set(found)
    if not found or any(line.startswith("status:") for line in found):
        return False
    return bool(set(wanted) & set(found)) or {line.partition(":")[0] for line in wanted} == {
        line.partition(":")[0] for line in found
    }

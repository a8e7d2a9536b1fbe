"""The cases: upstream's recorded ones and our own, as one folder for the runner, all of them or a fixed tenth.

In: upstream/ and own/, each with corpus/GROUP.json (requests) and golden/GROUP.json (answers). Out: a folder of the
same form. Our own come from make compare; they are answers of upstream too.
"""

import json
import zlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCES = (HERE / "upstream", HERE / "own")

Case = dict[str, Any]


def load(kind: str = "corpus") -> list[Case]:
    """All cases (``corpus``) or their answers (``golden``), in the order of their files."""
    files = (path for source in SOURCES for path in sorted((source / kind).glob("*.json")))
    return [entry for path in files for entry in json.loads(path.read_text())]


def tenth(cases: Iterable[Case]) -> list[Case]:
    """Every tenth case of each group in each variant, at least one; the same ones every time.

    Where the counting starts differs from group to group, so that not only first cases are chosen, which tend to be
    the plain ones.
    """
    strata: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        strata[case["variant"], case["group"]].append(case)
    kept = []
    for (variant, group), members in strata.items():
        start = zlib.crc32(f"{variant} {group}".encode()) % min(10, len(members))
        kept += sorted(members, key=lambda case: case["id"])[start::10]
    return kept


def write(folder: Path, cases: Iterable[Case]) -> Path:
    """Put cases and their answers into ``folder`` as the runner wants them, and return it."""
    answers = {answer["id"]: answer for answer in load("golden")}
    chosen = list(cases)
    content = {"corpus": chosen, "golden": [answers[case["id"]] for case in chosen]}
    for kind, entries in content.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / kind / "cases.json").write_text(json.dumps(entries))
    return folder

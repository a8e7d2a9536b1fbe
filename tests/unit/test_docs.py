"""The operator's guide against the code: no option of ours that it leaves out, no default that it states wrongly."""

import pathlib
import re

from heatperf.config import options

GUIDE = (pathlib.Path(__file__).parents[2] / "docs" / "operators-guide.md").read_text()
#: Rows of the table of options: the names in the first cell, what the second says.
ROWS = re.findall(r"^\| ([^|]*`\[[^|]+) \| ([^|]*) \|", GUIDE, re.MULTILINE)


def test_every_option_of_ours_is_in_the_guide():
    names = [opt.dest for group in ("heatperf", "heat_api", "eventlet_opts") for opt in options.OPTIONS[group]]
    assert [name for name in names if not re.search(rf"\b{name}\b", GUIDE)] == []


def test_defaults_in_the_table_are_those_of_the_code():
    """Rows with as many numbers as options say their defaults, in order."""
    defaults = {opt.dest: opt.default for group in options.OPTIONS.values() for opt in group}
    checked = 0
    for cell, stated in ROWS:
        names = [name for name in re.findall(r"`(?:\[\w+\] )?(\w+)`", cell) if name in defaults]
        given = [text.strip() for text in stated.split(",")]
        if len(names) != len(given):
            continue
        for name, text in zip(names, given, strict=True):
            if re.fullmatch(r"-?\d+", text):
                assert int(text) == defaults[name], name
                checked += 1
    assert checked > 20

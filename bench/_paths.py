"""Where things are, and the way to tests/stack, which starts the real parts. Import it before ``stack``."""

import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
RESULTS = BENCH / "results" / "latest.json"
PLOTS = BENCH / "plots"
#: Git ignores it: runs that are not meant to be kept.
CACHE = ROOT / ".cache"

sys.path[:0] = [str(ROOT / "tests")]

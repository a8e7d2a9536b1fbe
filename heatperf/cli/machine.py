"""``heatperf hardware``. In: arguments. Out: a table on standard output. Raises ConfigurationError."""

import argparse
import os
from collections.abc import Sequence

from heatperf.errors import ConfigurationError
from heatperf.server.hardware import read
from heatperf.server.sizing import table


def hardware(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """``hardware`` prints what the number of workers is made from."""
    root = parser.parse_args(list(argv)).root
    if not os.path.isdir(root):
        raise ConfigurationError(f"--root {root} is not a directory", remedy="give one that holds proc and sys")
    print(table(read(root)))
    return 0

"""``python -m heatperf``."""

import sys

from heatperf.cli import main

sys.exit(main())

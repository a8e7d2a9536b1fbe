"""The embedded engine's process, started by the supervisor (see server/side.py).

In: the folder of its state, the path of its socket. Out: log lines on standard error. Raises ConfigurationError where
one of them cannot be used.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heatperf.engine.server import serve


def run(arguments: dict[str, Any], ready: Callable[[], None], stop: threading.Event) -> None:
    """The Entry of heatperf.server.side.

    :param arguments: ``state`` and ``socket``, paths
    """
    # As oslo.log writes the lines of the workers beside it.
    form = "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, datefmt="%Y-%m-%d %H:%M:%S")
    serve(Path(arguments["state"]), Path(arguments["socket"]), ready=ready, stop=stop)

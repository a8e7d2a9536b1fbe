"""Helper processes: which ones a configuration wants, and the entry of each (see server/side.py).

In: options; the path of a socket. Out: specifications for the supervisor; log lines on standard error. Raises
ConfigurationError where the path cannot be used. The zygote asks, the helper runs.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import heatperf
from heatperf.helper.server import serve
from heatperf.server.settings import Specification

LOG = logging.getLogger("heatperf.helper")

#: Workers that share a helper where helper_processes leaves the number to us.
WORKERS_PER_HELPER = 8


def specifications(wanted: int, workers: int, folder: str | None) -> tuple[Specification, ...]:
    """
    :param wanted: [heatperf] helper_processes
    :param folder: for their sockets; None where there is no place for one
    """
    count = -(-workers // WORKERS_PER_HELPER) if wanted < 0 else wanted
    if folder is None and count:
        LOG.warning("There is no folder for the sockets of helper processes; workers do their work")
    if folder is None:
        return ()
    # The version makes helpers of another release other helpers: a reload then starts new ones.
    return tuple(
        Specification(
            "helper" if count == 1 else f"help{number}",
            "heatperf.cli.helper:run",
            {"socket": str(Path(folder) / f"{number}-of-{count}-{heatperf.__version__}")},
        )
        for number in range(1, count + 1)
    )


def run(arguments: dict[str, Any], ready: Callable[[], None], stop: threading.Event) -> None:
    """The Entry of heatperf.server.side.

    :param arguments: ``socket``, a path
    """
    from heatperf.api.tasks import TASKS  # the zygote has its own reasons to import the API, or none

    form = "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, datefmt="%Y-%m-%d %H:%M:%S")
    serve(arguments["socket"], TASKS, ready=ready, stop=stop)

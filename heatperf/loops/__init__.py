"""How a worker waits, and how bytes become WSGI calls.

Reading order: base (the interface), gevent_loop (one implementation), offload (native threads), tls, http (bytes to
requests), wsgi (requests to WSGI and back), connection (one greenlet per connection, tying them), access_log.

``create`` runs in the worker, after the fork: a loop owns descriptors and a hub that must not be shared by processes.
"""

import importlib

from heatperf.errors import ConfigurationError
from heatperf.loops.base import HttpLimits, Loop, Pool, Stream, Waiter

__all__ = ["HttpLimits", "Loop", "Pool", "Stream", "Waiter", "check", "create", "preload"]

LOOPS = {"gevent": "heatperf.loops.gevent_loop"}
PLANNED = ("meinheld", "uvloop")


def check(name: str) -> None:
    """Refuse a loop that does not exist, without importing it.

    :raises ConfigurationError: unknown or not yet available
    """
    if name in LOOPS:
        return
    if name in PLANNED:
        raise ConfigurationError(f"--loop {name} is not available yet", remedy="use --loop gevent")
    raise ConfigurationError(f"--loop {name} is unknown", remedy="use --loop gevent")


def preload(name: str) -> None:
    """Import the loop's modules in the zygote, so that workers share their pages; creates nothing."""
    check(name)
    importlib.import_module(LOOPS[name])


def create(name: str) -> Loop:
    """Make the loop of this process.

    :param name: "gevent"
    :raises ConfigurationError: unknown or not yet available
    """
    check(name)
    loop: Loop = importlib.import_module(LOOPS[name]).create()
    return loop

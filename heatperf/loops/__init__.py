"""How a worker waits, and how bytes become WSGI calls.

Reading order: base (the interface), greenlets and listening (what all loops share), gevent_loop, uvloop_loop and
meinheld_loop (one library each), offload (native threads), tls, http (bytes to requests), wsgi (requests to WSGI and
back), connection (one greenlet per connection, tying them), access_log.

``create`` runs in the worker, after the fork: a loop owns descriptors and a hub that must not be shared by processes.
"""

import importlib
import importlib.util

from heatperf.errors import ConfigurationError
from heatperf.loops.base import HttpLimits, Loop, Pool, Stream, Waiter

__all__ = ["HttpLimits", "Loop", "Pool", "Stream", "Waiter", "available", "check", "create", "preload"]

# By name: the module, whose ``preload`` (if it has one) and ``create`` are called here.
LOOPS = {
    "gevent": "heatperf.loops.gevent_loop",
    "uvloop": "heatperf.loops.uvloop_loop",
    "meinheld": "heatperf.loops.meinheld_loop",
}
# The library has the loop's name.
REMEDIES = {
    "gevent": "install gevent",
    "uvloop": "install uvloop; or use --loop gevent",
    "meinheld": "build it with: python -m heatperf.loops.meinheld_build; or use --loop gevent",
}


def available() -> tuple[str, ...]:
    """The loops whose library is installed."""
    return tuple(name for name in LOOPS if _installed(name))


def check(name: str) -> None:
    """Refuse a loop that does not exist or whose library is missing, without importing it.

    :raises ConfigurationError: with the way to have it
    """
    if name not in LOOPS:
        raise ConfigurationError(f"--loop {name} is unknown", remedy="use --loop gevent")
    if not _installed(name):
        raise ConfigurationError(f"--loop {name} needs {name}, which is not installed", remedy=REMEDIES[name])


def preload(name: str) -> None:
    """Import the loop's modules in the zygote, so that workers share their pages; creates nothing.

    :raises ConfigurationError: unknown, not installed, or of no use as it is installed
    """
    check(name)
    try:
        module = importlib.import_module(LOOPS[name])
    except ImportError as exc:
        raise ConfigurationError(f"--loop {name} cannot be loaded: {exc}", remedy=REMEDIES[name]) from exc
    if hasattr(module, "preload"):
        module.preload()


def create(name: str) -> Loop:
    """Make the loop of this process, on the thread that will run it.

    :param name: one of LOOPS
    :raises ConfigurationError: as ``preload``
    """
    preload(name)
    loop: Loop = importlib.import_module(LOOPS[name]).create()
    return loop


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # loaded, by something that is no import
        return True

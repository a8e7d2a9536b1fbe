"""What the stations of the pipeline are built from, and what they start after the fork.

PasteDeploy calls factories with strings only, so the objects they need are put here for the time of loading, as
upstream does with its ConfigOpts; outside of it ``current()`` raises.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol


class Startable(Protocol):
    """A part with something to make in the worker. Pools need no release: the loop stops those it has made."""

    def start(self, loop: Any) -> None:
        """Called in the worker, after the fork, on the loop's thread."""


@dataclass
class Station:
    """One filter or application of the pipeline, for the log at start."""

    name: str
    factory: str
    how: str
    is_filter: bool


@dataclass
class Parts:
    """Collaborators of the stations.

    :param conf: parsed configuration
    :param policy: policy.enforcer.Policy
    :param engine: rpc.client.EngineClient
    """

    conf: Any
    policy: Any
    engine: Any
    #: no file is read but those named on the command line, and nobody but this machine is trusted with anything
    development: bool = False
    #: helper.client.Helpers; None to do without
    helpers: Any = None
    #: stations for which [heatperf] stock_filters asks for the stock implementation
    stock: frozenset[str] = frozenset()
    #: whether the file, as far as it is read, names only stations that leave the URL scheme alone and whose answers
    #: WebOb passes on as they are; a station is built when all that surround it or are below it have been read
    known_only: bool = True
    stations: list[Station] = field(default_factory=list)
    startables: list[Startable] = field(default_factory=list)
    #: the worker's loop; None before it starts
    loop: Any = None
    #: native threads for round trips to Keystone
    auth_pool: Any = None
    #: native threads for looking tokens up in memcached
    token_pool: Any = None

    def start(self, loop: Any) -> None:
        """Make the pools, then start every part that asked for it."""
        settings = self.conf.heatperf
        self.loop = loop
        self.auth_pool = loop.pool("auth", settings.auth_concurrency, settings.auth_queue)
        self.token_pool = loop.pool("tokens", settings.auth_concurrency, settings.auth_queue)
        self.policy.start(loop)
        self.engine.transport.start(loop)
        if self.helpers is not None:
            self.helpers.start(loop)
        for part in self.startables:
            part.start(loop)

    def stop(self) -> None:
        """Release what outlives a loop: the connections of transport and helpers."""
        self.engine.transport.stop()
        if self.helpers is not None:
            self.helpers.stop()


_current: Parts | None = None


@contextmanager
def loading(parts: Parts) -> Iterator[None]:
    """Make ``parts`` the current ones while the pipeline is loaded."""
    global _current
    previous, _current = _current, parts
    try:
        yield
    finally:
        _current = previous


def current() -> Parts:
    """Return the parts of the pipeline being loaded.

    :raises RuntimeError: none is: a factory was called outside of loading
    """
    if _current is None:
        raise RuntimeError("pipeline factories work only while heatperf.pipeline.deploy loads a file")
    return _current


App = Callable[[dict[str, Any], Callable[..., Any]], Any]
Filter = Callable[[App], App]

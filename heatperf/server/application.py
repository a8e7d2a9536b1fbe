"""What the server runs: the one thing it knows of the program around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from heatperf.errors import ConfigurationError
from heatperf.loops.access_log import Sink
from heatperf.loops.base import Loop
from heatperf.loops.wsgi import WSGIApplication
from heatperf.server.settings import ServerSettings


class Application(Protocol):
    """Built in the zygote before the fork; started and stopped in each worker."""

    wsgi: WSGIApplication

    def start(self, loop: Loop) -> None:
        """In the worker, in a greenlet of its loop, before the first connection: connect, start threads.

        :raises Exception: this worker cannot serve; it leaves with exit code 3 and the exception's text as the reason
        """

    def stop(self) -> None:
        """In the worker, in a greenlet, after the last request has been answered."""


class Logs(Protocol):
    """Made in the zygote, used in each worker: keeps log handlers from holding up the loop."""

    def start(self, loop: Loop, access: bool) -> Sink | None:
        """In the worker, before anything else is started. May start threads.

        :param access: whether there is to be an access log
        :returns: where its lines go; None when nobody wants them
        """

    def flush(self) -> None:
        """In the worker, as its last step: write what has been logged. May block, for a bounded time."""


def as_it_is(error: ConfigurationError) -> ConfigurationError:
    """For a Service that knows no more about an error than the error does."""
    return error


@dataclass(frozen=True)
class Service:
    """What a factory returns, in the zygote.

    :param locate: gives an error of the server's (an address that is taken, say) the place in the configuration that
        causes it
    :param logs: None for a program whose log handlers never block
    """

    settings: ServerSettings
    application: Application
    locate: Callable[[ConfigurationError], ConfigurationError] = as_it_is
    logs: Logs | None = None


#: Named as "module:function", since each generation imports it anew. It gets the arguments of the supervisor, among
#: them ``first`` (whether this is the start of the program, not a reload) and ``inherited`` (the addresses that came
#: with the process, which are served instead of configured ones). It sets up logging, reads configuration, builds.
#: A ConfigurationError ends the generation with exit code 2, so does a SystemExit with a text, which is printed as it
#: is; one with a number gives the exit code.
Factory = Callable[[dict[str, Any]], Service]

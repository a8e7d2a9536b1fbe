"""What the server runs: the one thing it knows of the program around it."""

from __future__ import annotations

from typing import Protocol

from heatperf.loops.base import Loop
from heatperf.loops.wsgi import WSGIApplication


class Application(Protocol):
    """Built in the supervisor before the fork; started and stopped in each worker."""

    wsgi: WSGIApplication

    def start(self, loop: Loop) -> None:
        """In the worker, in a greenlet of its loop, before the first connection: connect, start threads.

        :raises Exception: this worker cannot serve; it leaves with exit code 3 and the exception's text as the reason
        """

    def stop(self) -> None:
        """In the worker, in a greenlet, after the last request has been answered."""

"""Transport of a server that has no engine: every call is refused with the reason.

A configuration is checked with it, so that a broker need not exist for that.
"""

from typing import Any, NoReturn

from heatperf.errors import heat


class AbsentTransport:
    """Refuses every call at once.

    :param reason: sentence for the client
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def start(self, loop: Any) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    def call(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse.

        :raises heat.EngineUnavailable: always
        """
        raise heat.EngineUnavailable(self.reason)

    cast = call

"""Which request an answer belongs to, and what is known of the requests that get none. Pure.

In: requests under the keys that their answers carry. Out: the request an answer ends; for those that end otherwise, an
error that says no more than is known. Raised: Overloaded by ``begin``. The core of both transports of our own; each
adds its wire: rabbit (rpc/rabbit/calls.py) and the socket of the embedded engine (rpc/local.py).

Three things can be known of a request without an answer. It provably never left (``NotDelivered``): it may be sent
again, and clients are told so. It has left, and its answer cannot come any more (``Lost``): nobody knows whether it was
carried out. It has left, and its time is up (heat.MessagingTimeout): as Lost, and clients see what upstream shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from heatperf.errors import Overloaded, heat


class NotDelivered(Exception):
    """The engine provably has not got the request. The text is for clients."""


class Lost(Exception):
    """Nobody knows whether the request has reached the engine, or its answer is lost."""


class Pending:
    """One request between its begin and its end. Those derived from it hold secrets, so it has no repr of its own.

    :ivar token: whatever the transport wants back with the end: who waits for it
    :ivar method: for texts
    :ivar deadline: moment of the monotonic clock at which nobody waits any more
    :ivar left: it may have reached the engine
    """

    __slots__ = ("deadline", "left", "method", "token")

    def __init__(self, token: Any, method: str, deadline: float) -> None:
        self.token = token
        self.method = method
        self.deadline = deadline
        self.left = False

    def overdue(self) -> Exception:
        """What its caller is told when the time is up."""
        if self.left:
            return heat.MessagingTimeout(f"Timed out waiting for a reply to {self.method}")
        return NotDelivered("The engine takes no requests at the moment; this one was not sent")


P = TypeVar("P", bound=Pending)


class UnderWay(Generic[P]):
    """All requests without an end.

    :param most: how many there may be; None for any number
    """

    def __init__(self, most: int | None = None) -> None:
        self._pending: dict[Any, P] = {}
        self._most = most

    def __len__(self) -> int:
        return len(self._pending)

    def begin(self, key: Any, pending: P) -> None:
        """From now on its end is wanted.

        :raises Overloaded: there are too many already
        """
        if self._most is not None and len(self._pending) >= self._most:
            raise Overloaded("Too many requests wait for the engine", retry_after=1)
        self._pending[key] = pending

    def get(self, key: Any) -> P | None:
        """The request of that key; None if it has ended, or there never was one."""
        return self._pending.get(key)

    def end(self, key: Any) -> P | None:
        """Its end has come. As ``get``, and what comes for it later finds nobody."""
        return self._pending.pop(key, None)

    def which(self, condition: Callable[[P], bool]) -> list[tuple[Any, P]]:
        """(key, request) of those that meet a condition."""
        return [item for item in self._pending.items() if condition(item[1])]

    def cut(self, condition: Callable[[P], bool] = lambda _: True) -> Iterator[tuple[P, Exception]]:
        """No answer can come to those that meet a condition: end them.

        :returns: an iterator over each and what is known of it
        """
        for key, pending in self.which(condition):
            if self._pending.pop(key, None) is not None:
                yield (
                    pending,
                    Lost() if pending.left else NotDelivered("The engine went away before it got the request"),
                )


def told(error: NotDelivered | Lost, method: str) -> Exception:
    """What clients are told."""
    if isinstance(error, NotDelivered):
        return heat.EngineUnavailable(str(error))
    return heat.EngineLost(f"The answer to {method} is lost, and it may or may not be carried out")

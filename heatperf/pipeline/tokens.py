"""What authtoken remembers of tokens, and how many requests ask Keystone for the same one: once.

In: Callers and Keystone's answers, each with the moment until which it may be used. Out: the same, for as long. Raised:
what the one question raised, and errors.Overloaded or errors.DeadlineExceeded for those that wait for it. One per
worker, made before the fork and empty then; everything here runs on the loop's thread, so nothing is locked.

Nothing is ever written to a disk or shared with another process, and a reload starts with nothing.
"""

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

from keystonemiddleware.auth_token import _request

from heatperf.context import Caller
from heatperf.errors import DeadlineExceeded, Overloaded

#: Environ keys that authentication alone may set: keystonemiddleware's own list, 31 of them.
IDENTITY_KEYS = frozenset(
    "HTTP_" + name.upper().replace("-", "_") for name in _request._AuthTokenRequest({})._all_auth_headers()
)

INFINITE = float("inf")

#: Memory of one entry besides what ``footprint`` sees: the context's fields, memos of the policy, the plugin object.
ENTRY_OVERHEAD = 12_288
#: The same of a kept answer: key, record and the place in the mapping.
ANSWER_OVERHEAD = 512
#: Refused tokens that are remembered at once, about 200 bytes each.
MAX_REFUSALS = 10_000


class Entry(Caller):
    """A Caller in the cache.

    :param grow: called with the entry and bytes, when it comes to hold so many more; the cache's ``grow`` with the key
    :ivar until: moment of time.monotonic() at which it is forgotten
    :ivar expires: moment of time.time() after which the token is no longer valid
    :ivar size: estimate, bytes
    :ivar used: since it was last considered for eviction
    """

    __slots__ = ("until", "expires", "size", "used", "_grow")

    def __init__(
        self,
        environ: dict[str, Any],
        until: float,
        expires: float,
        size: int,
        grow: Callable[["Entry", int], None] = lambda _entry, _more: None,
    ) -> None:
        super().__init__(environ)
        self.until = until
        self.expires = expires
        self.size = size
        self.used = False
        self._grow = grow

    def keep_encoded(self, encoded: bytes) -> None:
        """As Caller's. It takes a third of the memory that the rest does, so the cache takes it into account."""
        more = sys.getsizeof(encoded) - (0 if self.encoded is None else sys.getsizeof(self.encoded))
        super().keep_encoded(encoded)
        self._grow(self, more)


class Answer:
    """What Keystone said of one token, as JSON: a tenth of the memory that the parsed form takes."""

    __slots__ = ("data", "until", "size", "used")

    def __init__(self, data: bytes, until: float, size: int) -> None:
        self.data = data
        self.until = until
        self.size = size
        self.used = False


Kept = TypeVar("Kept", Entry, Answer)


class Bounded(Generic[Kept]):
    """A mapping of limited size: first in, first out, but what was used since its last turn gets another.

    :param limit: bytes, by the entries' own ``size``
    :ivar entries: read it directly on the hot path; the reader heeds ``until`` and sets ``used``
    :ivar size: bytes held now
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.entries: OrderedDict[Hashable, Kept] = OrderedDict()

    def put(self, key: Hashable, kept: Kept, now: float) -> None:
        """Keep it, in place of what the key had. What is larger than the limit is not kept."""
        self.drop(key)
        if kept.size > self.limit:
            return
        self.entries[key] = kept
        self.size += kept.size
        self._make_room(now)

    def grow(self, key: Hashable, kept: Kept, more: int) -> None:
        """What was put there has come to hold so many bytes more. It is forgotten if that makes it too large."""
        if self.entries.get(key) is not kept:  # it was forgotten before
            return
        kept.size += more
        self.size += more
        if kept.size > self.limit:
            self.drop(key)
        # Time is for those who put: what has expired was counted, and may stay till then.
        self._make_room(-INFINITE)

    def drop(self, key: Hashable) -> None:
        """Forget what the key has, if anything."""
        kept = self.entries.pop(key, None)
        if kept is not None:
            self.size -= kept.size

    def _make_room(self, now: float) -> None:
        entries = self.entries
        while entries:
            key = next(iter(entries))
            oldest = entries[key]
            if oldest.until > now:
                if self.size <= self.limit:
                    return
                if oldest.used:
                    oldest.used = False
                    entries.move_to_end(key)
                    continue
            del entries[key]
            self.size -= oldest.size


class Refusals:
    """Tokens that Keystone has just refused, by their digests.

    :param seconds: for which a refusal is remembered; 0 remembers none
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._until: OrderedDict[bytes, float] = OrderedDict()

    @staticmethod
    def _digest(key: tuple[str, bool]) -> bytes:
        token, allow_expired = key
        return hashlib.sha256(token.encode() + (b"\0" if allow_expired else b"\1")).digest()

    def add(self, key: tuple[str, bool], now: float) -> None:
        """Remember that a token was refused; ``key`` is what was asked: the token, and whether it may have expired."""
        if self.seconds <= 0:
            return
        digest = self._digest(key)
        self._until.pop(digest, None)
        self._until[digest] = now + self.seconds
        while len(self._until) > MAX_REFUSALS:
            self._until.popitem(last=False)

    def holds(self, key: tuple[str, bool], now: float) -> bool:
        """Whether the same question was refused less than ``seconds`` ago."""
        return bool(self._until) and self._until.get(self._digest(key), 0.0) > now


class SingleFlight:
    """Requests that ask the same at the same time share one question.

    Who comes first asks; the others park until there is an answer, which may be an exception. Where the one who asks is
    ended before it has an answer (its client's connection was closed by force), another one asks.

    :param waiter: makes a Waiter of the worker's loop
    :param limit: requests that may wait for others' questions, in all
    :param patience: seconds after which a waiting request asks itself: the first question may hang in a connection that
        is dead
    :param deadline: seconds after which it gives up
    """

    def __init__(self, waiter: Callable[[], Any], limit: int, patience: float = 5.0, deadline: float = 60.0) -> None:
        self.limit = limit
        self.waiting = 0
        self._waiter = waiter
        self._patience = patience
        self._rounds = max(1, int(deadline / patience))
        self._flights: dict[Hashable, list[Any]] = {}

    def run(self, key: Hashable, ask: Callable[..., Any], *arguments: Any) -> Any:
        """Return the answer of ``ask(*arguments)``, asked by this request or by another that came first.

        :raises Overloaded: too many wait already
        :raises DeadlineExceeded: nobody got an answer in time
        :raises Exception: what ``ask`` raised
        """
        for _ in range(self._rounds):
            flight = self._flights.get(key)
            if flight is None:
                return self._lead(key, ask, arguments)
            outcome = self._follow(key, flight)
            if outcome is not None:
                error, answer = outcome
                if error is not None:
                    raise error
                return answer
        raise DeadlineExceeded("The validation of a token")

    def _lead(self, key: Hashable, ask: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        flight = self._flights[key] = []
        outcome: tuple[Exception | None, Any] | None = None
        try:
            answer = ask(*arguments)
            outcome = None, answer
            return answer
        except Exception as error:
            outcome = error, None
            raise
        finally:
            # not so if this took so long that another has asked since
            if self._flights.get(key) is flight:
                del self._flights[key]
            for waiter in tuple(flight):
                waiter.wake(outcome)

    def _follow(self, key: Hashable, flight: list[Any]) -> tuple[Exception | None, Any] | None:
        """Return what the flight brought, None if it must be asked again."""
        if self.waiting >= self.limit:
            raise Overloaded("Too many requests wait for the validation of their tokens", retry_after=1)
        waiter = self._waiter()
        flight.append(waiter)
        self.waiting += 1
        try:
            outcome: tuple[Exception | None, Any] | None = waiter.wait(self._patience)
            return outcome
        except TimeoutError:
            if self._flights.get(key) is flight:
                del self._flights[key]
            return None
        finally:
            self.waiting -= 1
            if waiter in flight:
                flight.remove(waiter)


def footprint(values: Iterable[Any]) -> int:
    """Estimate the memory that values take, in bytes: containers with all they hold, whatever is in twice once.

    Objects of other kinds count with their own size only: what they refer to is shared by all tokens.
    """
    total = 0
    seen: set[int] = set()
    left = list(values)
    while left:
        value = left.pop()
        if value is None or value is True or value is False or id(value) in seen:
            continue
        seen.add(id(value))
        total += sys.getsizeof(value)
        if isinstance(value, dict):
            left.extend(value)
            left.extend(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            left.extend(value)
    return total

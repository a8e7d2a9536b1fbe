"""A connection to one of the brokers that comes back when it is lost.

In: Hosts, a way to connect, and what a subclass wants set up on each new connection. Out: a Link that is ready for use.
Raised: NotDelivered. One greenlet per instance connects, sets up, waits for the end, and starts over; requests only
wait for it. Runs on the worker's loop thread.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from heatperf.rpc.amqp.codec import MalformedFrame
from heatperf.rpc.amqp.connection import AmqpError, ChannelClosed, Login
from heatperf.rpc.correlation import NotDelivered
from heatperf.rpc.rabbit.hosts import URGENT_PAUSE, Host, Hosts
from heatperf.rpc.rabbit.link import Link, LinkLost

LOG = logging.getLogger(__name__)

#: Seconds for one attempt, from the first packet to the last answer of the set-up. A broker that cannot do it in this
#: time is as good as none to a request that waits rpc_connect_deadline for it.
ATTEMPT = 2.5
#: A broker that answers, but not in time, gets twice the time with each attempt, up to so many seconds: after a restart
#: under load, logins and declarations of thousands of clients may take longer than any of them grants at first.
MOST_PATIENT = 20.0
#: A connection that is lost sooner than this many seconds after its set-up counts as a failed attempt.
STABLE = 1.0

#: The least time that one step of the set-up is given.
STEP = 0.1
#: Words of a refusal -> what helps. RabbitMQ from 4.0 on may be told to have no transient queues but exclusive ones.
_REMEDIES = {
    "transient_nonexcl_queues": "set [oslo_messaging_rabbit] rabbit_quorum_queue and rabbit_transient_quorum_queue to "
    "true, here and for the engines"
}

Connect = Callable[[Host, float], tuple[Any, Any]]


def left(by: float) -> float:
    """Seconds until a moment of the monotonic clock, and a little at least."""
    return max(by - time.monotonic(), STEP)


class Kept:
    """See the module's text; the base of Sender and Receiver.

    :param purpose: for the log
    :param connect: streams to a host, within some seconds; parks
    :param login: for a host
    :param wanted: whether requests are under way, for which a lost connection is to come back soon
    """

    def __init__(
        self,
        loop: Any,
        purpose: str,
        hosts: Hosts,
        connect: Connect,
        login: Callable[[Host], Login],
        wanted: Callable[[], bool],
    ) -> None:
        self.purpose = purpose
        self.link: Link | None = None
        self._loop = loop
        self._hosts = hosts
        self._connect = connect
        self._login = login
        self._wanted = wanted
        self._stopped = False
        self._waiting: set[Any] = set()
        self._pausing: Any = None
        self._attempted = 0.0
        self._patience = ATTEMPT
        self._gone: Any = None
        #: the one that is being set up, or in use, or the last one that was
        self._newest: Link | None = None
        #: what has been said of the present outage
        self._told: set[tuple[Host, str]] = set()

    def start(self) -> None:
        """Begin to connect, without waiting for it."""
        self._loop.spawn_apart(self._keep)

    def stop(self) -> None:
        """Hang up for good."""
        self._stopped = True
        if self._pausing is not None:
            self._pausing.wake()
        if self._newest is not None:
            self._newest.close()
        for waiter in self._waiting:
            waiter.wake()

    def ready(self, by: float) -> Link:
        """The link, once it is set up; parks until then.

        :param by: moment of the monotonic clock
        :raises NotDelivered: not by then
        """
        while self.link is None:
            seconds = by - time.monotonic()
            if seconds <= 0 or self._stopped:
                raise NotDelivered("The message broker cannot be reached at the moment; the request was not sent")
            waiter = self._loop.waiter()
            self._waiting.add(waiter)
            if self._pausing is not None:
                self._pausing.wake()
            try:
                waiter.wait(seconds)
            except TimeoutError:
                pass
            finally:
                self._waiting.discard(waiter)
        return self.link

    # What a subclass adds

    def set_up(self, link: Link, by: float) -> None:
        """Make a fresh connection ready for use; parks.

        :param by: moment of the monotonic clock
        :raises AmqpError, LinkLost, TimeoutError: it cannot be had
        """
        raise NotImplementedError

    def up(self) -> None:
        """There is a link, ready for use."""

    def lost(self) -> None:
        """The link that was ready is gone."""

    # The keeping

    def _keep(self) -> None:
        while not self._stopped:
            host = self._hosts.next()
            self._attempted = time.monotonic()
            link, refusal = None, None
            try:
                link = self._attempt(host)
            except (AmqpError, LinkLost, OSError, MalformedFrame) as error:
                refusal = error
            except Exception:
                LOG.exception("Unexpected error while connecting to the broker at %s", host)
            if link is not None:
                self._use(host, link)
            elif refusal is not None and not self._stopped:
                self._say(host, refusal)  # not while it is handled: oslo.log would add it to the line
            if not self._stopped:
                self._pause(self._hosts.failed())

    def _attempt(self, host: Host) -> Link:
        streams = self._connect(host, ATTEMPT)
        end = self._attempted + max(self._patience, ATTEMPT)
        self._gone = self._loop.waiter()
        link = self._newest = Link(self._loop, streams, self._login(host), self)
        try:
            link.open(left(end))
            self.set_up(link, end)
        except TimeoutError:
            if link.core.server:  # it has said something
                self._patience = min(2 * self._patience, MOST_PATIENT)
            link.close()
            raise
        except BaseException:
            link.close()
            raise
        self._patience = ATTEMPT
        if self._stopped:  # meanwhile
            link.close()
        return link

    def _use(self, host: Host, link: Link) -> None:
        """Let requests have the link until it ends."""
        if link.ended_by is None:
            began = time.monotonic()
            self.link = link
            LOG.info("Connected to the broker at %s for %s", host, self.purpose)
            self.up()
            for waiter in self._waiting:
                waiter.wake()
            self._gone.wait()
            self.link = None
            self.lost()
            if time.monotonic() - began > STABLE:
                self._hosts.connected()
                self._told.clear()
        if not self._stopped:
            self._say(host, link.ended_by or LinkLost("unknown"))

    def _say(self, host: Host, reason: Exception) -> None:
        """One line per outage and reason is enough; each attempt would be a flood."""
        why = reason_of(reason)
        level = logging.DEBUG if (host, why) in self._told else logging.ERROR
        self._told.add((host, why))
        LOG.log(level, "No connection to the broker at %s for %s: %s", host, self.purpose, why)

    def _pause(self, seconds: float) -> None:
        """Wait before the next attempt; not for long where somebody waits for it."""
        end = time.monotonic() + seconds
        while not self._stopped:
            until = min(end, self._attempted + URGENT_PAUSE) if self._wanted() else end
            rest = until - time.monotonic()
            if rest <= 0:
                return
            self._pausing = self._loop.waiter()
            with contextlib.suppress(TimeoutError):
                self._pausing.wait(rest)
            self._pausing = None

    # Owner of a link

    def fill(self) -> bytes:
        return b""

    def delivered(self, tag: int, body: bytes) -> None:
        """Nothing is consumed here."""

    def returned(self, code: int, text: str, body: bytes) -> None:
        """Nothing is published here."""

    def confirmed(self, tag: int, multiple: bool, positive: bool) -> None:
        """Nothing is published here."""

    def cancelled(self, consumer: str) -> None:
        """Nothing is consumed here."""

    def channel_closed(self, channel: int, error: ChannelClosed) -> None:
        """A channel that carries the purpose takes the connection with it: setting all up anew is simpler than half."""
        if self.link is not None:
            self.link.close(f"it has closed a channel: {error}")

    def blocked(self, reason: str | None) -> None:
        if reason is None:
            LOG.info("The broker takes messages again")
        else:
            LOG.warning("The broker takes no messages at the moment: %s", reason)

    def heard(self) -> bool:
        return False

    def ended(self, reason: Exception) -> None:
        self._gone.wake()


def reason_of(error: Exception) -> str:
    """Why there is no connection, in one line, and what helps where that is known."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    why = " ".join(str(error).split()) or type(error).__name__
    remedy = next((remedy for words, remedy in _REMEDIES.items() if words in why), None)
    return why if remedy is None else f"{why} ({remedy})"

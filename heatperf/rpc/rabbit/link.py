"""One open connection to a broker: a greenlet that reads, and one that writes while there is something to write.

In: two streams of ``loop.connect``, a Login, an Owner. Out: what the broker says, as calls of the owner; methods of the
broker's (``ask``), for which the calling greenlet parks. Raised: LinkLost, ConnectionClosed, ChannelClosed. Runs on the
worker's loop thread.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Protocol

from heatperf.rpc.amqp import codec
from heatperf.rpc.amqp.connection import AmqpError, ChannelClosed, Connection, ConnectionClosed, Login

LOG = logging.getLogger(__name__)

# Beyond 128 KiB the buffer of recv() comes from mmap, and every read pays for mapping it.
RECEIVE = 65_536
# Seconds for a goodbye to a broker that takes nothing more.
GOODBYE = 0.5
# How often a heartbeat interval is looked at.
TICKS_PER_HEARTBEAT = 6
# Seconds from the end of an alarm to the moment by which the broker has taken something of what has waited for it.
RELIEF = 2.0
# Seconds in which bytes that wait in the socket are read, after a standstill of this process.
CATCH_UP = 0.01


class LinkLost(Exception):
    """The connection is no more. The text holds no secret."""


def again(error: Exception) -> Exception:
    """A fresh exception that says the same: one that is raised again and again gathers a traceback without end."""
    if isinstance(error, ConnectionClosed):
        return ConnectionClosed(error.code, error.text)
    return LinkLost(*error.args)


class Owner(Protocol):
    """Whoever uses a link. Called on the loop thread; must not park, must not raise."""

    def fill(self) -> bytes:
        """Further bytes for the broker; asked for when the last ones are out, and not while the broker is blocked."""

    def delivered(self, tag: int, body: bytes) -> None:
        """See amqp.connection.Events, and so on."""

    def returned(self, code: int, text: str, body: bytes) -> None: ...

    def confirmed(self, tag: int, multiple: bool, positive: bool) -> None: ...

    def cancelled(self, consumer: str) -> None: ...

    def channel_closed(self, channel: int, error: ChannelClosed) -> None: ...

    def blocked(self, reason: str | None) -> None: ...

    def heard(self) -> bool:
        """All that came at once has been told.

        :returns: whether ``fill`` has something because of it
        """

    def ended(self, reason: Exception) -> None:
        """The link is no more; nothing is called after this."""


class Link:
    """See the module's text.

    :param streams: to receive and to send; both are closed at the end
    :ivar ended_by: why the link is no more; None while it is
    :ivar is_blocked: the broker has said that it takes no messages
    """

    def __init__(self, loop: Any, streams: tuple[Any, Any], login: Login, owner: Owner) -> None:
        self.ended_by: Exception | None = None
        self.is_blocked = False
        self._ear = _Ear(self, owner)
        self.core = Connection(login, self._ear)
        self._loop = loop
        self._owner = owner
        self._receiving, self._sending = streams
        # A broker under an alarm takes nothing for as long as it lasts. Dead peers are found by heartbeats, and by the
        # kernel, which gives up on bytes that nobody takes (TCP_USER_TIMEOUT), unless ``hold_on`` says otherwise.
        self._sending.send_timeout = float("inf")
        #: where the writer is parked, unless it is about to go on
        self._idle: Any = None
        self._opened = loop.waiter()
        self._asking: set[Any] = set()
        self._timer: Any = None
        self._ticked = time.monotonic()
        loop.spawn_apart(self._read)
        loop.spawn_apart(self._write)

    # Asking

    def open(self, seconds: float) -> None:
        """Park until the vhost is open.

        :raises LinkLost, ConnectionClosed: it will never be; TimeoutError: not by then
        """
        self._opened.wait(seconds)
        interval = self.core.heartbeat / TICKS_PER_HEARTBEAT
        if interval and self.ended_by is None:
            self._ticked = time.monotonic()
            self._timer = self._loop.every(interval, self._tick)

    def ask(self, channel: int, number: int, arguments: bytes, seconds: float) -> list[Any]:
        """Have the broker carry out a method, and park until it has.

        :returns: the fields of its answer
        :raises ChannelClosed: refused; LinkLost, ConnectionClosed: nobody is there to do it; TimeoutError: not in time
        """
        waiter = self._loop.waiter()
        self.core.request(channel, number, arguments, waiter)
        return self._answer(waiter, seconds)

    def open_channel(self, channel: int, seconds: float) -> None:
        """As ask; a channel that was closed may be opened again."""
        waiter = self._loop.waiter()
        self.core.open_channel(channel, waiter)
        self._answer(waiter, seconds)

    def _answer(self, waiter: Any, seconds: float) -> list[Any]:
        if self.ended_by is not None:
            raise again(self.ended_by)
        self._asking.add(waiter)
        self.kick()
        try:
            fields: list[Any] = waiter.wait(seconds)
        finally:
            self._asking.discard(waiter)
        return fields

    def answered(self, waiter: Any, outcome: Any) -> None:
        """The broker's word on a method; for _Ear."""
        if isinstance(outcome, Exception):
            waiter.throw(outcome)
        else:
            waiter.wake(outcome)

    def blocked(self, now: bool) -> None:
        """The broker takes no messages, or does so again; for _Ear."""
        self.is_blocked = now
        if now:
            # It says so, and reads nothing more: what is on the way is not lost, however long that lasts.
            self._sending.hold_on(True)
        else:
            self._loop.call_later(RELIEF, self._relieved)
            self.kick()

    def _relieved(self) -> None:
        if not self.is_blocked and self.ended_by is None:
            self._sending.hold_on(False)

    # Bytes

    def kick(self) -> None:
        """There is something to write: it goes out when the greenlets that are ready now have run, in one piece."""
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.wake()

    def _write(self) -> None:
        core, owner = self.core, self._owner
        try:
            while self.ended_by is None:
                now = time.monotonic()
                if core.silent(now):
                    # This process has stood still for longer than the broker puts up with, or the way is cut. The
                    # broker's goodbye may be here already, and what is written after it is lost.
                    self._loop.sleep(CATCH_UP)
                    if self.ended_by is not None:
                        break
                data = core.take(now)
                if core.open and not self.is_blocked:
                    data += owner.fill()
                if data:
                    self._sending.send_all(data)
                    continue
                self._idle = self._loop.waiter()
                self._idle.wait()
        except OSError as error:
            self._end(LinkLost(f"it takes nothing more: {error.strerror or repr(error)}"))
        except Exception as error:
            LOG.exception("Unexpected error while writing to the broker")
            self._end(LinkLost(repr(error)))
        finally:
            self._idle = None
            self._sending.close()

    def _read(self) -> None:
        reason: Exception = LinkLost("it has closed the connection")
        try:
            while self.ended_by is None and (data := self._receiving.recv(RECEIVE, wait_first=True)):
                self.core.receive(data, time.monotonic())
                if self._ear.heard() or self.core.has_output:
                    self.kick()
        except codec.MalformedFrame as error:
            reason = LinkLost(f"it does not speak AMQP 0-9-1: {error}")
        except OSError as error:
            reason = LinkLost(error.strerror or repr(error))
        except Exception as error:  # noqa: BLE001 - also what the loop raises for interrupt(): this link ends
            reason = LinkLost(repr(error))
        finally:
            self._end(reason)
            self._receiving.close()

    def _tick(self) -> None:
        now = time.monotonic()
        late = now - self._ticked > 2 * self.core.heartbeat / TICKS_PER_HEARTBEAT
        self._ticked = now
        # A broker under an alarm still sends heartbeats, and the kernel does not look after it then, see ``blocked``.
        alive = self.core.tick(now) and not (self.is_blocked and self.core.silent(now))
        self.kick()
        # After a busy spell of this loop the broker's heartbeats may still wait in the socket.
        if not alive and not late:
            self._end(LinkLost("it has been silent for too long"))

    # The end

    def close(self, reason: str = "this server hangs up") -> None:
        """Say goodbye and hang up.

        :param reason: for the log
        """
        self.core.close()
        goodbye = self.core.take(time.monotonic())
        idle, self._idle = self._idle, None  # nobody may wake the writer while this greenlet writes in its place
        try:
            if idle is not None and self.ended_by is None:  # else the rest of a message would come first
                self._sending.send_timeout = GOODBYE
                self._sending.send_all(goodbye)
        except OSError as error:
            LOG.debug("The broker has gone before us: %s", error)
        finally:
            self._end(LinkLost(reason))
            if idle is not None:
                idle.wake()

    def refused(self, error: ConnectionClosed) -> None:
        """The broker has closed the connection; for _Ear."""
        self._end(error)

    def opened(self) -> None:
        """The vhost is open; for _Ear."""
        self._opened.wake()

    def _end(self, reason: Exception) -> None:
        if self.ended_by is not None:
            return
        self.ended_by = reason
        if self._timer is not None:
            self._timer.cancel()
        # In the middle of the login, RabbitMQ tells what was wrong with it by closing (3.x: without a word).
        self._opened.throw(again(reason))
        for waiter in self._asking:
            waiter.throw(again(reason))
        # A writer that is parked in send_all wakes with an error and closes its stream itself; so does the reader.
        self._sending.shutdown_write()
        self._receiving.interrupt()
        self.kick()
        self._ear.owner = None
        self._owner.ended(reason)


class _Ear:
    """The Events of a link's Connection: answers go to whoever asked, the rest to the owner, until the link has ended:
    there may be a new one by then, and what the old one still has to say is not about that.
    """

    def __init__(self, link: Link, owner: Owner) -> None:
        self._link = link
        self.owner: Owner | None = owner
        self.opened = link.opened
        self.closed = link.refused
        self.answered = link.answered

    def refused(self, token: Any, error: AmqpError) -> None:
        self._link.answered(token, error)

    def blocked(self, reason: str | None) -> None:
        self._link.blocked(reason is not None)
        if self.owner is not None:
            self.owner.blocked(reason)

    def channel_closed(self, channel: int, error: ChannelClosed) -> None:
        if self.owner is not None:
            self.owner.channel_closed(channel, error)

    def heard(self) -> bool:
        return self.owner is not None and self.owner.heard()

    def delivered(self, _channel: int, tag: int, body: bytes) -> None:
        if self.owner is not None:
            self.owner.delivered(tag, body)

    def returned(self, _channel: int, code: int, text: str, body: bytes) -> None:
        if self.owner is not None:
            self.owner.returned(code, text, body)

    def confirmed(self, _channel: int, tag: int, multiple: bool, positive: bool) -> None:
        if self.owner is not None:
            self.owner.confirmed(tag, multiple, positive)

    def cancelled(self, _channel: int, consumer: str) -> None:
        if self.owner is not None:
            self.owner.cancelled(consumer)

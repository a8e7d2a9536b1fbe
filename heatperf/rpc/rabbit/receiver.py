"""The reply queue: declared, consumed and acknowledged, over a connection of its own.

In: what the engines send. Out: bodies, given to whoever waits (``on_reply``); the news that replies may be lost
(``on_loss``). Raised: see kept. Runs on the worker's loop thread.

The queue's name survives reconnects: engines that work on a call have it, and the broker keeps what they send for as
long as the queue's time to live. If the queue itself is gone, so is every reply in it. A name under which there is no
queue to be had, or from which somebody else takes already, is given up for another one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from heatperf.rpc.amqp import codec
from heatperf.rpc.amqp.connection import NOT_FOUND, PRECONDITION_FAILED, RESOURCE_LOCKED, ChannelClosed
from heatperf.rpc.rabbit.kept import Kept, left
from heatperf.rpc.rabbit.link import Link, LinkLost

LOG = logging.getLogger(__name__)

_CHANNEL = 1
_PASSIVE, _DURABLE = 1, 2
_CONSUMER = "replies"
# So many replies are acknowledged at once. One that was not acknowledged when the connection is lost comes again, and
# finds that nobody waits for it.
_BATCH = 32
# What the broker says of a name whose queue is there in another form, belongs to somebody else, or was on a node that
# is down.
_TAKEN = (PRECONDITION_FAILED, RESOURCE_LOCKED, NOT_FOUND)
# Names that are tried over one connection.
_NAMES = 8


class Receiver(Kept):
    """See the module's text.

    :param name: makes the queue's name, once there is a broker that knows it; may park
    :param durable: how it is declared
    :param arguments: of the declaration: x-expires and so on
    :param arguments_of_consumer: of the consumer
    :param prefetch: replies that may be on the way unacknowledged, 0 for any number
    :param on_reply: takes a body; must neither park nor raise
    :param on_loss: the queue was lost, with all replies to calls of before; told whether its name is lost as well,
        which calls that have not been sent yet may hold
    :param on_ready: whether replies would arrive now
    :ivar queue: its name, known once there is a link
    """

    def __init__(
        self,
        *arguments: Any,
        name: Callable[[], str],
        durable: bool,
        arguments_of_queue: Mapping[str, Any],
        arguments_of_consumer: Mapping[str, Any],
        prefetch: int,
        on_reply: Callable[[bytes], None],
        on_loss: Callable[[bool], None],
        on_ready: Callable[[bool], None],
    ) -> None:
        super().__init__(*arguments)
        self.queue = ""
        self._name = name
        self._durable = durable
        self._arguments = arguments_of_queue
        self._consumer_arguments = arguments_of_consumer
        self._prefetch = prefetch
        self._on_reply = on_reply
        self._on_loss = on_loss
        self._on_ready = on_ready
        self._declared = False
        #: tags of deliveries
        self._last = self._acknowledged = 0
        self._batch = max(min(prefetch // 2, _BATCH), 1) if prefetch else _BATCH

    # Kept

    def set_up(self, link: Link, by: float) -> None:
        self._last = self._acknowledged = 0
        self._open(link, by)
        if self._declared and not self._outlived(link, by):
            self._declared = False
            LOG.error("The reply queue is gone, and with it the replies to calls under way")
            self._on_loss(False)
            self._open(link, by)
        if not self._declared:
            self._have_queue(link, by)
            self._declared = True
        names = codec.short_string(self.queue) + codec.short_string(_CONSUMER)
        arguments = codec.table(self._consumer_arguments)
        link.ask(_CHANNEL, codec.BASIC_CONSUME, b"\0\0" + names + b"\0" + arguments, left(by))

    def up(self) -> None:
        self._on_ready(True)

    def lost(self) -> None:
        self._on_ready(False)

    def _open(self, link: Link, by: float) -> None:
        link.open_channel(_CHANNEL, left(by))
        if self._prefetch:
            size, count, whole_connection = b"\0\0\0\0", self._prefetch.to_bytes(2), b"\0"
            link.ask(_CHANNEL, codec.BASIC_QOS, size + count + whole_connection, left(by))

    def _have_queue(self, link: Link, by: float) -> None:
        """Declare the queue, under another name if it must be.

        :raises LinkLost: none of some names can be used
        """
        for _ in range(_NAMES):
            if not self.queue:
                self.queue = self._name()
            try:
                consumers = self._declare(link, _DURABLE * self._durable, self._arguments, by)
            except ChannelClosed as error:
                if error.code not in _TAKEN:
                    raise
                why = error.text
                self._open(link, by)
            else:
                # Two services of one hostname and processname (use_queue_manager), whose counters do not meet. Both
                # would get half of the replies.
                if not consumers:
                    return
                why = "somebody takes replies from it already"
            LOG.warning("The reply queue %s cannot be used, the next name is tried: %s", self.queue, why)
            self.queue = ""
            self._on_loss(True)
        raise LinkLost("there is no name for a queue of replies")

    def _outlived(self, link: Link, by: float) -> bool:
        """Whether the queue has outlived the last connection; if not, the channel is closed."""
        try:
            self._declare(link, _PASSIVE, {}, by)
        except ChannelClosed as error:
            if error.code != NOT_FOUND:
                raise
            return False
        return True

    def _declare(self, link: Link, bits: int, arguments: Mapping[str, Any], by: float) -> int:
        """:returns: how many consumers the queue has"""
        body = b"\0\0" + codec.short_string(self.queue) + bytes([bits]) + codec.table(arguments)
        return int(link.ask(_CHANNEL, codec.QUEUE_DECLARE, body, left(by))[2])

    # Owner of the link

    def delivered(self, tag: int, body: bytes) -> None:
        self._last = tag
        self._on_reply(body)

    def heard(self) -> bool:
        return self._last - self._acknowledged >= self._batch

    def fill(self) -> bytes:
        return self._ack() if self.heard() else b""

    def acknowledge(self) -> None:
        """Acknowledge what has come, however little it is; to be called now and then."""
        link = self.link
        if link is not None and self._last > self._acknowledged:
            link.core.send(self._ack())
            link.kick()

    def _ack(self) -> bytes:
        self._acknowledged = self._last
        return codec.ack(_CHANNEL, self._last, multiple=True)

    def cancelled(self, consumer: str) -> None:
        # The queue was deleted, or its leader moved. Setting all up anew finds out which.
        if self.link is not None:
            self.link.close("it has cancelled the consumer of replies")

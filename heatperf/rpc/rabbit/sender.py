"""Publishes messages to the engine's queue, and knows what has become of each.

In: Messages. Out: one Outcome per message, told to the message. Raised: nothing for a message; see kept for the
connection. Runs on the worker's loop thread.

A message leaves when its bytes are handed to the kernel, together with all others of that moment. Until then it can be
withdrawn, or go over the next connection. After that it is never sent again: the broker confirms it, refuses it, or
the connection is lost and nobody knows.
"""

from __future__ import annotations

import enum
import logging
import time
from collections import deque
from collections.abc import Mapping
from itertools import takewhile
from typing import Any, Protocol

from heatperf.rpc import envelope
from heatperf.rpc.amqp import codec
from heatperf.rpc.amqp.connection import NOT_FOUND, PRECONDITION_FAILED, ChannelClosed
from heatperf.rpc.rabbit.kept import Kept, left
from heatperf.rpc.rabbit.link import Link, LinkLost

LOG = logging.getLogger(__name__)

_MESSAGES, _LOOKS = 1, 2
# Bytes handed to the kernel at once; more would only wait there instead of here, where it can be withdrawn.
_BATCH = 1_048_576
_DURABLE, _AUTO_DELETE, _PASSIVE = 2, 4, 1


class Outcome(enum.Enum):
    """What became of a message."""

    QUEUED = "the broker has it"
    REFUSED = "the broker has sent it back, for no queue takes it"
    UNKNOWN = "the connection was lost before the broker answered, or the broker does not know itself"


class Message(Protocol):
    """What is to be published."""

    body: bytes
    #: milliseconds the broker keeps it, None for ever
    expiration: int | None
    #: of the envelope
    unique_id: str
    #: of the reply that will come; "" for none
    msg_id: str
    #: it must not be sent any more
    withdrawn: bool
    #: its bytes are on the way; set by the sender
    left: bool

    def settled(self, outcome: Outcome) -> None:
        """The outcome; called once. Must not park, must not raise."""


class Sender(Kept):
    """See the module's text.

    :param exchange: of the service, a topic exchange; declared here, as oslo.messaging's clients do
    :param durable: how it is declared; one that exists as the other kind is used as it is
    :param topic: name of the engine's queue and routing key of its messages
    :param headers: of the messages
    """

    def __init__(
        self,
        *arguments: Any,
        exchange: str,
        durable: bool,
        auto_delete: bool,
        topic: str,
        headers: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(*arguments)
        self._headers = headers
        self._exchange = exchange
        self._durable = durable
        self._auto_delete = auto_delete
        self._topic = topic
        self._queue: deque[Message] = deque()
        #: calls, while replies would not arrive
        self._held: deque[Message] = deque()
        self._replies = False
        self._unconfirmed: dict[int, Message] = {}
        self._returned: set[str] = set()
        self._publications: dict[int | None, codec.Publication] = {}
        self._tag = 0
        self._looking = False

    def publish(self, message: Message) -> None:
        """Have a message sent as soon as there is a link; see the module's text."""
        # While the broker takes nothing, the oldest are the first that nobody waits for any more.
        if self._queue or self._held:
            for queue in (self._queue, self._held):
                while queue and queue[0].withdrawn:
                    queue.popleft()
        self._queue.append(message)
        if self.link is not None:
            self.link.kick()

    def consumers(self, seconds: float) -> int:
        """How many engines listen at the moment, as the broker sees it; parks.

        :raises LinkLost, AmqpError, TimeoutError: the broker does not say
        """
        link = self.link
        if link is None:
            raise LinkLost("there is no connection")
        end = time.monotonic() + seconds
        if link.is_blocked:
            raise LinkLost("the broker takes nothing at the moment")
        if not self._looking:
            self._looking = True  # from now on, even if the answer takes longer than we wait
            link.open_channel(_LOOKS, seconds)
        arguments = b"\0\0" + codec.short_string(self._topic) + bytes([_PASSIVE]) + codec.table({})
        try:
            fields = link.ask(_LOOKS, codec.QUEUE_DECLARE, arguments, max(end - time.monotonic(), 0.0))
        except ChannelClosed as error:  # ``channel_closed`` has taken note
            if error.code != NOT_FOUND:
                raise
            return 0
        return int(fields[2])

    def replies_arrive(self, ready: bool) -> None:
        """Calls are sent only while replies would arrive; they wait here meanwhile."""
        self._replies = ready
        if ready and self._held:
            self._queue.extendleft(reversed(self._held))
            self._held.clear()
            if self.link is not None:
                self.link.kick()

    # Kept

    def set_up(self, link: Link, by: float) -> None:
        self._publications = {}
        self._tag = 0
        self._looking = False
        link.open_channel(_MESSAGES, left(by))
        try:
            self._declare(link, by)
        except ChannelClosed as error:
            if error.code != PRECONDITION_FAILED:
                raise
            # Services share it, and the first to come has declared it. oslo.messaging does the same where it wants a
            # durable one and finds one that is not.
            LOG.warning("The exchange %s is used as it is, not as configured here: %s", self._exchange, error.text)
            link.open_channel(_MESSAGES, left(by))
        link.ask(_MESSAGES, codec.CONFIRM_SELECT, b"\0", left(by))

    def _declare(self, link: Link, by: float) -> None:
        bits = _DURABLE * self._durable + _AUTO_DELETE * self._auto_delete
        names = codec.short_string(self._exchange) + codec.short_string("topic")
        link.ask(_MESSAGES, codec.EXCHANGE_DECLARE, b"\0\0" + names + bytes([bits]) + codec.table({}), left(by))

    def up(self) -> None:
        if self.link is not None:
            self.link.kick()  # what the last connection has not taken

    def lost(self) -> None:
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for message in unconfirmed.values():
            self._settle(message, False)
        self._returned.clear()

    def channel_closed(self, channel: int, error: ChannelClosed) -> None:
        if channel == _LOOKS:
            self._looking = False  # a queue that is not there closes the channel of whoever looks for it
        else:
            super().channel_closed(channel, error)

    # Owner of the link

    def fill(self) -> bytes:
        if self.link is None:
            return b""
        parts: list[bytes] = []
        size = 0
        while self._queue and size < _BATCH:
            message = self._queue.popleft()
            if message.withdrawn:
                continue
            if message.msg_id and not self._replies:
                self._held.append(message)
                continue
            publication = self._publications.get(message.expiration) or self._publication(message.expiration)
            self._tag += 1
            self._unconfirmed[self._tag] = message
            message.left = True
            data = publication.encode(message.body)
            message.body = b""
            size += len(data)
            parts.append(data)
        return b"".join(parts)

    def _publication(self, expiration: int | None) -> codec.Publication:
        if self.link is None:
            raise LinkLost("there is no connection")
        if len(self._publications) > 100:
            self._publications.clear()
        made = codec.Publication(
            _MESSAGES,
            self._exchange,
            self._topic,
            expiration,
            mandatory=True,
            frame_max=self.link.core.frame_max,
            headers=self._headers,
        )
        self._publications[expiration] = made
        return made

    def confirmed(self, tag: int, multiple: bool, positive: bool) -> None:
        unconfirmed = self._unconfirmed
        if not multiple:
            self._settle(unconfirmed.pop(tag, None), positive)
            return
        # Tags only grow, so the rest need not be looked at; 0 stands for all (basic.ack, delivery-tag).
        for known in list(takewhile(lambda known: known <= tag, unconfirmed) if tag else unconfirmed):
            self._settle(unconfirmed.pop(known, None), positive)

    def _settle(self, message: Message | None, positive: bool) -> None:
        if message is None:
            return
        if self._returned and message.unique_id in self._returned:
            self._returned.discard(message.unique_id)
            message.settled(Outcome.REFUSED)
        else:
            # A queue that failed over a message may have it all the same.
            message.settled(Outcome.QUEUED if positive else Outcome.UNKNOWN)

    def returned(self, code: int, text: str, body: bytes) -> None:
        # The confirm of a returned message follows, and says that the broker has dealt with it.
        unique_id = envelope.unique_id_of(body)
        if unique_id is not None:
            self._returned.add(unique_id)

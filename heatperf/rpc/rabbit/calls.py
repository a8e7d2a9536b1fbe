"""Who waits for what: calls until their reply, casts until their confirm. Pure.

Comes in: outcomes of publishing, replies, the time. Goes out: the end of each, told to the waiter it was begun with.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

from heatperf.errors import heat
from heatperf.rpc import envelope, remote
from heatperf.rpc.correlation import Lost, NotDelivered, Pending, UnderWay
from heatperf.rpc.rabbit.sender import Outcome
from heatperf.rpc.raw import RawReply

LOG = logging.getLogger(__name__)

# So many calls that are over are remembered, to say of a late reply what it was for.
_REMEMBERED = 256
# Bytes of a reply that is decoded without a look at whose it is: that would take longer.
_LARGE = 4096


class Unroutable(NotDelivered):
    """The broker has sent the message back: there is no queue of an engine."""


class Sent(Pending):
    """One message under way; see sender.Message. Its token is a Waiter.

    :param msg_id: what its reply carries; "" for a cast, which ends with its confirm
    :param reach_by: the moment by which it must have left
    :ivar raw_above: see EngineClient.call
    """

    __slots__ = ("body", "expiration", "msg_id", "raw_above", "reach_by", "unique_id", "withdrawn")

    def __init__(self, waiter: Any, method: str, unique_id: str, msg_id: str, deadline: float, reach_by: float) -> None:
        super().__init__(waiter, method, deadline)
        self.unique_id = unique_id
        self.msg_id = msg_id
        self.reach_by = reach_by
        self.body = b""
        self.expiration: int | None = None
        self.raw_above: int | None = None
        self.withdrawn = False

    def again(self, waiter: Any) -> None:
        """It has reached nobody, and is about to be sent once more."""
        self.token = waiter
        self.left = False

    @property
    def key(self) -> str:
        """Among all that are under way."""
        return self.msg_id or self.unique_id

    def settled(self, outcome: Outcome) -> None:
        """The broker's word on the message."""
        if outcome is Outcome.QUEUED:
            if not self.msg_id:
                self.token.wake()
        elif outcome is Outcome.REFUSED:
            self.token.throw(Unroutable("No engine is running at the moment; the request reached none"))
        elif not self.msg_id:
            self.token.throw(Lost())
        # Else it is a call that the broker may have: its reply would come over the other connection.


class Calls:
    """All messages without an end.

    :param most: how many there may be
    """

    def __init__(self, most: int) -> None:
        self._under_way: UnderWay[Sent] = UnderWay(most)
        self._over: OrderedDict[str, str] = OrderedDict()

    def any(self) -> bool:
        """Whether anybody waits for anything."""
        return len(self._under_way) > 0

    def begin(self, sent: Sent) -> None:
        """From now on its end is wanted.

        :raises Overloaded: too many are under way
        """
        self._under_way.begin(sent.key, sent)

    def end(self, sent: Sent) -> None:
        """Nobody waits for it any more; what has not left stays here."""
        sent.withdrawn = True
        sent.body = b""
        if self._under_way.end(sent.key) is not None and sent.msg_id:
            self._over[sent.msg_id] = sent.method
            if len(self._over) > _REMEMBERED:
                self._over.popitem(last=False)

    def replied(self, body: bytes) -> None:
        """Something has come into the reply queue. What is no reply, or a late or second one, is logged and dropped; a
        call whose reply cannot be read is lost, as no other one will come."""
        if len(body) > _LARGE and self._given_raw(body):
            return
        try:
            reply = envelope.decode_reply(body)
        except envelope.MalformedReply as error:
            why = str(error)
        else:
            self._ended(reply)
            return
        call = self._call(envelope.id_in(body))
        if call is None:
            LOG.warning("Dropped a message from the reply queue: %s", why)
        else:
            LOG.error("The reply to %s cannot be read: %s", call.method, why)
            self._under_way.end(call.key)
            call.token.throw(Lost())

    def _ended(self, reply: envelope.Reply) -> None:
        call = self._call(reply.msg_id)
        if call is None:
            self._nobody_waits(reply.msg_id)
        elif reply.failure is not None:
            self._under_way.end(reply.msg_id)
            call.token.throw(_rebuilt(reply.failure))
        elif reply.ending:
            self._under_way.end(reply.msg_id)
            call.token.wake(reply.result)
        # else a sign of life, which only clients with a call monitor ask for

    def _given_raw(self, body: bytes) -> bool:
        """Give a reply to a call that takes it undecoded, if it is one, or to nobody. False: it is to be decoded."""
        msg_id = envelope.success_of(body)
        if msg_id is None:
            return False
        call = self._call(msg_id)
        if call is None:
            self._nobody_waits(msg_id)
        elif call.raw_above is None or len(body) <= call.raw_above:
            return False
        else:
            self._under_way.end(msg_id)
            call.token.wake(RawReply(body))
        return True

    def _call(self, msg_id: str | None) -> Sent | None:
        """The call that waits for a reply with that id; a cast waits for none."""
        sent = self._under_way.get(msg_id)
        return sent if sent is not None and sent.msg_id else None

    def _nobody_waits(self, msg_id: str) -> None:
        method = self._over.pop(msg_id, None)
        LOG.warning("Dropped a reply that nobody waits for: %s", f"{method} came too late" if method else "unknown")

    def lost(self, renamed: bool) -> None:
        """The reply queue is gone: calls that have left get no answer any more.

        :param renamed: the next one has another name, so neither do those that are about to leave
        """
        for call, error in self._under_way.cut(
            lambda sent: bool(sent.msg_id) and (sent.left or (renamed and bool(sent.body)))
        ):
            call.withdrawn = True
            call.token.throw(error)

    def stop(self) -> None:
        """Nothing comes any more."""
        for sent, error in self._under_way.cut():
            sent.withdrawn = True
            sent.token.throw(error)

    def expire(self, now: float) -> None:
        """End what has not left in time, and what has no answer in time."""
        for _, sent in self._under_way.which(lambda sent: sent.deadline <= now or sent.reach_by <= now):
            if sent.deadline <= now or not sent.left:
                self.end(sent)
                sent.token.throw(sent.overdue())


def _rebuilt(failure: dict[str, Any]) -> Exception:
    try:
        return remote.rebuild(failure)
    except Exception:  # it describes no exception; the connection must not suffer
        LOG.exception("A failure that cannot be read")
        return heat.RemoteError("", "a failure that cannot be read", [])

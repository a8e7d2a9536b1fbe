"""Calls and casts to heat-engine over RabbitMQ: two connections per worker, everything pipelined.

In: contexts, methods, arguments. Out: what the engine answers. Raised: what the engine raised (rpc/remote.py);
heat.MessagingTimeout when nobody answered in time; heat.EngineLost when the reply queue was lost with the reply;
heat.EngineUnavailable when the message provably reached no queue; Overloaded when too many wait already. Runs on the
worker's loop thread; a call parks its greenlet.

One connection publishes, the other receives: a broker that takes no messages (an alarm) stops reading from those who
publish, and must not stop replies with it. No request outlives its deadline: calls are swept, and everything else that
parks has a time limit. Nothing is sent twice, unless the broker has sent it back: a message that may have left is only
waited for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
from typing import Any

from heatperf.context import RequestContext
from heatperf.errors import heat
from heatperf.rpc import envelope
from heatperf.rpc.amqp.connection import AmqpError, Login
from heatperf.rpc.correlation import Lost, NotDelivered, told
from heatperf.rpc.methods import TOPIC
from heatperf.rpc.rabbit.calls import Calls, Sent, Unroutable
from heatperf.rpc.rabbit.hosts import Host, Hosts
from heatperf.rpc.rabbit.kept import ATTEMPT, Kept
from heatperf.rpc.rabbit.link import LinkLost
from heatperf.rpc.rabbit.presence import Presence
from heatperf.rpc.rabbit.receiver import Receiver
from heatperf.rpc.rabbit.sender import Sender
from heatperf.rpc.rabbit.settings import RabbitSettings, random_reply_queue

LOG = logging.getLogger(__name__)

#: How often calls are looked at whose time may be up, in seconds; also how much later than configured one may end, and
#: how long a reply may be unacknowledged.
SWEEP = 0.25
#: Seconds for a look at the engine's queue while a request waits for it.
LOOK = 2.0
#: Seconds after which a message that came back, as there is no engine's queue, is sent once more.
RESEND = 0.2
_CAPABILITIES = {"authentication_failure_close": True, "connection.blocked": True, "consumer_cancel_notify": True}


class RabbitTransport:
    """See client.Transport and the module's text."""

    #: See jsontext.Encoded.
    takes_encoded = True
    #: See client.Transport.
    gives_raw = True

    def __init__(self, settings: RabbitSettings) -> None:
        self._settings = settings
        self._loop: Any = None
        self._sender: Any = None
        self._receiver: Any = None
        self._calls = Calls(settings.most_under_way)
        self._presence = Presence(settings.engine_grace)
        self._ids: Any = None
        self._sweeper: Any = None
        self._stopped = False
        self._namer: Any = None
        self._looker: Any = None
        self._looking: list[Any] = []

    def start(self, loop: Any) -> None:
        """Begin to connect; called in the worker, after the fork. Does not wait: without a broker there are honest
        answers, and requests that need none."""
        settings = self._settings
        self._loop = loop
        self._ids = envelope.Ids()
        self._sender = self._kept(
            Sender,
            "messages to the engine",
            exchange=settings.control_exchange,
            durable=settings.durable,
            auto_delete=settings.auto_delete,
            topic=TOPIC,
            headers={"compression": envelope.COMPRESSIONS[settings.compression]} if settings.compression else None,
        )
        self._receiver = self._kept(
            Receiver,
            "replies",
            name=self._reply_queue,
            durable=settings.reply_durable,
            arguments_of_queue=settings.reply_arguments,
            arguments_of_consumer=settings.consumer_arguments,
            prefetch=settings.prefetch,
            on_reply=self._calls.replied,
            on_loss=self._calls.lost,
            on_ready=self._sender.replies_arrive,
        )
        self._receiver.start()
        self._sender.start()
        self._sweeper = loop.every(SWEEP, self._sweep)

    def _kept(self, kind: type[Kept], purpose: str, **options: Any) -> Any:
        settings = self._settings
        hosts = Hosts(settings.hosts, settings.pace, settings.shuffle)
        return kind(self._loop, purpose, hosts, self._connect, self._login, self._calls.any, **options)

    def stop(self) -> None:
        """Hang up. What is under way ends as if the broker had gone; later calls are refused."""
        if self._sweeper is not None and not self._stopped:
            self._stopped = True
            self._sweeper.cancel()
            self._calls.stop()
            self._sender.stop()
            self._receiver.stop()

    def call(
        self,
        context: RequestContext,
        method: str,
        arguments: dict[str, Any],
        version: str,
        timeout: float | None,
        raw_above: int | None = None,
    ) -> Any:
        """Send a call and park until its answer.

        :param timeout: seconds in which all of it happens; None: rpc_response_timeout
        :param raw_above: see EngineClient.call
        """
        seconds = self._settings.response_timeout if timeout is None else timeout
        unique_id, msg_id = self._ids.next(), self._ids.next()
        sent = self._sent(method, seconds, unique_id, msg_id)
        # What nobody waits for any more need not be done.
        sent.expiration = int(seconds * 1000)
        sent.raw_above = raw_above
        try:
            return self._deliver(sent, context, arguments, version)
        except heat.EngineLost as error:
            LOG.error("%s", error)
            raise
        except heat.MessagingTimeout:
            LOG.error("No engine answered %s within %g s", method, seconds)
            raise

    def cast(self, context: RequestContext, method: str, arguments: dict[str, Any], version: str) -> None:
        """Send a message nobody answers; parks until the broker has it."""
        sent = self._sent(method, self._settings.response_timeout, self._ids.next(), "")
        self._deliver(sent, context, arguments, version)

    # The way of a message

    def _sent(self, method: str, seconds: float, unique_id: str, msg_id: str) -> Sent:
        now = time.monotonic()
        reach_by = now + min(seconds, self._settings.connect_deadline)
        return Sent(self._loop.waiter(), method, unique_id, msg_id, now + seconds, reach_by)

    def _deliver(self, sent: Sent, context: RequestContext, arguments: dict[str, Any], version: str) -> Any:
        """Publish, and park until the message has its end."""
        self._calls.begin(sent)
        try:
            while True:
                self._reach(sent)
                sent.body = self._encode(sent, context, arguments, version)
                self._sender.publish(sent)
                try:
                    return sent.token.wait()
                except Unroutable:
                    # Engines that were restarted together with the broker are about to declare their queue anew.
                    if time.monotonic() + RESEND >= sent.reach_by:
                        raise
                sent.again(self._loop.waiter())
                self._loop.sleep(RESEND)
        except (NotDelivered, Lost) as error:
            raise told(error, sent.method) from None
        finally:
            self._calls.end(sent)

    def _encode(self, sent: Sent, context: RequestContext, arguments: dict[str, Any], version: str) -> bytes:
        if sent.msg_id:
            queue = self._receiver.queue
            body = envelope.encode_call(context, sent.method, arguments, version, sent.msg_id, queue, sent.unique_id)
        else:
            body = envelope.encode_cast(context, sent.method, arguments, version, sent.unique_id)
        compression = self._settings.compression
        return envelope.compressed(body, compression) if compression else body

    def _reach(self, sent: Sent) -> None:
        """Park until a message can be sent and answered.

        :raises NotDelivered: it cannot
        """
        if self._stopped:
            raise NotDelivered("This server is stopping; the request was not sent")
        if sent.msg_id and self._receiver.link is None:
            self._receiver.ready(sent.reach_by)
        if self._sender.link is None:
            self._sender.ready(sent.reach_by)
        now = time.monotonic()
        if self._presence.due(now):
            self._begin_look()
            if self._presence.absent(now):
                self._await_look(sent.reach_by - now)
        if self._presence.absent(time.monotonic()):
            raise NotDelivered("No engine is running at the moment; the request was not sent")

    def _begin_look(self) -> None:
        if self._looker is None:
            self._looker = self._loop.spawn_apart(self._look)

    def _await_look(self, seconds: float) -> None:
        waiter = self._loop.waiter()
        self._looking.append(waiter)
        with contextlib.suppress(TimeoutError):
            waiter.wait(max(seconds, SWEEP))

    def _look(self) -> None:
        """See whether there is an engine; parks. One greenlet at a time. Not being told leaves things as they are."""
        try:
            wait = self._presence.trying(time.monotonic())
            if wait:
                self._loop.sleep(wait)
            consumers = self._sender.consumers(LOOK)
        except (LinkLost, AmqpError, TimeoutError) as error:
            LOG.debug("The broker does not say whether there is an engine: %r", error)
        else:
            self._presence.seen(consumers, time.monotonic())
        finally:
            self._looker = None
            looking, self._looking = self._looking, []
            for waiter in looking:
                waiter.wake()

    def _sweep(self) -> None:
        now = time.monotonic()
        self._calls.expire(now)
        self._receiver.acknowledge()
        if self._sender.link is not None and self._presence.overdue(now, self._calls.any()):
            self._begin_look()

    # Connecting

    def _connect(self, host: Host, seconds: float) -> tuple[Any, Any]:
        streams: tuple[Any, Any] = self._loop.connect_tcp(host.name, host.port, seconds, self._settings.tls, host.name)
        return streams

    def _reply_queue(self) -> str:
        name = self._settings.name_reply_queue
        if name is random_reply_queue:
            return name()
        if self._namer is None:
            self._namer = self._loop.pool("reply queue", 1, 1)
        named: str = self._namer.run_within(ATTEMPT, name)
        return named

    def _login(self, host: Host) -> Login:
        name = f"{self._settings.program}:{os.getpid()}:{uuid.uuid4()}"
        return Login(
            host.user,
            host.password,
            self._settings.vhost,
            self._settings.mechanisms,
            self._settings.heartbeat,
            {"product": "heatperf", "connection_name": name, "capabilities": _CAPABILITIES},
        )

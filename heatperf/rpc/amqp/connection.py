"""The state of one AMQP connection: from the greeting to the close, channel by channel.

Comes in: bytes of the broker (``receive``), requests of the program (``request``, ``publish``, ``send``), the time
(``tick``). Goes out: bytes for the broker (``take``), and calls of Events, from inside ``receive``. Raised:
MalformedFrame from ``receive``. Pure: whoever owns the socket moves the bytes. Loop thread.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from heatperf.rpc.amqp import codec
from heatperf.rpc.amqp.codec import Frames, MalformedFrame

#: Largest frame we ask for: what RabbitMQ proposes unless told otherwise.
FRAME_MAX = 131_072

NOT_FOUND, ACCESS_REFUSED, RESOURCE_LOCKED, PRECONDITION_FAILED = 404, 403, 405, 406
CONNECTION_FORCED, CHANNEL_ERROR, NOT_ALLOWED = 320, 504, 530


class AmqpError(Exception):
    """A broker has refused something.

    :ivar code: reply code of AMQP 0-9-1, 1.2.2
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code
        self.text = text


class ChannelClosed(AmqpError):
    """The broker has closed a channel; the connection goes on."""


class ConnectionClosed(AmqpError):
    """The broker has closed the connection."""


@dataclass(frozen=True)
class Login:
    """How a connection introduces itself. Its repr shows no password.

    :ivar mechanisms: of SASL, in the order of preference
    :ivar heartbeat: seconds after which a silent peer counts as dead; 0 asks for none
    """

    user: str
    password: str = field(repr=False)
    vhost: str
    mechanisms: tuple[str, ...] = ("PLAIN", "AMQPLAIN")
    heartbeat: int = 60
    properties: dict[str, Any] = field(default_factory=dict)

    def response(self, mechanism: str) -> bytes:
        """What SASL wants to hear."""
        if mechanism == "EXTERNAL":
            return b""
        if mechanism == "PLAIN":
            return f"\0{self.user}\0{self.password}".encode()
        # AMQPLAIN: a table without its length
        return codec.table({"LOGIN": self.user, "PASSWORD": self.password})[4:]


class Events(Protocol):
    """Is told what the broker says. Called inside the loop: must not park, must not raise."""

    def opened(self) -> None:
        """The vhost is open; channels may be asked for."""

    def closed(self, error: ConnectionClosed) -> None:
        """The broker ends the connection; the answer to that is in ``take``."""

    def blocked(self, reason: str | None) -> None:
        """The broker reads no more messages, for a reason; None: it does again."""

    def answered(self, token: Any, fields: list[Any]) -> None:
        """The request with that token was carried out."""

    def refused(self, token: Any, error: AmqpError) -> None:
        """The request with that token was not: its channel is closed."""

    def channel_closed(self, channel: int, error: ChannelClosed) -> None:
        """The broker has closed a channel, after all its requests were refused."""

    def delivered(self, channel: int, tag: int, body: bytes) -> None:
        """A message for a consumer."""

    def returned(self, channel: int, code: int, text: str, body: bytes) -> None:
        """A mandatory message that no queue has taken; its confirm follows."""

    def confirmed(self, channel: int, tag: int, multiple: bool, positive: bool) -> None:
        """The broker answers for a message, or for all up to it."""

    def cancelled(self, channel: int, consumer: str) -> None:
        """The broker has ended a consumer, because its queue is gone."""


class _Channel:
    """Requests without answers, and the message that is arriving."""

    __slots__ = ("content", "missing", "parts", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, Any]] = deque()
        #: method that announced the content, and what Events shall get besides the body
        self.content: tuple[int, Any] | None = None
        #: bytes of the body that have not come yet; None before the header
        self.missing: int | None = None
        self.parts: list[bytes] = []


class Connection:
    """See the module's text.

    :ivar frame_max: bytes of a frame at most, known once opened
    """

    def __init__(self, login: Login, events: Events) -> None:
        self.frame_max = FRAME_MAX
        self.heartbeat = 0
        #: what the broker says of itself: product, version, capabilities ...
        self.server: dict[str, Any] = {}
        self.open = False
        self._login = login
        self._events = events
        self._frames = Frames(FRAME_MAX)
        self._channels: dict[int, _Channel] = {}
        self._out: list[bytes] = [codec.PROTOCOL_HEADER]
        self._received = self._sent = 0.0
        self._closing = False

    # Outgoing

    @property
    def has_output(self) -> bool:
        """Whether ``take`` has something."""
        return bool(self._out)

    def take(self, now: float) -> bytes:
        """Bytes for the broker, b"" if there are none.

        :param now: seconds of a clock that only goes forward
        """
        out = self._out
        if not out:
            return b""
        self._sent = now
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def send(self, data: bytes) -> None:
        """Put encoded frames on the way."""
        self._out.append(data)

    def open_channel(self, channel: int, token: Any) -> None:
        """Ask for a channel. A number whose channel was closed may be used again."""
        self._channels[channel] = _Channel()
        self.request(channel, codec.CHANNEL_OPEN, b"\x00", token)

    def request(self, channel: int, number: int, arguments: bytes, token: Any) -> None:
        """Send a method whose answer is told to Events, in the order of asking.

        :raises ChannelClosed: the channel does not exist any more
        """
        state = self._channels.get(channel)
        if state is None:
            raise ChannelClosed(CHANNEL_ERROR, f"channel {channel} is closed")
        # The answer to a method is the method after it.
        state.waiting.append((number + 1, token))
        self._out.append(codec.method(channel, number, arguments))

    def close(self) -> None:
        """Say goodbye; the broker's answer ends in ``closed`` of nobody: just close the socket then or sooner."""
        if not self._closing:
            self._closing = True
            self._out.append(codec.method(0, codec.CONNECTION_CLOSE, b"\x00\xc8\x00\x00\x00\x00\x00"))

    def tick(self, now: float) -> bool:
        """Keep the connection alive; call it at least four times per heartbeat.

        :returns: False if the broker has been silent for too long
        """
        if not self.heartbeat:
            return True
        if now - self._sent > self.heartbeat / 3:
            self._out.append(codec.HEARTBEAT_FRAME)
        # RabbitMQ sends at half the interval; two whole ones without a byte are the specification's limit (4.2.7).
        return now - self._received <= 2 * self.heartbeat

    def silent(self, now: float) -> bool:
        """Whether the broker has said nothing for a whole heartbeat interval, in which it speaks at least twice."""
        return self.open and 0 < self.heartbeat < now - self._received

    # Incoming

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes as they came.

        :raises MalformedFrame: after what came before it was told
        """
        self._received = now
        channels = self._channels
        for kind, number, payload in self._frames.feed(data):
            if kind == codec.METHOD:
                if number:
                    self._on_channel(number, payload)
                else:
                    self._on_connection(payload)
            elif kind == codec.HEARTBEAT:
                continue
            else:
                channel = channels.get(number)
                if channel is None or channel.content is None:
                    raise MalformedFrame("content that no method has announced")
                self._on_content(number, channel, kind, payload)

    def _on_content(self, number: int, channel: _Channel, kind: int, payload: bytes) -> None:
        if kind == codec.HEADER and channel.missing is None:
            channel.missing = codec.body_size(payload)
        elif kind == codec.BODY and channel.missing is not None:
            channel.missing -= len(payload)
            channel.parts.append(payload)
        else:
            raise MalformedFrame("content in the wrong order")
        if channel.missing < 0:
            raise MalformedFrame("more content than its header has announced")
        if channel.missing:
            return
        announced = channel.content
        parts = channel.parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        channel.content = channel.missing = None
        channel.parts = []
        if announced is None:
            raise MalformedFrame("content that no method has announced")
        if announced[0] == codec.BASIC_DELIVER:
            self._events.delivered(number, announced[1], body)
        else:
            code, text = announced[1]
            self._events.returned(number, code, text, body)

    def _on_channel(self, number: int, payload: bytes) -> None:
        channel = self._channels.get(number)
        if channel is None:
            # Between our asking for a channel's end and the broker's word on it anything may still come.
            return
        if channel.content is not None:
            raise MalformedFrame("a method where content was announced")
        # The two that come once per message, without the detour over a list of fields.
        if payload.startswith(codec.DELIVER):
            channel.content = (codec.BASIC_DELIVER, codec.delivery_tag(payload))
            return
        if payload.startswith(codec.ACK):
            self._events.confirmed(number, *codec.acked(payload), True)
            return
        which, fields = codec.read_method(payload)
        if which == codec.BASIC_NACK:
            self._events.confirmed(number, fields[0], bool(fields[1] & 1), False)
        elif which == codec.BASIC_RETURN:
            channel.content = (which, (fields[0], fields[1]))
        elif channel.waiting and which == channel.waiting[0][0]:
            self._events.answered(channel.waiting.popleft()[1], fields)
        elif which == codec.CHANNEL_CLOSE:
            self._close_channel(number, channel, ChannelClosed(fields[0], fields[1]))
        elif which == codec.BASIC_CANCEL:
            self._events.cancelled(number, fields[0])
        elif which == codec.CHANNEL_FLOW:
            self._out.append(codec.method(number, codec.CHANNEL_FLOW_OK, bytes([fields[0] & 1])))
        else:
            raise MalformedFrame(f"method {which >> 16}.{which & 0xFFFF} that nobody has asked for")

    def _close_channel(self, number: int, channel: _Channel, error: ChannelClosed) -> None:
        del self._channels[number]
        self._out.append(codec.method(number, codec.CHANNEL_CLOSE_OK))
        for _, token in channel.waiting:
            self._events.refused(token, error)
        self._events.channel_closed(number, error)

    def _on_connection(self, payload: bytes) -> None:
        which, fields = codec.read_method(payload)
        if which == codec.CONNECTION_START:
            self._answer_start(fields)
        elif which == codec.CONNECTION_TUNE:
            self._answer_tune(*fields)
        elif which == codec.CONNECTION_OPEN_OK:
            self.open = True
            self._events.opened()
        elif which == codec.CONNECTION_CLOSE:
            self._closing = True
            self.open = False
            self._out.append(codec.method(0, codec.CONNECTION_CLOSE_OK))
            self._events.closed(ConnectionClosed(fields[0], fields[1]))
        elif which == codec.CONNECTION_BLOCKED:
            self._events.blocked(fields[0])
        elif which == codec.CONNECTION_UNBLOCKED:
            self._events.blocked(None)
        elif which == codec.CONNECTION_CLOSE_OK:
            self.open = False
        else:
            raise MalformedFrame(f"method {which >> 16}.{which & 0xFFFF} outside of any channel")

    def _answer_start(self, fields: list[Any]) -> None:
        self.server = fields[2]
        offered = fields[3].decode("ascii", "replace").split()
        chosen = next((name for name in self._login.mechanisms if name in offered), None)
        if chosen is None:
            raise MalformedFrame(f"the broker offers only the login mechanisms {' '.join(offered)}")
        self._out.append(
            codec.method(
                0,
                codec.CONNECTION_START_OK,
                codec.table(self._login.properties)
                + codec.short_string(chosen)
                + codec.long_string(self._login.response(chosen))
                + codec.short_string("en_US"),
            )
        )

    def _answer_tune(self, channel_max: int, frame_max: int, heartbeat: int) -> None:
        self.frame_max = min(frame_max or FRAME_MAX, FRAME_MAX)
        if self.frame_max < codec.FRAME_MIN:
            raise MalformedFrame(f"frames of {frame_max} bytes are below what AMQP grants everybody")
        wanted = self._login.heartbeat
        # As py-amqp: an operator who wants none gets none, whatever the broker proposes.
        self.heartbeat = (min(wanted, heartbeat) if heartbeat else wanted) if wanted else 0
        values = channel_max.to_bytes(2) + self.frame_max.to_bytes(4) + self.heartbeat.to_bytes(2)
        self._out.append(codec.method(0, codec.CONNECTION_TUNE_OK, values))
        vhost = codec.short_string(self._login.vhost)
        self._out.append(codec.method(0, codec.CONNECTION_OPEN, vhost + b"\x00\x00"))

"""AMQP without a broker: values against py-amqp's own, frames in any pieces, sessions that go wrong, and noise."""

import contextlib
import struct
from typing import Any

import pytest
from amqp import serialization
from hypothesis import given
from hypothesis import strategies as st

from heatperf.rpc.amqp import codec
from heatperf.rpc.amqp.codec import Frames, MalformedFrame, Publication, Reader
from heatperf.rpc.amqp.connection import ChannelClosed, Connection, Login

NAMES = st.text(st.characters(codec="utf-8"), max_size=20).filter(lambda text: len(text.encode()) < 128)
PLAIN = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(st.characters(codec="utf-8"), max_size=40)
    | st.none()
    | st.floats(allow_nan=False)
)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))
TABLES = st.dictionaries(NAMES, VALUES, max_size=5)


class Log:
    """Events, written down."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.seen.append((name, *arguments))


def from_broker(channel: int, number: int, arguments: bytes = b"") -> bytes:
    return codec.method(channel, number, arguments)


START = from_broker(
    0,
    codec.CONNECTION_START,
    b"\x00\x09"
    + codec.table({"version": "3.10.8"})
    + codec.long_string(b"PLAIN AMQPLAIN")
    + codec.long_string(b"en_US"),
)


def tune(channels: int = 2047, frame: int = 131_072, heartbeat: int = 60) -> bytes:
    return from_broker(0, codec.CONNECTION_TUNE, struct.pack(">HIH", channels, frame, heartbeat))


OPEN_OK = from_broker(0, codec.CONNECTION_OPEN_OK, b"\x00")


def opened(heartbeat: int = 60) -> tuple[Connection, Log]:
    """A connection after its login, with nothing left to take."""
    log = Log()
    connection = Connection(Login("heat", "secret", "v", heartbeat=heartbeat), log)
    connection.receive(START + tune(heartbeat=heartbeat) + OPEN_OK, 0.0)
    connection.take(0.0)
    assert log.seen == [("opened",)]
    log.seen.clear()
    return connection, log


def with_channel() -> tuple[Connection, Log]:
    connection, log = opened()
    connection.open_channel(1, "channel")
    connection.receive(from_broker(1, codec.CHANNEL_OPEN_OK, codec.long_string(b"")), 0.0)
    assert log.seen == [("answered", "channel", [b""])]
    log.seen.clear()
    connection.take(0.0)
    return connection, log


def delivery(tag: int, body: bytes, pieces: int = 1, channel: int = 1) -> bytes:
    arguments = codec.short_string("me") + struct.pack(">QB", tag, 0) + b"\x00" + codec.short_string("queue")
    header = struct.pack(">HHQH", 60, 0, len(body), 0)
    size = -(-len(body) // pieces) or 1
    return (
        from_broker(channel, codec.BASIC_DELIVER, arguments)
        + codec.frame(codec.HEADER, channel, header)
        + b"".join(codec.frame(codec.BODY, channel, body[start : start + size]) for start in range(0, len(body), size))
    )


class TestValues:
    @given(TABLES)
    def test_tables_are_read_by_py_amqp(self, values: dict[str, Any]) -> None:
        assert serialization.loads("F", codec.table(values), 0)[0] == [values]

    @given(TABLES)
    def test_tables_of_py_amqp_are_read(self, values: dict[str, Any]) -> None:
        assert Reader(serialization.dumps("F", [values])).table() == values

    def test_types_that_only_brokers_send(self) -> None:
        fields = (
            b"\x01ab\xff" + b"\x01bB\xff" + b"\x01cs\xff\xff" + b"\x01du\xff\xff" + b"\x01ei\xff\xff\xff\xff"
            b"\x01ff" + struct.pack(">f", 0.5) + b"\x01gT" + struct.pack(">Q", 7)
            + b"\x01hx" + codec.long_string(b"\xff") + b"\x01iD\x02\x00\x00\x00\x7b"
        )  # fmt: skip
        found = Reader(codec.long_string(fields)).table()
        assert found == {
            "a": -1, "b": 255, "c": -1, "d": 65_535, "e": 2**32 - 1, "f": 0.5, "g": 7, "h": b"\xff", "i": (2, 123)
        }  # fmt: skip

    def test_tables_without_an_end(self) -> None:
        inner = b""
        for _ in range(40):
            inner = b"\x01aF" + codec.long_string(inner)
        with pytest.raises(MalformedFrame, match="nested"):
            Reader(codec.long_string(inner)).table()

    def test_names_have_a_limit(self) -> None:
        with pytest.raises(ValueError, match="255"):
            codec.short_string("é" * 128)


class TestFrames:
    @given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 65_535), st.binary(max_size=50))), st.data())
    def test_any_pieces_give_the_same_frames(self, frames: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
        stream = b"".join(codec.frame(*one) for one in frames)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
        reader = Frames()
        found = []
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            found += list(reader.feed(stream[start:end]))
        assert found == frames

    def test_larger_than_agreed(self) -> None:
        with pytest.raises(MalformedFrame, match="4097"):
            list(Frames(4096).feed(codec.frame(codec.BODY, 1, b"x" * 4097)[:20]))

    def test_without_its_end(self) -> None:
        with pytest.raises(MalformedFrame, match="end"):
            list(Frames().feed(codec.frame(codec.BODY, 1, b"x")[:-1] + b"x"))


class TestPublication:
    @given(st.binary(min_size=1, max_size=20_000), st.sampled_from([None, 60_000]))
    def test_is_what_py_amqp_would_send(self, body: bytes, expiration: int | None) -> None:
        publication = Publication(3, "heat", "engine", expiration, mandatory=True, frame_max=4096)
        frames = list(Frames(4096).feed(publication.encode(body)))
        kind, channel, payload = frames[0]
        assert (kind, channel, payload[:4]) == (codec.METHOD, 3, struct.pack(">HH", 60, 40))
        assert serialization.loads("Bssb", payload, 4)[0] == [0, "heat", "engine", True]
        kind, channel, payload = frames[1]
        assert (kind, channel) == (codec.HEADER, 3)
        assert struct.unpack_from(">HHQ", payload) == (60, 0, len(body))
        found, _ = serialization.decode_properties_basic(payload, 12)
        expected = {
            "content_type": "application/json", "content_encoding": "utf-8", "application_headers": {},
            "delivery_mode": 2, "priority": 0,
        }  # fmt: skip
        assert found == (expected if expiration is None else expected | {"expiration": "60000"})
        assert [one[:2] for one in frames[2:]] == [(codec.BODY, 3)] * (len(frames) - 2)
        assert all(len(one[2]) <= 4096 - 8 for one in frames)
        assert b"".join(one[2] for one in frames[2:]) == body


class TestLogin:
    def test_greets_and_opens(self) -> None:
        log = Log()
        connection = Connection(Login("heat", "se\u00e9cret", "v\u00e9", properties={"product": "p"}), log)
        assert connection.take(0.0) == b"AMQP\x00\x00\x09\x01"
        connection.receive(START, 0.0)
        (_, _, payload), *_ = Frames().feed(connection.take(0.0))
        fields, _ = serialization.loads("FsSs", payload[4:], 0)
        assert fields == [{"product": "p"}, "PLAIN", "\0heat\0se\u00e9cret", "en_US"]
        connection.receive(tune(heartbeat=30), 0.0)
        tuned, asked = Frames().feed(connection.take(0.0))
        assert struct.unpack(">HIH", tuned[2][4:]) == (2047, 131_072, 30)
        assert serialization.loads("ssb", asked[2][4:], 0)[0] == ["v\u00e9", "", False]
        assert not connection.open
        connection.receive(OPEN_OK, 0.0)
        assert connection.open
        assert connection.server == {"version": "3.10.8"}
        assert log.seen == [("opened",)]

    @pytest.mark.parametrize(
        ("ours", "theirs", "agreed"), [(60, 30, 30), (30, 60, 30), (0, 60, 0), (60, 0, 60), (0, 0, 0)]
    )
    def test_heartbeat(self, ours: int, theirs: int, agreed: int) -> None:
        connection = Connection(Login("u", "p", "/", heartbeat=ours), Log())
        connection.receive(START + tune(heartbeat=theirs), 0.0)
        assert connection.heartbeat == agreed

    def test_amqplain(self) -> None:
        response = Login("u", "p", "/").response("AMQPLAIN")
        assert serialization.loads("F", codec.long_string(response), 0)[0] == [{"LOGIN": "u", "PASSWORD": "p"}]

    def test_no_common_mechanism(self) -> None:
        connection = Connection(Login("u", "p", "/", mechanisms=("EXTERNAL",)), Log())
        with pytest.raises(MalformedFrame, match="PLAIN AMQPLAIN"):
            connection.receive(START, 0.0)

    def test_the_password_is_in_no_repr(self) -> None:
        assert "hunter2" not in repr(Login("u", "hunter2", "/"))

    def test_refused(self) -> None:
        log = Log()
        connection = Connection(Login("u", "p", "/"), log)
        close = struct.pack(">H", 403) + codec.short_string("ACCESS_REFUSED") + b"\x00\x00\x00\x00"
        connection.receive(START + from_broker(0, codec.CONNECTION_CLOSE, close), 0.0)
        ((name, error),) = log.seen
        assert (name, error.code, error.text) == ("closed", 403, "ACCESS_REFUSED")
        assert connection.take(0.0).endswith(codec.method(0, codec.CONNECTION_CLOSE_OK))


class TestChannels:
    def test_answers_go_to_who_asked_in_order(self) -> None:
        connection, log = with_channel()
        connection.request(1, codec.QUEUE_DECLARE, b"", "first")
        connection.request(1, codec.CONFIRM_SELECT, b"\0", "second")
        declared = codec.short_string("q") + struct.pack(">II", 3, 4)
        connection.receive(
            from_broker(1, codec.QUEUE_DECLARE_OK, declared) + from_broker(1, codec.CONFIRM_SELECT_OK), 0.0
        )
        assert log.seen == [("answered", "first", ["q", 3, 4]), ("answered", "second", [])]

    def test_a_closed_channel_refuses_all_that_waits_and_can_be_opened_again(self) -> None:
        connection, log = with_channel()
        connection.request(1, codec.QUEUE_DECLARE, b"", "first")
        connection.request(1, codec.CONFIRM_SELECT, b"\0", "second")
        connection.take(0.0)
        close = struct.pack(">H", 404) + codec.short_string("NOT_FOUND") + b"\x00\x32\x00\x0a"
        connection.receive(from_broker(1, codec.CHANNEL_CLOSE, close), 0.0)
        assert [(name, token) for name, token, _ in log.seen] == [
            ("refused", "first"),
            ("refused", "second"),
            ("channel_closed", 1),
        ]
        assert all(error.code == 404 for _, _, error in log.seen)
        assert connection.take(0.0) == codec.method(1, codec.CHANNEL_CLOSE_OK)
        with pytest.raises(ChannelClosed):
            connection.request(1, codec.CONFIRM_SELECT, b"\0", "third")
        connection.open_channel(1, "again")
        connection.receive(from_broker(1, codec.CHANNEL_OPEN_OK, codec.long_string(b"")), 0.0)
        assert log.seen[-1] == ("answered", "again", [b""])

    def test_deliveries(self) -> None:
        connection, log = with_channel()
        stream = delivery(1, b"a") + delivery(2, b"b" * 1000, pieces=7) + delivery(2**40, b"")
        for start in range(0, len(stream), 11):
            connection.receive(stream[start : start + 11], 0.0)
        assert log.seen == [("delivered", 1, 1, b"a"), ("delivered", 1, 2, b"b" * 1000), ("delivered", 1, 2**40, b"")]

    def test_confirms_and_returns(self) -> None:
        connection, log = with_channel()
        names = codec.short_string("NO_ROUTE") + codec.short_string("heat") + codec.short_string("engine")
        stream = (
            from_broker(1, codec.BASIC_RETURN, struct.pack(">H", 312) + names)
            + codec.frame(codec.HEADER, 1, struct.pack(">HHQH", 60, 0, 2, 0))
            + codec.frame(codec.BODY, 1, b"hi")
            + from_broker(1, codec.BASIC_ACK, struct.pack(">QB", 7, 1))
            + from_broker(1, codec.BASIC_NACK, struct.pack(">QB", 8, 0))
        )
        connection.receive(stream, 0.0)
        assert log.seen == [
            ("returned", 1, 312, "NO_ROUTE", b"hi"),
            ("confirmed", 1, 7, True, True),
            ("confirmed", 1, 8, False, False),
        ]

    def test_what_comes_for_a_channel_that_is_gone_is_dropped(self) -> None:
        connection, log = opened()
        connection.receive(from_broker(9, codec.BASIC_ACK, struct.pack(">QB", 7, 1)), 0.0)
        assert log.seen == []

    @pytest.mark.parametrize(
        "stream",
        [
            codec.frame(codec.BODY, 1, b"x"),
            codec.frame(codec.HEADER, 1, struct.pack(">HHQH", 60, 0, 2, 0)),
            from_broker(1, codec.QUEUE_DECLARE_OK, b"\0" + bytes(8)),
            from_broker(1, 99 << 16 | 1),
            delivery(1, b"abc")[: -len(codec.frame(codec.BODY, 1, b"abc"))] + codec.frame(codec.BODY, 1, b"abcd"),
            delivery(1, b"abc")[: -len(codec.frame(codec.BODY, 1, b"abc"))] + from_broker(1, codec.CONFIRM_SELECT_OK),
            codec.frame(codec.METHOD, 1, codec.DELIVER + b"\xff"),
            codec.frame(codec.METHOD, 1, codec.ACK + b"\x00"),
            codec.frame(codec.METHOD, 1, b"\x00"),
        ],
    )
    def test_nonsense_is_refused(self, stream: bytes) -> None:
        connection, _ = with_channel()
        with pytest.raises(MalformedFrame):
            connection.receive(stream, 0.0)


class TestHeartbeats:
    def test_sent_when_nothing_else_was(self) -> None:
        connection, _ = opened(heartbeat=60)
        assert connection.tick(10.0) and connection.take(10.0) == b""
        assert connection.tick(25.0) and connection.take(25.0) == codec.HEARTBEAT_FRAME
        assert connection.tick(30.0) and connection.take(30.0) == b""

    def test_a_silent_broker(self) -> None:
        connection, _ = opened(heartbeat=60)
        assert connection.tick(119.0)
        assert not connection.tick(121.0)
        connection.receive(codec.HEARTBEAT_FRAME, 121.0)
        assert connection.tick(122.0)

    def test_none_agreed_on(self) -> None:
        connection, _ = opened(heartbeat=0)
        assert connection.tick(1e6) and connection.take(1e6) == b""


class TestBlocked:
    def test_told(self) -> None:
        connection, log = opened()
        connection.receive(from_broker(0, codec.CONNECTION_BLOCKED, codec.short_string("low on memory")), 0.0)
        connection.receive(from_broker(0, codec.CONNECTION_UNBLOCKED), 0.0)
        assert log.seen == [("blocked", "low on memory"), ("blocked", None)]


class TestNoise:
    """Whatever comes, nothing but MalformedFrame goes out."""

    @given(st.binary(max_size=300))
    def test_bytes(self, noise: bytes) -> None:
        connection, _ = with_channel()
        self.feed(connection, noise)

    @given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 2), st.binary(max_size=60)), max_size=6))
    def test_frames_of_noise(self, frames: list[tuple[int, int, bytes]]) -> None:
        connection, _ = with_channel()
        self.feed(connection, b"".join(codec.frame(*one) for one in frames))

    @given(st.sampled_from(sorted(codec.INCOMING)), st.integers(0, 1), st.binary(max_size=60))
    def test_methods_with_noise_for_arguments(self, number: int, channel: int, noise: bytes) -> None:
        connection, _ = with_channel()
        self.feed(connection, from_broker(channel, number, noise))

    @given(st.data())
    def test_a_session_with_a_wrong_byte(self, data: st.DataObject) -> None:
        session = bytearray(START + tune() + OPEN_OK + delivery(1, b"abc", pieces=2))
        session[data.draw(st.integers(0, len(session) - 1))] ^= data.draw(st.integers(1, 255))
        self.feed(Connection(Login("u", "p", "/"), Log()), bytes(session))

    @staticmethod
    def feed(connection: Connection, noise: bytes) -> None:
        with contextlib.suppress(MalformedFrame):
            connection.receive(noise, 0.0)

"""The pure parts of the rabbit transport and of its correlation, fed with a clock and with what a broker says."""

import json
import random
import zlib

import pytest
from broker_rig import envelope

from heatperf.errors import Overloaded, heat
from heatperf.rpc import correlation
from heatperf.rpc import envelope as rpc_envelope
from heatperf.rpc.amqp.connection import AmqpError
from heatperf.rpc.correlation import Lost, NotDelivered, Pending, UnderWay
from heatperf.rpc.rabbit.calls import Calls, Sent, Unroutable
from heatperf.rpc.rabbit.hosts import Host, Hosts, Pace
from heatperf.rpc.rabbit.kept import reason_of
from heatperf.rpc.rabbit.presence import APART, FRESH, IDLE, Presence
from heatperf.rpc.rabbit.sender import Outcome

NAMES = "abc"


def hosts(**options):
    return Hosts([Host(name, 1, "u", "s3cret") for name in NAMES], Pace(1, 2, 6), **options)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TimeoutError("nothing came within 2 s"), "no answer in time"),
        (ConnectionResetError(), "ConnectionResetError"),
        (AmqpError(403, "ACCESS_REFUSED - no\naccess"), "ACCESS_REFUSED - no access (403)"),
        # RabbitMQ 4.3 with deprecated_features.permit.transient_nonexcl_queues = false
        (
            AmqpError(541, "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.\nIt is not permitted."),
            "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated. It is not permitted. (541) (set "
            "[oslo_messaging_rabbit] rabbit_quorum_queue and rabbit_transient_quorum_queue to true, here and for the "
            "engines)",
        ),
    ],
)
def test_why_there_is_no_connection_in_one_line(error, says):
    assert reason_of(error) == says


class TestHosts:
    def test_each_is_tried_before_the_first_pause(self):
        order = hosts()
        for least, most in ((1, 1), (3, 3), (5, 5), (6, 6), (6, 6)):
            tried = []
            for number in range(3):
                tried.append(order.next().name)
                pause = order.failed()
                assert pause == 0 if number < 2 else 0.75 * least <= pause <= most
            assert sorted(tried) == list(NAMES)

    def test_after_a_success_the_next_loss_costs_little(self):
        order = hosts()
        for _ in range(9):
            order.failed()
        order.connected()  # told at its end: what the last attempt gave has been of use
        assert [order.failed() for _ in range(2)] == [0, 0] and order.failed() <= 1

    def test_workers_start_anywhere(self):
        assert {hosts().next().name for _ in range(100)} == set(NAMES)

    def test_shuffle_picks_anew_each_time(self):
        order = hosts(shuffle=True)
        assert {order.next().name for _ in range(100)} == set(NAMES)

    def test_splay(self, monkeypatch):
        monkeypatch.setattr(random, "uniform", lambda _low, high: high)
        assert Hosts([Host("a", 1, "u", "p")], Pace(1, 2, 6, splay=10, delay=0.5)).failed() == 11.5

    def test_how_they_look(self):
        assert repr(Host("::1", 5672, "u", "s3cret")) == "[::1]:5672"


class TestPresence:
    def test_there_is_one(self):
        presence = Presence(grace=10)
        assert presence.due(0) and presence.overdue(0, False) and not presence.absent(0)
        presence.seen(3, 0)
        assert not presence.due(FRESH) and presence.due(FRESH + 0.1)
        assert not presence.overdue(IDLE, False) and presence.overdue(FRESH + 0.1, True)

    def test_there_is_none(self):
        presence = Presence(grace=10)
        presence.seen(0, 5)
        assert not presence.absent(14) and presence.absent(15) and presence.due(5)
        presence.seen(0, 16)
        assert presence.absent(16)
        presence.seen(1, 17)
        assert not presence.absent(17)
        presence.seen(0, 18)
        assert not presence.absent(27)

    def test_looks_are_apart(self):
        presence = Presence(grace=10)
        assert presence.trying(5) == 0 and presence.trying(5.04) == pytest.approx(APART - 0.04)
        assert presence.trying(5.1) == pytest.approx(APART)

    def test_a_broker_that_does_not_say_is_not_asked_for_each_request(self):
        presence = Presence(grace=10)
        presence.trying(5)
        assert not presence.due(5.5) and not presence.absent(5.5) and presence.due(5 + FRESH + 0.1)


class Waiter:
    def __init__(self):
        self.end = None

    def wake(self, value=None):
        self.end = self.end or ("value", value)

    def throw(self, error):
        self.end = self.end or ("error", error)


def sent(msg_id="m", left=False, deadline=60.0, reach_by=5.0):
    made = Sent(Waiter(), "show_stack", f"u-{msg_id}", msg_id, deadline, reach_by)
    made.left = left
    return made


def ended(message):
    kind, what = message.token.end or ("", None)
    return what if kind != "error" else type(what)


class TestCalls:
    @pytest.mark.parametrize(
        ("msg_id", "outcome", "end"),
        [
            ("m", Outcome.QUEUED, None),
            ("m", Outcome.UNKNOWN, None),
            ("m", Outcome.REFUSED, Unroutable),
            ("", Outcome.QUEUED, None),
            ("", Outcome.UNKNOWN, Lost),
            ("", Outcome.REFUSED, Unroutable),
        ],
    )
    def test_what_the_broker_says(self, msg_id, outcome, end):
        message = sent(msg_id, left=True)
        message.settled(outcome)
        assert ended(message) is end
        assert bool(message.token.end) == (end is not None or not msg_id)

    def test_time(self):
        calls = Calls(10)
        waiting, away, cast = sent("a"), sent("b", left=True), sent("", left=True)
        for message in (waiting, away, cast):
            calls.begin(message)
        calls.expire(4.9)
        assert [ended(message) for message in (waiting, away, cast)] == [None] * 3
        calls.expire(5.0)
        assert ended(waiting) is NotDelivered and waiting.withdrawn and not away.token.end
        calls.expire(60.0)
        assert ended(away) is ended(cast) is heat.MessagingTimeout and not calls.any()

    def test_a_lost_reply_queue_ends_calls_that_have_left(self):
        calls = Calls(10)
        messages = [sent("a", left=True), sent("b"), sent("", left=True)]
        for message in messages:
            calls.begin(message)
        calls.lost(False)
        assert [ended(message) for message in messages] == [Lost, None, None]

    def test_a_lost_name_ends_calls_that_hold_it(self):
        calls = Calls(10)
        messages = [sent("a"), sent("b")]
        messages[0].body = b"reply to the old name"
        for message in messages:
            calls.begin(message)
        calls.lost(True)
        assert [ended(message) for message in messages] == [NotDelivered, None]
        assert messages[0].withdrawn and not messages[1].withdrawn

    def test_the_end_of_everything(self):
        calls = Calls(10)
        messages = [sent("a", left=True), sent("b")]
        for message in messages:
            calls.begin(message)
        calls.stop()
        assert [ended(message) for message in messages] == [Lost, NotDelivered]
        assert all(message.withdrawn for message in messages)

    def test_replies(self, caplog):
        calls = Calls(10)
        message = sent("m")
        calls.begin(message)
        calls.replied(envelope({"_msg_id": "u-m", "result": "of another", "failure": None, "ending": True}))
        calls.replied(envelope({"_msg_id": "m", "result": [1], "failure": None, "ending": True}))
        assert ended(message) == [1] and not calls.any()
        calls.begin(deep := sent("deep"))
        calls.replied(envelope({"_msg_id": "deep", "failure": "[" * 100_000}))
        assert ended(deep) is None and "failure that cannot be read" in caplog.text
        late = sent("late")
        calls.begin(late)
        calls.end(late)
        calls.replied(envelope({"_msg_id": "late", "result": [1], "failure": None, "ending": True}))
        assert ended(late) is None and "show_stack came too late" in caplog.text


class TestRawReplies:
    MSG_ID = "1f" * 16

    def replied(self, raw_above, rows=1000, **parts):
        content = {"result": ["x"] * rows, "failure": None, "ending": True, "_msg_id": self.MSG_ID} | parts
        calls, call = Calls(10), sent(self.MSG_ID)
        call.raw_above = raw_above
        calls.begin(call)
        body = envelope(content)
        calls.replied(body)
        return calls, call, body

    def test_a_large_result_is_left_as_it_is(self):
        calls, call, body = self.replied(5000)
        assert ended(call).body is body and ended(call).result() == ["x"] * 1000 and not calls.any()

    @pytest.mark.parametrize(
        ("raw_above", "rows"),
        [(None, 1000), (50_000, 1000), (5000, 10)],
        ids=["not asked for", "not as large", "small"],
    )
    def test_others_are_decoded(self, raw_above, rows):
        calls, call, _body = self.replied(raw_above, rows)
        assert ended(call) == ["x"] * rows and not calls.any()

    def test_a_failure_is_raised(self):
        _calls, call, _body = self.replied(5000, failure=json.dumps({"class": "ValueError", "module": "builtins"}))
        assert ended(call) is ValueError

    def test_a_sign_of_life_ends_nothing(self):
        calls, call, _body = self.replied(5000, ending=False)
        assert ended(call) is None and calls.any()

    @pytest.mark.parametrize("rows", (1, 5000))
    def test_one_that_cannot_be_read_ends_the_call_it_is_meant_for(self, rows):
        for failure in ("{", "[]", "[" * 100_000, 7):
            calls, call, _body = self.replied(rows, failure=failure)
            assert ended(call) is Lost and not calls.any()

    def test_one_that_is_cut_off(self):
        _calls, call, body = self.replied(5000, ending=False)
        assert ended(call) is None
        for size in (len(body) - 1, len(body) - 3):
            calls, call, _body = self.replied(5000, ending=False)
            calls.replied(body[:size])
            assert ended(call) is Lost and not calls.any()

    def test_one_that_is_compressed(self):
        calls, call, body = self.replied(5000, ending=False)
        calls.replied(zlib.compress(body[:-3]))
        assert ended(call) is Lost and not calls.any()

    def test_none_ends_a_cast(self, caplog):
        calls, cast = Calls(10), sent("")
        cast.unique_id = self.MSG_ID
        calls.begin(cast)
        calls.replied(envelope({"_msg_id": self.MSG_ID, "failure": 7}))
        assert ended(cast) is None and calls.any() and "Dropped a message" in caplog.text

    def test_a_late_one_is_not_decoded(self, monkeypatch, caplog):
        calls, call, body = self.replied(5000, ending=False)
        calls.end(call)
        monkeypatch.setattr(rpc_envelope, "decode_reply", lambda _body: pytest.fail("it was decoded"))
        calls.replied(envelope({"result": ["x"] * 5000, "failure": None, "ending": True, "_msg_id": self.MSG_ID}))
        assert "came too late" in caplog.text

    def test_one_that_may_be_meant_for_two(self):
        calls, call, _body = self.replied(1, ending=False)
        other = {"result": ["2e" * 16], "_msg_id": "2e" * 16}
        calls.replied(envelope({"_msg_id": self.MSG_ID, "failure": 7})[:-1] + b", " + envelope(other)[1:-1])
        assert ended(call) is None and calls.any()

    def test_one_that_nobody_waits_for(self, caplog):
        self.replied(5000, _msg_id="2e" * 16)
        assert "nobody waits for" in caplog.text


class TestUnderWay:
    def test_the_bound(self):
        core = UnderWay(1)
        core.begin(1, Pending("t", "m", 1.0))
        with pytest.raises(Overloaded):
            core.begin(2, Pending("t", "m", 1.0))
        assert core.end(1).token == "t" and core.end(1) is None and core.get(1) is None
        core.begin(2, Pending("t", "m", 1.0))

    def test_what_is_known_of_those_that_get_no_answer(self):
        core = UnderWay()
        for key, left in ((1, True), (2, False), (3, True)):
            pending = Pending(key, "m", 1.0)
            pending.left = left
            core.begin(key, pending)
        cut = {pending.token: type(error) for pending, error in core.cut(lambda pending: pending.token < 3)}
        assert cut == {1: Lost, 2: NotDelivered} and len(core) == 1

    def test_what_clients_are_told(self):
        away = correlation.told(NotDelivered("why"), "m")
        assert (type(away), str(away)) == (heat.EngineUnavailable, "why") and away.retry_after
        assert type(correlation.told(Lost(), "m")) is heat.EngineLost

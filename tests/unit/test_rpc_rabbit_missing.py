"""The rabbit transport when the reply queue, the engine or an answer is missing: what requests are told, and when.
Against a broker of the test, on every loop where that matters.
"""

import time

import pytest
from broker_rig import Broker, Queue, answering, echo, silent
from rabbit_rig import connected, wait_for

from heatperf import loops
from heatperf.errors import heat

on_each_loop = pytest.mark.parametrize("loop_name", loops.available())


@pytest.fixture
def broker():
    made = Broker()
    yield made
    made.close()


@pytest.fixture
def loop_name():
    """Where nothing depends on the loop."""
    return "gevent"


class TestReplyQueue:
    @pytest.mark.parametrize("taken", [Queue({}, False, consumers=1), Queue({"x-queue-type": "quorum"}, True)])
    def test_a_name_that_is_in_use_or_of_another_form_is_given_up(self, loop_name, broker, taken, caplog):
        """Two services with one hostname and processname under use_queue_manager would get half of the replies each."""
        broker.queues = {f"reply_h:p:{number}": taken for number in (1, 2)}
        names = iter(f"reply_h:p:{number}" for number in range(1, 9))
        with connected(loop_name, broker, name_reply_queue=lambda: next(names)) as client:
            assert client.call() == []
            assert broker.messages[0].content["_reply_q"] == "reply_h:p:3"
            link = client.transport._receiver.link
            broker.receiving.cut()  # the name stays, though it was not the first
            wait_for(lambda: client.transport._receiver.link is not link)
            assert client.ready().call() == [] and client.transport._receiver.queue == "reply_h:p:3"
        assert caplog.text.count("cannot be used") == 2

    def test_if_its_name_is_lost_as_well_calls_take_the_next(self, loop_name, broker):
        broker.engine = silent
        names = iter(("reply_a", "reply_b"))
        with connected(loop_name, broker, name_reply_queue=lambda: next(names)) as client:
            left = client.begin()
            wait_for(lambda: broker.messages)
            broker.engine = echo
            broker.queues_on_dead_nodes.add("reply_a")
            link = client.transport._receiver.link
            broker.receiving.cut()
            wait_for(lambda: client.transport._receiver.link is not link)
            end = client.begin(limit=1)
            assert type(left()[1]) is heat.EngineLost
            assert end() == ({"limit": 1}, None)
            assert broker.messages[-1].content["_reply_q"] == "reply_b"

    @on_each_loop
    def test_if_it_is_lost_pending_calls_fail_at_once(self, loop_name, broker):
        broker.engine = silent
        with connected(loop_name, broker) as client:
            end = client.begin()
            wait_for(lambda: broker.messages)
            began = time.monotonic()
            broker.queues.clear()
            broker.receiving.cut()
            error = end()[1]
            assert type(error) is heat.EngineLost and time.monotonic() - began < 3
            assert "s3cret" not in str(error)
            broker.engine = echo
            assert client.call(a=1) == {"a": 1}  # over a queue of the same name

    def test_a_cancelled_consumer(self, loop_name, broker):
        broker.engine = silent
        with connected(loop_name, broker) as client:
            end = client.begin()
            [message] = wait_for(lambda: list(broker.messages))
            broker.cancel_consumers()
            broker.reply(message, "late but there")
            assert end() == ("late but there", None)

    def test_calls_wait_until_replies_would_arrive(self, loop_name, broker):
        with connected(loop_name, broker) as client:
            broker.serving = False
            broker.receiving.cut()
            wait_for(lambda: client.transport._receiver.link is None)
            end = client.begin(method="show_stack")
            client.cast()
            assert [m.content["method"] for m in broker.messages] == ["delete_stack"]
            broker.serving = True
            assert end() == ([], None)


class TestEngineAway:
    def test_no_queue(self, loop_name, broker):
        broker.consumers = None
        with connected(loop_name, broker, connect_deadline=0.5) as client:
            for request in (client.call, client.cast):
                began = time.monotonic()
                with pytest.raises(heat.EngineUnavailable, match="No engine"):
                    request()
                assert time.monotonic() - began < 3
            broker.consumers = 1
            assert client.call() == []

    def test_a_queue_that_is_about_to_be_declared(self, loop_name, broker):
        """Broker and engine were restarted together: the message that comes back is sent again, and reaches it once."""
        broker.consumers = None
        with connected(loop_name, broker) as client:
            ends = [client.begin(), client.begin(client.cast)]
            time.sleep(0.3)
            broker.consumers = 1
            assert [end()[1] for end in ends] == [None, None]
        assert len(broker.messages) == 2

    def test_nobody_on_the_queue(self, loop_name, broker):
        broker.engine = silent
        broker.consumers = 0
        with connected(loop_name, broker, engine_grace=0.5) as client:
            waiting = client.begin(timeout=3)  # within the grace it waits in the queue for an engine to come back
            wait_for(lambda: broker.messages)
            time.sleep(0.6)
            for _ in range(3):
                began = time.monotonic()
                with pytest.raises(heat.EngineUnavailable, match="No engine is running"):
                    client.call()
                assert time.monotonic() - began < 1
            assert len(broker.messages) == 1
            broker.consumers = 1
            broker.engine = answering("back")
            assert client.call() == "back"
            broker.reply(broker.messages[0], "at last")
            assert waiting() == ("at last", None)

    def test_a_quiet_hour_without_engine_is_known(self, loop_name, broker, monkeypatch):
        monkeypatch.setattr("heatperf.rpc.rabbit.presence.IDLE", 0.1)
        broker.consumers = 0
        with connected(loop_name, broker, engine_grace=0.2) as client:
            wait_for(lambda: client.transport._presence.absent(time.monotonic()), "nobody has asked for anything")
            with pytest.raises(heat.EngineUnavailable):
                client.call()
            assert broker.messages == []

    def test_the_grace_begins_while_requests_wait_for_an_engine_that_has_gone(self, loop_name, broker):
        """No new request asks, as all clients wait for the answers to theirs."""
        broker.engine = silent
        with connected(loop_name, broker, engine_grace=0.2) as client:
            client.begin()
            wait_for(lambda: broker.messages)
            broker.consumers = 0
            wait_for(lambda: client.transport._presence.absent(time.monotonic()), "a look", 3)
            with pytest.raises(heat.EngineUnavailable):
                client.call()

    @pytest.mark.parametrize("error", [403, 404])
    def test_looks_that_the_broker_refuses_are_few(self, loop_name, broker, error):
        """It logs each as an error."""
        broker.look_error = error
        with connected(loop_name, broker) as client:
            began = time.monotonic()
            for _ in range(100):
                assert client.call() == []
            spent = time.monotonic() - began
            assert 1 <= broker.declared.count(("engine", 1, {})) <= 2 + spent * (1 if error == 403 else 10)

    def test_a_broker_that_tells_nothing_of_the_queue_is_believed_to_have_one(self, loop_name, broker):
        broker.look_error = 403
        with connected(loop_name, broker, engine_grace=0.0) as client:
            for _ in range(3):
                assert client.call() == []
            wait_for(lambda: broker.declared.count(("engine", 1, {})), "a look")
            assert client.call() == []


class TestDeadlines:
    @on_each_loop
    def test_an_engine_that_never_answers(self, loop_name, broker):
        broker.engine = silent
        with connected(loop_name, broker, response_timeout=0.3) as client:
            for timeout, least in ((None, 0.3), (0.1, 0.1)):
                began = time.monotonic()
                with pytest.raises(heat.MessagingTimeout, match="list_stacks"):
                    client.call(timeout=timeout)
                assert least <= time.monotonic() - began < least + 1.5

    def test_a_confirm_that_never_comes(self, loop_name, broker):
        broker.confirming = False
        with connected(loop_name, broker, response_timeout=0.4) as client, pytest.raises(heat.MessagingTimeout):
            client.cast()

    @on_each_loop
    def test_stopping_ends_what_is_under_way(self, loop_name, broker):
        broker.engine = silent
        with connected(loop_name, broker) as client:
            end = client.begin()
            wait_for(lambda: broker.messages)
            client.loop.run_on_loop(client.transport.stop)
            assert type(end()[1]) is heat.EngineLost
            with pytest.raises(heat.EngineUnavailable):
                client.call()

    def test_a_blocked_broker_that_goes_silent_is_left_sooner(self, loop_name):
        broker = Broker(heartbeat=3)
        with connected(loop_name, broker) as client:
            blocked, link = broker.publishing, client.transport._sender.link
            blocked.block()
            began = time.monotonic()
            wait_for(lambda: link.ended_by)
            assert 2 < time.monotonic() - began < 5.5
        broker.close()

    def test_a_broker_that_goes_silent_is_left(self, loop_name):
        """Heartbeats: ours are sent, and two intervals without its own are the end."""
        broker = Broker(heartbeat=1)
        with connected(loop_name, broker) as client:
            first = list(broker.connections)
            wait_for(lambda: all(connection.beats for connection in first), "heartbeats of ours")
            assert client.call() == []
            wait_for(lambda: not any(connection in broker.connections for connection in first), "both are given up")
            client.ready()
            assert client.call() == []
        broker.close()

"""The rabbit transport against a broker of the test, with a real loop and real sockets: what is sent, how often, and
what becomes of a request when something goes wrong on the way. On every loop there is.
"""

import contextlib
import dataclasses
import json
import logging
import socket
import ssl
import subprocess
import time
import uuid

import pytest
from broker_rig import Broker, echo, envelope, silent, tls_in_front
from identity_rig import keystone
from pipeline_rig import edited, running, together
from rabbit_rig import Client, connected, settings, somebody, wait_for
from test_pipeline_identity import token_conf

from heatperf import loops
from heatperf.errors import Overloaded, heat
from heatperf.rpc.amqp import codec
from heatperf.rpc.client import EngineClient
from heatperf.rpc.rabbit.hosts import Host, Pace
from heatperf.rpc.rabbit.settings import RabbitSettings
from heatperf.rpc.rabbit.transport import RabbitTransport
from heatperf.rpc.raw import RawReply

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


class TestMessages:
    @on_each_loop
    def test_calls_and_casts(self, loop_name, broker):
        broker.engine = echo
        with connected(loop_name, broker) as client:
            assert client.call(limit=3, marker=None) == {"limit": 3, "marker": None}
            big = {"template": "x" * 400_000}
            assert client.call("create_stack", **big) == big  # several frames, both ways
            client.cast(stack_identity={"id": 1})
        [cast] = broker.contents("delete_stack")
        assert cast["args"] == {"stack_identity": {"id": 1}} and "_msg_id" not in cast and "_timeout" not in cast
        first = broker.messages[0]
        assert (first.exchange, first.routing_key, first.mandatory) == ("heat", "engine", True)
        assert first.content["version"] == "1.33" and first.content["_timeout"] is None
        assert first.content["_reply_q"] in broker.queues
        assert first.header.endswith(codec.short_string("20000"))  # expiration

    @on_each_loop
    def test_a_large_result_may_come_as_it_is(self, loop_name, broker):
        broker.engine = lambda broker, message: broker.reply(message, message.content["args"], _unique_id="e2" * 16)
        with connected(loop_name, broker) as client:
            engine = EngineClient(client.transport)

            def call(size, raw_above):
                found = engine.call(somebody(), "show_stack", raw_above=raw_above, stack_identity='"é' * size)
                raw = isinstance(found, RawReply)
                return raw, (found.result() if raw else found)["stack_identity"]

            for size, raw_above in ((100_000, 65_536), (100_000, None), (10, 65_536)):
                found = client.loop.run_on_loop(call, size, raw_above)
                assert found == (size > 10 and raw_above is not None, '"é' * size)

    @on_each_loop
    def test_two_hundred_at_once(self, loop_name, broker):
        held = []
        broker.engine = lambda _broker, message: held.append(message)
        with connected(loop_name, broker, most_under_way=500) as client:
            ends = [client.begin(limit=number) for number in range(200)]
            wait_for(lambda: len(held) == 200, "all calls at the engine")
            for message in reversed(held):
                broker.reply(message, message.content["args"]["limit"])
            assert [end() for end in ends] == [(number, None) for number in range(200)]
            wait_for(lambda: broker.acknowledged == 200, "all replies acknowledged")
            assert len(broker.connections) == 2

    def test_more_than_the_bound_are_refused(self, loop_name, broker):
        broker.engine = silent
        with connected(loop_name, broker, most_under_way=2) as client:
            for _ in range(2):
                client.begin()
            wait_for(lambda: len(broker.messages) == 2)
            with pytest.raises(Overloaded):
                client.call()

    def test_remote_failures_are_rebuilt_by_name(self, loop_name, broker):
        failures = [
            {"class": "StackExists", "module": "heat.common.exception", "message": "m", "tb": ["t"], "args": [],
             "kwargs": {"stack_name": "s"}},
            {"class": "NotFound", "module": "os", "message": "m", "tb": []},
            {"class": ["no"], "module": "builtins", "tb": 5},
        ]  # fmt: skip
        broker.engine = lambda broker, message: broker.reply(message, failure=json.dumps(failures.pop(0)))
        with connected(loop_name, broker) as client:
            with pytest.raises(heat.StackExists, match="The Stack"):
                client.call()
            for _ in range(2):
                with pytest.raises(heat.RemoteError):
                    client.call()
            broker.engine = echo
            assert client.call(a=1) == {"a": 1}

    def test_replies_that_are_late_second_or_no_replies(self, loop_name, broker, caplog):
        def engine(broker, message):
            queue = message.content["_reply_q"]
            for body in (b"", b"\xff{", b"x\x9c", b"[]", envelope({}), envelope({"_msg_id": "nobody's"}), b"{" * 2000):
                broker.deliver(queue, body)
            broker.reply(message, None, ending=False)
            broker.reply(message, "yes")
            broker.reply(message, "again")

        broker.engine = engine
        with connected(loop_name, broker) as client:
            assert client.call() == "yes"
            broker.engine = silent
            with pytest.raises(heat.MessagingTimeout):
                client.call("show_stack", timeout=0.3)
            broker.reply(broker.messages[-1])
            wait_for(lambda: "show_stack came too late" in caplog.text)
            broker.engine = echo
            assert client.call(a=1) == {"a": 1}

    def test_compression(self, loop_name, broker):
        import bz2
        import zlib

        def engine(broker, message):
            plain = zlib.decompress(message.body)
            content = json.loads(json.loads(plain)["oslo.message"])
            reply = envelope(
                {"result": content["args"], "failure": None, "ending": True, "_msg_id": content["_msg_id"]}
            )
            broker.deliver(content["_reply_q"], bz2.compress(reply))

        broker.engine = engine
        with connected(loop_name, broker, compression="gzip") as client:
            assert client.call(a=1) == {"a": 1}
        assert codec.table({"compression": "application/x-gzip"}) in broker.messages[0].header
        assert codec.short_string("utf-8") in broker.messages[0].header

    def test_too_deep_for_an_engine(self, loop_name, broker):
        with connected(loop_name, broker) as client:
            for levels, fits in ((460, True), (470, False)):
                value = json.loads("[" * levels + "1" + "]" * levels)
                if fits:
                    assert client.call(files=value) == []
                else:
                    with pytest.raises(RecursionError):
                        client.call(files=value)
        assert len(broker.messages) == 1

    def test_how_it_logs_in(self, loop_name, broker):
        with connected(loop_name, broker, vhost="heat", mechanisms=("PLAIN",), prefetch=7) as client:
            client.call()
        assert broker.logins == [("PLAIN", b"\0heat\0s3cret", "en_US")] * 2

    def test_what_it_declares(self, loop_name, broker):
        arguments = {"x-queue-type": "quorum", "x-expires": 1_800_000}
        options = {
            "reply_arguments": arguments,
            "reply_durable": True,
            "name_reply_queue": lambda: "reply_h:heat-api:1",
        }
        with connected(loop_name, broker, **options) as client:
            client.call()
        queue = broker.queues["reply_h:heat-api:1"]
        assert (queue.arguments, queue.durable) == (arguments, True)
        assert broker.messages[0].content["_reply_q"] == "reply_h:heat-api:1"

    def test_an_exchange_that_is_there_in_another_form(self, loop_name, broker, caplog):
        broker.exchange_error = "PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'heat'"
        with connected(loop_name, broker) as client:
            assert client.call() == []
        assert "used as it is" in caplog.text


class TestContexts:
    """One token, many requests at once, each with headers of its own."""

    HEADERS = ("X-Auth-User", "X-Auth-Key", "X-Auth-EC2-Creds", "X-Region-Name", "X-Auth-Url")

    def test_each_message_says_what_its_request_said(self, tmp_path, broker):
        # without authurl, which has a word of its own on X-Auth-Url
        paste = edited("", {"default": "request_id faultwrap versionnegotiation authtoken context apiv1app"})
        requests = []
        for number in range(40):
            chosen = [name for bit, name in enumerate(self.HEADERS) if number >> bit & 1]
            identity = {"X-Auth-Token": "good", "X-OpenStack-Request-ID": f"req-{uuid.uuid4()}"}
            requests.append({**identity, **{name: f"{name}-{number}" for name in chosen}})
        with (
            keystone() as identity,
            running(tmp_path, token_conf(identity), paste, RabbitTransport(settings(broker))) as worker,
        ):
            first = worker.request("GET", "/v1/p1/build_info", requests[0])
            answers = together(
                *(lambda sent=sent: worker.request("GET", "/v1/p1/build_info", sent) for sent in requests)
            )
        assert first.status == 200 and {answer.status for answer in answers} == {200}
        said = {context["global_request_id"]: context for context in (message.context for message in broker.messages)}
        assert len(said) == len(requests)
        for sent, answer in zip(requests, answers, strict=True):
            context = said[sent["X-OpenStack-Request-ID"]]
            assert context["auth_token"] == "good" and context["auth_token_info"]["token"]["user"]["name"] == "alice"
            assert (context["region_name"], context["auth_url"]) == (sent.get("X-Region-Name"), sent.get("X-Auth-Url"))
            named = "X-Auth-User" in sent
            assert context["username"] == sent.get("X-Auth-User", "alice")
            assert context["password"] == (sent.get("X-Auth-Key") if named else None)
            assert context["aws_creds"] == (None if named else sent.get("X-Auth-EC2-Creds"))
            if sent is not requests[0]:
                assert context["request_id"] == answer.headers["x-openstack-request-id"]


class TestBrokerAway:
    @on_each_loop
    def test_503_after_the_deadline_and_no_later(self, loop_name, broker):
        broker.close()
        client = Client(loop_name, settings(broker, connect_deadline=0.3))
        try:
            for request in (client.call, client.cast):
                began = time.monotonic()
                with pytest.raises(heat.EngineUnavailable, match="cannot be reached") as caught:
                    request()
                assert 0.2 <= time.monotonic() - began < 3 and caught.value.retry_after
                assert str(broker.port) not in str(caught.value)
        finally:
            client.close()

    @on_each_loop
    def test_the_first_request_after_recovery_succeeds(self, loop_name, broker):
        with connected(loop_name, broker) as client:
            assert client.call() == []
            for forget in (False, True):
                broker.close(forget_queues=forget)
                wait_for(lambda: not (client.transport._sender.link or client.transport._receiver.link))
                end = client.begin(method="waits")
                time.sleep(0.1)
                broker.open()
                assert end() == ([], None)
                assert client.call() == []
            assert len(broker.contents("waits")) == 2

    def test_a_broker_that_takes_connections_and_says_nothing(self, loop_name, broker):
        broker.serving = False
        client = Client(loop_name, settings(broker, connect_deadline=0.5))
        try:
            with pytest.raises(heat.EngineUnavailable):
                client.call()
        finally:
            client.close()

    def test_the_next_host_takes_over(self, loop_name, broker):
        gone = Broker()
        gone.close()
        for _ in range(3):  # in whatever order
            with connected(loop_name, gone, broker) as client:
                assert client.call() == []

    @on_each_loop
    def test_a_host_that_drops_packets_does_not_take_the_whole_time(self, loop_name, broker, monkeypatch):
        monkeypatch.setattr("heatperf.rpc.rabbit.kept.ATTEMPT", 0.3)
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as callers:
            # Its queue is full, so that further handshakes get no answer.
            for _ in range(3):
                caller = callers.enter_context(socket.socket())
                caller.setblocking(False)
                caller.connect_ex(full.getsockname())
            hole = Host("127.0.0.1", full.getsockname()[1], "heat", "x")
            for _ in range(2):  # in whatever order
                what = settings(broker)
                what = dataclasses.replace(what, hosts=(hole, *what.hosts))
                client = Client(loop_name, what)
                try:
                    assert client.call() == []
                finally:
                    client.close()

    def test_brokers_that_hang_up_again_and_again_are_not_stormed(self, loop_name, broker, caplog):
        """A connection that is lost at once is no success, after which the next host would be tried without a pause."""
        other = Broker()
        broker.hangs_up = other.hangs_up = True
        client = Client(loop_name, settings(broker, other, pace=Pace(0.4, 0.0, 0.4)))
        try:
            wait_for(lambda: len(broker.logins) + len(other.logins) >= 4)
            time.sleep(1)
            assert len(broker.logins) + len(other.logins) < 15
            lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
            assert sum("closed the connection" in line for line in lines) == 2  # once for each of them
            broker.hangs_up = other.hangs_up = False
            client.ready()
        finally:
            client.close()
            other.close()

    def test_a_broker_that_takes_its_time_gets_it(self, loop_name, broker, monkeypatch):
        """Not at the first attempt, which is to leave time for another host."""
        monkeypatch.setattr("heatperf.rpc.rabbit.kept.ATTEMPT", 0.3)
        broker.answers_after = 1.0
        with connected(loop_name, broker) as client:
            assert client.call() == []

    def test_names_are_looked_up(self, loop_name, broker):
        hosts = (Host("localhost", broker.port, "heat", "x"),)
        client = Client(loop_name, RabbitSettings(hosts=hosts))
        try:
            assert client.call() == []
        finally:
            client.close()

    def test_an_outage_is_told_once(self, loop_name, broker, caplog):
        with connected(loop_name, broker) as client:
            caplog.clear()
            broker.close()
            for _ in range(3):
                with pytest.raises(heat.EngineUnavailable):
                    client.call(timeout=0.3)
            refused = [r for r in caplog.records if "refused" in r.getMessage() and r.levelno == logging.ERROR]
            assert len(refused) == 2  # for each of the two connections
            assert "s3cret" not in caplog.text


class TestTls:
    """As test_rpc_rabbit_options: what is verified. Here: that bytes come through, and strangers do not."""

    @pytest.fixture(scope="class")
    def files(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("tls")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "key.pem", "-out",
             folder / "cert.pem", "-days", "2", "-subj", "/CN=broker", "-addext", "subjectAltName=DNS:localhost"],
            check=True, capture_output=True,
        )  # fmt: skip
        return folder

    @on_each_loop
    def test_through_tls(self, loop_name, broker, files):
        broker.engine = echo
        context = ssl.create_default_context(cafile=files / "cert.pem")
        with tls_in_front(broker, files) as port:
            what = RabbitSettings((Host("localhost", port, "heat", "x"),), tls=context, response_timeout=10)
            client = Client(loop_name, what)
            try:
                for size in (1, 300_000, 2):
                    assert client.call(template="x" * size) == {"template": "x" * size}
                before = client.transport._sender.link, client.transport._receiver.link
                broker.drop()
                wait_for(lambda: before[0].ended_by and before[1].ended_by, "the loss is noticed")
                assert client.call(a=1) == {"a": 1}
            finally:
                client.close()

    @pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
    def test_a_stranger_is_told_nothing(self, loop_name, broker, files, name, caplog):
        """A certificate of another name, or of an authority that nobody has named."""
        known = {"cafile": files / "cert.pem"} if name == "127.0.0.1" else {}
        with tls_in_front(broker, files) as port:
            what = RabbitSettings(
                (Host(name, port, "heat", "s3cret"),), tls=ssl.create_default_context(**known), connect_deadline=0.5
            )
            client = Client(loop_name, what)
            try:
                with pytest.raises(heat.EngineUnavailable):
                    client.call()
            finally:
                client.close()
        assert "certificate verify failed" in caplog.text and broker.logins == []


class TestSentOnce:
    @on_each_loop
    def test_a_call_that_has_left_is_only_waited_for(self, loop_name, broker):
        """The connection is lost after the broker has it: the answer comes over the next one."""
        broker.engine = silent
        broker.confirming = False
        with connected(loop_name, broker) as client:
            end = client.begin(method="create_stack")
            [message] = wait_for(lambda: list(broker.messages))
            broker.drop()
            client.ready()
            broker.reply(message, "done")
            assert end() == ("done", None)
            assert len(broker.contents("create_stack")) == 1

    def test_a_cast_without_a_confirm(self, loop_name, broker):
        broker.confirming = False
        with connected(loop_name, broker) as client:
            end = client.begin(client.cast)
            wait_for(lambda: broker.messages)
            broker.drop()
            assert type(end()[1]) is heat.EngineLost
            client.ready()
            broker.confirming = True
            client.cast()
            assert len(broker.messages) == 2

    def test_confirms_of_many_at_once(self, loop_name, broker):
        broker.confirming = False
        with connected(loop_name, broker) as client:
            ends = [client.begin(client.cast) for _ in range(5)]
            wait_for(lambda: len(broker.messages) == 5)
            broker.publishing.confirm(4, multiple=True)
            broker.publishing.confirm(5, number=codec.BASIC_NACK)
            outcomes = [end()[1] for end in ends]
            assert [type(error) for error in outcomes if error] == [heat.EngineLost]

    def test_what_was_not_sent_goes_over_the_next_connection(self, loop_name, broker):
        with connected(loop_name, broker) as client:
            blocked = broker.publishing
            blocked.block()
            wait_for(lambda: client.transport._sender.link.is_blocked)
            end = client.begin(method="create_stack")
            time.sleep(0.1)
            blocked.cut()
            assert end() == ([], None)
            assert len(broker.contents("create_stack")) == 1

    @on_each_loop
    def test_a_returned_message_is_sent_again_though_its_confirm_was_lost(self, loop_name, broker):
        """That it was returned says that no queue has it."""
        broker.consumers = None
        broker.confirming = False
        with connected(loop_name, broker) as client:
            ends = [client.begin(), client.begin(client.cast)]
            wait_for(lambda: len(client.transport._sender._returned) == 2)
            broker.consumers = 1
            broker.confirming = True
            broker.publishing.cut()
            assert [end()[1] for end in ends] == [None, None]
        assert len(broker.messages) == 2

    @on_each_loop
    def test_what_comes_after_a_standstill_goes_over_a_link_that_lives(self, loop_name):
        """The broker has long hung up on a process that was stopped; what is written before that is read is lost."""
        broker = Broker(heartbeat=1)
        with connected(loop_name, broker) as client:
            standing = client.begin(lambda: client.loop.run_on_loop(time.sleep, 1.5))
            time.sleep(0.2)
            ends = [client.begin(method="create_stack", timeout=5), client.begin(client.cast)]
            time.sleep(0.2)
            broker.drop()
            assert standing() == (None, None)
            assert [end()[1] for end in ends] == [None, None]
        assert len(broker.messages) == 2
        broker.close()

    @on_each_loop
    def test_a_goodbye_while_the_writer_is_stuck(self, loop_name, broker):
        """Two greenlets on one stream: one of them would never be woken again."""
        with connected(loop_name, broker) as client:
            client.cast()  # the writer has been idle
            before = len(client.loop.streams)
            publishing, link = broker.publishing, client.transport._sender.link
            publishing.reading.clear()
            end = client.begin(template="x" * 30_000_000)
            wait_for(lambda: client.transport._sender._unconfirmed)
            gone = codec.short_string("gone")
            publishing.send(codec.method(1, codec.CHANNEL_CLOSE, b"\x01\x94" + gone + b"\0\x3c\0\x28"))
            wait_for(lambda: client.transport._sender.link not in (None, link))
            wait_for(lambda: len(client.loop.streams) == before, "the old streams are closed")
            publishing.cut()
            client.loop.run_on_loop(client.transport._calls.lost, False)
            assert type(end()[1]) is heat.EngineLost

    @on_each_loop
    def test_a_blocked_broker_gets_nothing_and_replies_still_come(self, loop_name, broker):
        held = []
        broker.engine = lambda _broker, message: held.append(message)
        with connected(loop_name, broker, connect_deadline=0.4) as client:
            before = client.begin(method="show_stack")
            wait_for(lambda: held)
            publishing = broker.publishing
            publishing.block()
            wait_for(lambda: client.transport._sender.link.is_blocked)
            with pytest.raises(heat.EngineUnavailable, match="not sent"):
                client.call("create_stack")
            broker.reply(held[0], "answer")
            assert before() == ("answer", None)
            publishing.unblock()
            broker.engine = echo
            assert client.call(a=1) == {"a": 1}
            assert broker.contents("create_stack") == []

    @on_each_loop
    def test_what_was_on_the_way_when_the_alarm_struck_is_waited_for(self, loop_name, broker, monkeypatch):
        """More than the broker's buffers hold. To the kernel, that is as if nobody were there."""
        monkeypatch.setattr("heatperf.loops.connecting.UNACKNOWLEDGED_MS", 700)
        with connected(loop_name, broker) as client:
            publishing, link = broker.publishing, client.transport._sender.link
            publishing.reading.clear()
            end = client.begin(client.cast, template="x" * 30_000_000)
            wait_for(lambda: client.transport._sender._unconfirmed)
            publishing.block()
            time.sleep(2)
            publishing.unblock()
            assert end() == (None, None) and client.transport._sender.link is link

    def test_who_gives_up_is_not_served(self, loop_name, broker):
        with connected(loop_name, broker) as client:
            publishing = broker.publishing
            publishing.block()
            wait_for(lambda: client.transport._sender.link.is_blocked)
            with pytest.raises(heat.EngineUnavailable):
                client.call("create_stack", timeout=0.2)
            end = client.begin(client.cast)
            wait_for(lambda: len(client.transport._sender._queue) == 1, "nothing is kept of it")
            publishing.unblock()
            assert end() == (None, None)
            assert [m.content["method"] for m in broker.messages] == ["delete_stack"]

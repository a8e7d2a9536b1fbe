"""The local transport against the engine's server: a real unix socket, a real loop, and an engine of the test.

First the pure parts (frames, correlation), then calls from greenlets of a loop that runs in a thread, as in a worker.
Engines that must die run in a process of their own.
"""

import contextlib
import contextvars
import gc
import json
import logging
import os
import pathlib
import random
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import weakref

import pytest

from heatperf import loops
from heatperf.engine import frames, server
from heatperf.engine.frames import MAX_FRAME, Frames, MalformedFrame, encode_frame
from heatperf.errors import ConfigurationError, Overloaded, heat
from heatperf.rpc.local import Correlation, LocalTransport, NotDelivered, Request

TIMEOUT = 20.0
SECRET = "gAAAA-this-is-a-token"
CONTEXT = {"auth_token": SECRET, "project_id": "p"}
NOBODY = 65534


class SomeContext:
    """What a transport needs of a RequestContext."""

    def to_rpc(self):
        return CONTEXT


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user's process is needed")


def request(method="m", deadline=100.0, **arguments):
    return Request(CONTEXT, method, arguments, "1.0", deadline, cast=False)


def sent(frame):
    [message] = Frames().feed(frame)
    return message


def wait_for(condition):
    deadline = time.monotonic() + TIMEOUT
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return value


def read_all(sock):
    """Read to the end; the number of bytes."""
    sock.settimeout(TIMEOUT)
    size = 0
    while data := sock.recv(1_000_000):
        size += len(data)
    return size


@contextlib.contextmanager
def listening(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(TIMEOUT)
        listener.bind(str(path))
        listener.listen()
        yield listener


class TestFrames:
    MESSAGES = [{"id": number, "result": "x" * number} for number in range(40)]

    @pytest.mark.parametrize("seed", range(5))
    def test_however_the_bytes_arrive(self, seed):
        data = b"".join(map(encode_frame, self.MESSAGES))
        chance = random.Random(seed)
        frames, found = Frames(), []
        while data:
            size = chance.choice((1, 3, 50, 2000))
            found += frames.feed(data[:size])
            data = data[size:]
        assert found == self.MESSAGES

    @pytest.mark.parametrize(
        "value",
        [10**30, -(2**64), float("inf"), "\ud800", {"a": [None, 1e308, -0.0]}, json.loads("[" * 450 + "]" * 450)],
        ids=["big", "negative", "infinity", "surrogate", "ordinary", "deep"],
    )
    def test_values_arrive_as_they_were(self, value):
        assert sent(encode_frame({"id": 1, "result": value}))["result"] == value

    def test_nan_does_not_become_null(self):
        value = sent(encode_frame({"id": 1, "result": [None, float("nan")]}))["result"]
        assert value[0] is None and value[1] != value[1]

    def test_what_has_no_form_is_refused(self):
        with pytest.raises(TypeError, match="object has no form"):
            encode_frame({"id": 1, "result": object()})

    @pytest.mark.parametrize(
        "data",
        [
            frames.HEADER.pack(MAX_FRAME + 1, 1),
            frames.HEADER.pack(2, 9) + b"{}",
            frames.HEADER.pack(2, 1) + b"{}",
            frames.HEADER.pack(2, 1) + b"[]",
            frames.HEADER.pack(3, 1) + b"{x}",
            frames.HEADER.pack(200_000, 2) + b"[" * 200_000,
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ],
        ids=["huge", "kind", "no id", "list", "no JSON", "bottomless", "HTTP"],
    )
    def test_malformed_after_a_good_one(self, data):
        found = []
        with pytest.raises(MalformedFrame):
            for message in Frames().feed(encode_frame({"id": 7}) + data):
                found.append(message)
        assert found == [{"id": 7}]


class TestCorrelation:
    def test_answers_in_any_order_find_their_requests(self):
        core = Correlation()
        for token in "abc":
            core.begin(request(token), token, now=0.0)
        frames = [core.next_frame(0.0) for _ in "abc"]
        assert core.next_frame(0.0) is None
        messages = [sent(frame) for frame in frames]
        assert [message["method"] for message in messages] == ["a", "b", "c"]
        assert messages[0]["context"] == CONTEXT and messages[0]["ttl"] == 100.0
        answers = b"".join(encode_frame({"id": m["id"], "result": m["method"]}) for m in reversed(messages))
        assert [(token, o.result) for token, o in core.feed(answers)] == [("c", "c"), ("b", "b"), ("a", "a")]
        assert len(core) == 0

    def test_a_late_answer_is_dropped(self):
        core = Correlation()
        number = core.begin(request("late"), "t", now=0.0)
        core.next_frame(0.0)
        core.next_frame(0.0)
        error = core.give_up(number, "late")
        assert type(error) is heat.MessagingTimeout and "late" in str(error)
        assert list(core.feed(encode_frame({"id": number, "result": 1}))) == []

    def test_what_was_not_sent_before_its_deadline_never_is(self):
        core = Correlation()
        number = core.begin(request(deadline=5.0), "t", now=0.0)
        core.begin(request("later", deadline=9.0), "u", now=0.0)
        assert sent(core.next_frame(5.0))["method"] == "later"
        assert isinstance(core.give_up(number, "m"), heat.EngineUnavailable)

    @pytest.mark.parametrize(("unsent", "second"), [(True, NotDelivered), (False, heat.EngineLost)])
    def test_only_what_provably_did_not_go_out_counts_as_not_delivered(self, unsent, second):
        core = Correlation()
        for token in "abc":
            core.begin(request(token), token, now=0.0)
        core.next_frame(0.0)
        core.next_frame(0.0)  # so the first is out, the second is being written, the third is not
        kinds = {token: type(outcome.error) for token, outcome in core.lost(unsent)}
        assert kinds == {"a": heat.EngineLost, "b": second, "c": NotDelivered}
        assert len(core) == 0 and core.next_frame(0.0) is None

    def test_refusals(self):
        core = Correlation()
        numbers = [core.begin(request(), token, now=0.0) for token in "ab"]
        answers = encode_frame({"id": numbers[0], "refused": "busy"})
        answers += encode_frame({"id": 0, "stopping": True}) + encode_frame({"id": numbers[1], "refused": "stopping"})
        kinds = [type(outcome.error) for _, outcome in core.feed(answers)]
        assert kinds == [Overloaded, NotDelivered] and core.leaving

    def test_greetings(self):
        core = Correlation()
        assert list(core.feed(encode_frame({"id": 0, "hello": frames.PROTOCOL}))) == [] and core.greeted
        with pytest.raises(MalformedFrame, match="another version"):
            list(core.feed(encode_frame({"id": 0, "hello": frames.PROTOCOL + 1})))

    def test_an_answer_without_meaning_is_malformed(self):
        core = Correlation()
        number = core.begin(request(), "t", now=0.0)
        with pytest.raises(MalformedFrame):
            list(core.feed(encode_frame({"id": number, "failure": "text"})))

    def test_what_cannot_be_encoded_leaves_no_trace(self, monkeypatch):
        core = Correlation()
        with pytest.raises(TypeError):
            core.begin(request(value=object()), "t", now=0.0)
        monkeypatch.setattr(frames, "MAX_FRAME", 1000)
        with pytest.raises(heat.RequestLimitExceeded, match="at most 1000"):
            core.begin(request(value="x" * 1000), "t", now=0.0)
        assert len(core) == 0 and core.next_frame(0.0) is None


class Engine:
    """Answers with what the method's name says; remembers what it began."""

    def __init__(self):
        self.began = []
        self.closed = False
        self.inside = 0
        self.gate = threading.Event()
        self.lock = threading.Lock()

    def dispatch(self, context, method, arguments, version):
        with self.lock:
            self.began.append(method)
            self.inside += 1
        try:
            return getattr(self, method)(context, version, **arguments)
        finally:
            with self.lock:
                self.inside -= 1

    def echo(self, context, version, **arguments):
        return {"context": context, "version": version, "arguments": arguments}

    def held(self, context, version, value=None):
        assert self.gate.wait(TIMEOUT)
        return value

    def fail(self, context, version, error):
        raise ERRORS[error]()

    def large(self, context, version, size):
        return "x" * size

    def odd(self, context, version):
        return object()

    def close(self, timeout):
        self.closed = True


class Unreadable(heat.StackExists):
    """A class of the engine's own."""


ERRORS = {
    "exists": lambda: heat.StackExists(stack_name="s"),
    "value": lambda: ValueError("bad value"),
    "own": lambda: Unreadable(stack_name="s"),
    "exit": lambda: SystemExit(1),
    "odd": lambda: heat.StackExists(stack_name={1, 2}),
    "timeout": lambda: TimeoutError("inside the engine"),
}


class Served:
    """serve() in a thread."""

    def __init__(self, folder, engine=None, **options):
        self.engine = engine or Engine()
        self.path = folder / "run" / "engine.sock"
        self.stop = threading.Event()
        self.error = None
        self._up = threading.Event()
        self._options = options
        self._thread = threading.Thread(target=self._run, args=(folder,), daemon=True)
        self._thread.start()
        assert self._up.wait(TIMEOUT)
        if self.error is not None:
            raise self.error

    def _run(self, folder):
        try:
            server.serve(
                folder, self.path, ready=self._up.set, stop=self.stop, opener=lambda _: self.engine, **self._options
            )
        except Exception as error:
            self.error = error
            self._up.set()

    @property
    def alive(self):
        return self._thread.is_alive()

    def join(self):
        self._thread.join(TIMEOUT)
        assert not self.alive

    def close(self):
        self.engine.gate.set()
        self.stop.set()
        self.join()
        assert self.engine.closed


class Client:
    """A worker's loop in a thread, with a transport on it. Calls come from any thread of the test."""

    def __init__(self, path, timeout=TIMEOUT):
        self.transport = LocalTransport(str(path), timeout)
        up = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(up,), daemon=True)
        self._thread.start()
        assert up.wait(TIMEOUT)
        self.loop.run_on_loop(self.transport.start, self.loop)

    def _run(self, up):
        self.loop = loops.create("gevent")
        self.loop.call_soon_threadsafe(up.set)
        self.loop.run()

    def call(self, method, timeout=None, **arguments):
        return self.loop.run_on_loop(self.transport.call, SomeContext(), method, arguments, "1.5", timeout)

    def cast(self, method, **arguments):
        return self.loop.run_on_loop(self.transport.cast, SomeContext(), method, arguments, "1.5")

    def begin(self, method, timeout=None, **arguments):
        """Call in a thread of its own; returns a function that waits for (result, error)."""
        outcome = []

        def body():
            try:
                outcome.append((self.call(method, timeout, **arguments), None))
            except Exception as error:
                outcome.append((None, error))

        thread = threading.Thread(target=body, daemon=True)
        thread.start()

        def end():
            thread.join(TIMEOUT)
            return outcome[0]

        return end

    def close(self):
        self.loop.run_on_loop(self.transport.stop)
        self.loop.run_on_loop(self.loop.sleep, 0)
        assert not self.loop.streams, "every stream is given back"
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(TIMEOUT)


@pytest.fixture
def closing():
    made = []
    yield lambda thing: made.append(thing) or thing
    for thing in reversed(made):
        thing.close()


@pytest.fixture
def served(tmp_path, closing):
    return closing(Served(tmp_path))


@pytest.fixture
def client(served, closing):
    return closing(Client(served.path))


class TestCalls:
    def test_what_goes_over_and_comes_back(self, client):
        answer = client.call("echo", name="s", big=10**30)
        assert answer == {"context": CONTEXT, "version": "1.5", "arguments": {"name": "s", "big": 10**30}}

    def test_many_at_once_over_one_connection_and_none_waits_for_another(self, client, served):
        held = [client.begin("held", value=number) for number in range(50)]
        wait_for(lambda: served.engine.inside == 50)
        assert client.call("echo")["arguments"] == {}
        served.engine.gate.set()
        assert [end() for end in held] == [(number, None) for number in range(50)]

    def test_large_messages_both_ways_beside_small_ones(self, client):
        large = "x" * 20_000_000
        ends = [client.begin("echo", text=large) for _ in range(3)]
        assert client.call("echo", n=1)["arguments"] == {"n": 1}
        for end in ends:
            assert end()[0]["arguments"]["text"] == large

    @pytest.mark.parametrize(
        ("error", "kind", "text"),
        [
            ("exists", heat.StackExists, "The Stack (s) already exists."),
            ("value", ValueError, "bad value"),
            ("own", heat.RemoteError, "Unreadable The Stack (s) already exists."),
            ("exit", heat.RemoteError, "SystemExit"),
            ("odd", heat.StackExists, "The Stack ({1, 2}) already exists."),
        ],
    )
    def test_failures(self, client, error, kind, text):
        with pytest.raises(Exception) as caught:
            client.call("fail", error=error)
        assert type(caught.value) is kind and text in str(caught.value)

    def test_the_engines_traceback_comes_along(self, client):
        with pytest.raises(heat.StackExists) as caught:
            client.call("fail", error="exists")
        assert "in dispatch" in caught.value.remote_trace

    def test_results_that_cannot_be_sent(self, client, monkeypatch):
        with pytest.raises(TypeError, match="object has no form in JSON"):
            client.call("odd")
        monkeypatch.setattr(frames, "MAX_FRAME", 4000)
        with pytest.raises(heat.RequestLimitExceeded, match="the answer to large"):
            client.call("large", size=5000)
        assert client.call("echo", n=1)["arguments"] == {"n": 1}

    def test_no_answer_in_time(self, client, served):
        began = time.monotonic()
        with pytest.raises(heat.MessagingTimeout, match="held") as caught:
            client.call("held", timeout=0.2)
        assert 0.2 <= time.monotonic() - began < 5 and not isinstance(caught.value, heat.EngineLost)
        served.engine.gate.set()  # the late answer harms nobody
        assert client.call("echo", n=1)["arguments"] == {"n": 1}

    def test_a_timeout_of_the_engines_own_is_not_ours(self, client):
        with pytest.raises(TimeoutError, match="inside the engine"):
            client.call("fail", error="timeout")

    def test_a_killed_greenlet_leaves_nothing_behind(self, client, served):
        def kill():
            greenlet = client.loop.spawn(client.transport.call, SomeContext(), "held", {}, "1.5", None)
            while not served.engine.inside:
                client.loop.sleep(0.005)
            greenlet.kill()

        client.loop.run_on_loop(kill)
        assert client.transport._under_way == 0
        served.engine.gate.set()
        assert client.call("echo", n=1)["arguments"] == {"n": 1}

    def test_the_connection_does_not_keep_the_first_callers_contextvars(self, client):
        variable = contextvars.ContextVar("of the request")

        class Token:
            pass

        def ask():
            token = Token()
            variable.set(token)
            client.call("echo")
            return weakref.ref(token)

        kept = contextvars.copy_context().run(ask)
        gc.collect()
        assert client.transport._link.usable and kept() is None

    def test_nothing_of_a_context_is_logged(self, client, served, caplog):
        caplog.set_level(logging.DEBUG)
        for error in ("value", "exists"):
            client.begin("fail", error=error)()
        client.begin("held", timeout=0.05)()
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(served.path))
            text = json.dumps({"id": 1, "context": CONTEXT}).encode()
            stranger.sendall(frames.HEADER.pack(len(text), 1) + text)
            read_all(stranger)
        assert "without method" in caplog.text and SECRET not in caplog.text


class TestCasts:
    def test_returns_when_the_engine_has_taken_it(self, client, served):
        client.cast("held")
        wait_for(lambda: served.engine.began == ["held"])

    def test_its_failure_is_logged_at_the_engine(self, client, caplog):
        client.cast("fail", error="exists")
        wait_for(lambda: "fail failed" in caplog.text)
        assert client.call("echo", n=1)["arguments"] == {"n": 1}


class TestBounds:
    def run(self, tmp_path, closing, monkeypatch, threads, queue_limit):
        real = server.Server
        monkeypatch.setattr(server, "Server", lambda e: real(e, threads=threads, queue_limit=queue_limit))
        served = closing(Served(tmp_path))
        return served, closing(Client(served.path))

    def test_beyond_the_engines_queue(self, tmp_path, closing, monkeypatch):
        served, client = self.run(tmp_path, closing, monkeypatch, 2, 1)
        held = [client.begin("held") for _ in range(3)]
        wait_for(lambda: client.transport._under_way == 3 and served.engine.inside == 2)
        for send in (client.call, client.cast):
            with pytest.raises(Overloaded, match="queue of the engine"):
                send("held")
        served.engine.gate.set()
        assert [end()[1] for end in held] == [None] * 3
        assert served.engine.began == ["held"] * 3

    def test_what_nobody_waits_for_any_more_is_not_begun(self, tmp_path, closing, monkeypatch, caplog):
        served, client = self.run(tmp_path, closing, monkeypatch, 1, 5)
        held = client.begin("held")
        wait_for(lambda: served.engine.inside == 1)
        with pytest.raises(heat.MessagingTimeout):
            client.call("echo", timeout=0.1)
        served.engine.gate.set()
        held()
        wait_for(lambda: "it is not begun" in caplog.text)
        assert served.engine.began == ["held"]

    def test_beyond_the_workers_own(self, client, served, monkeypatch):
        monkeypatch.setattr(LocalTransport, "MOST_UNDER_WAY", 1)
        held = client.begin("held")
        wait_for(lambda: served.engine.inside == 1)
        with pytest.raises(Overloaded):
            client.call("echo")
        served.engine.gate.set()
        held()

    def test_a_worker_that_does_not_read_holds_up_nobody(self, client, served, monkeypatch):
        with socket.socket(socket.AF_UNIX) as stuck:
            stuck.connect(str(served.path))
            context = {"fill": "x" * 1_000_000}
            for number in range(1, 101):
                message = {"id": number, "method": "echo", "version": "1.0", "context": context, "args": {}, "ttl": 20}
                stuck.sendall(encode_frame(message))
            wait_for(lambda: served.engine.began.count("echo") == 100)
            assert client.call("echo", n=1)["arguments"] == {"n": 1}
            assert stuck.recv(1), "it is still connected"
            monkeypatch.setattr(server, "MAX_FRAME", 5_000_000)  # so 10 MB of answers are too many
            stuck.sendall(encode_frame({**message, "id": 101, "context": {}}))
            assert read_all(stuck) < 50_000_000
        assert client.call("echo", n=2)["arguments"] == {"n": 2}

    @pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", encode_frame({"id": 1, "method": "echo"})])
    def test_a_peer_that_speaks_something_else(self, client, served, data):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(TIMEOUT)
            stranger.connect(str(served.path))
            stranger.sendall(data)
            read_all(stranger)
        assert client.call("echo", n=1)["arguments"] == {"n": 1}

    @pytest.mark.parametrize("hello", [b"", encode_frame({"id": 0, "hello": frames.PROTOCOL})], ids=["before", "after"])
    def test_an_engine_that_speaks_something_else(self, tmp_path, closing, caplog, monkeypatch, hello):
        monkeypatch.setattr(LocalTransport, "CONNECT_DEADLINE", 0.5)
        with listening(tmp_path / "s") as listener:
            client = closing(Client(tmp_path / "s"))
            end = client.begin("echo")
            connection, _ = listener.accept()
            with connection:
                connection.sendall(hello)
                if hello:
                    assert connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                got = read_all(connection)
            assert type(end()[1]) is (heat.EngineLost if hello else heat.EngineUnavailable)
            assert hello or got == 0, "nothing may be sent before the greeting"
        assert "MalformedFrame" in caplog.text


PROCESS = """
import pathlib, sys, threading, time
from heatperf.engine import server

class Engine:
    def dispatch(self, context, method, arguments, version):
        sys.stdout.write(method + chr(10))
        sys.stdout.flush()
        if method == "hang":
            time.sleep(60)
        return method

    def close(self, timeout):
        pass

server.serve(pathlib.Path("."), pathlib.Path(sys.argv[1]), ready=lambda: print("ready", flush=True),
             stop=threading.Event(), opener=lambda state: Engine())
"""


class Process:
    """An engine that can be killed."""

    def __init__(self, path):
        command = [sys.executable, "-c", PROCESS, str(path)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.wait_for("ready")

    def wait_for(self, line):
        assert self._process.stdout.readline().strip() == line

    def signal(self, number):
        self._process.send_signal(number)

    def close(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class TestEngineAway:
    @pytest.fixture(autouse=True)
    def sooner(self, monkeypatch):
        monkeypatch.setattr(LocalTransport, "CONNECT_DEADLINE", 0.5)

    def test_none_comes_in_time(self, tmp_path, closing, caplog):
        client = closing(Client(tmp_path / "engine.sock"))
        began = time.monotonic()
        ends = [client.begin("echo") for _ in range(5)]
        for end in ends:
            error = end()[1]
            assert isinstance(error, heat.EngineUnavailable) and "did not reach" in str(error)
            assert str(tmp_path) not in str(error)
        with pytest.raises(heat.EngineUnavailable):
            client.cast("echo")
        assert 1.0 <= time.monotonic() - began < 5
        assert "No engine at" in caplog.text

    def test_a_call_waits_no_longer_for_it_than_for_an_answer(self, tmp_path, closing):
        client = closing(Client(tmp_path / "engine.sock"))
        began = time.monotonic()
        with pytest.raises(heat.EngineUnavailable):
            client.call("echo", timeout=0.1)
        assert time.monotonic() - began < 0.5

    def test_it_dies_before_it_takes_the_connection(self, tmp_path, closing, monkeypatch):
        monkeypatch.setattr(LocalTransport, "CONNECT_DEADLINE", TIMEOUT)
        path = tmp_path / "run" / "engine.sock"
        path.parent.mkdir(mode=0o700)
        with listening(path):
            client = closing(Client(path))
            end = client.begin("echo", n=1)
            wait_for(lambda: client.loop.streams)
        closing(Served(tmp_path))
        assert end()[0]["arguments"] == {"n": 1}

    def test_a_worker_that_stops_while_it_waits_lets_go(self, tmp_path, closing, monkeypatch):
        monkeypatch.setattr(LocalTransport, "CONNECT_DEADLINE", TIMEOUT)
        with listening(tmp_path / "s") as listener:
            client = closing(Client(tmp_path / "s"))
            end = client.begin("echo")
            connection, _ = listener.accept()
            client.loop.run_on_loop(client.transport.stop)
            assert isinstance(end()[1], heat.EngineUnavailable)
            with connection:
                connection.sendall(encode_frame({"id": 0, "hello": frames.PROTOCOL}))
                assert read_all(connection) == 0

    def test_it_does_not_take_the_connection(self, tmp_path, closing):
        with listening(tmp_path / "s"):
            client = closing(Client(tmp_path / "s"))
            with pytest.raises(heat.EngineUnavailable):
                client.call("echo")

    def test_it_comes_in_time(self, tmp_path, closing, monkeypatch):
        monkeypatch.setattr(LocalTransport, "CONNECT_DEADLINE", TIMEOUT)
        client = closing(Client(tmp_path / "run" / "engine.sock"))
        ends = [client.begin("echo", n=number) for number in range(5)]
        wait_for(lambda: len(client.transport._waiting) == 5)
        served = closing(Served(tmp_path))
        assert [end()[0]["arguments"]["n"] for end in ends] == list(range(5))
        assert len(served.engine.began) == 5

    def test_killed_with_calls_under_way(self, tmp_path, closing, caplog):
        path = tmp_path / "run" / "engine.sock"
        first = closing(Process(path))
        client = closing(Client(path))
        hanging = [client.begin("hang") for _ in range(2)]
        for _ in hanging:
            first.wait_for("hang")
        began = time.monotonic()
        first.signal(signal.SIGKILL)
        for end in hanging:
            error = end()[1]
            assert isinstance(error, heat.EngineLost) and "hang, which may or may not be carried out" in str(error)
        assert time.monotonic() - began < 5
        assert "2 requests under way" in caplog.text
        with pytest.raises(heat.EngineUnavailable):
            client.call("echo")
        closing(Process(path))  # in the place of the file that the first one left behind
        assert client.call("again") == "again"

    def test_killed_in_the_middle_of_taking_a_request(self, tmp_path, closing, monkeypatch):
        """What the engine has only in part it cannot carry out, so the next one gets it."""
        monkeypatch.setattr(LocalTransport, "CONNECT_DEADLINE", TIMEOUT)
        path = tmp_path / "run" / "engine.sock"
        first = closing(Process(path))
        client = closing(Client(path))
        assert client.call("warm") == "warm"
        first.wait_for("warm")
        first.signal(signal.SIGSTOP)
        end = client.begin("large", text="x" * 10_000_000)
        wait_for(lambda: client.transport._link._core._given is not None)
        first.close()
        second = closing(Process(path))
        assert end() == ("large", None)
        second.wait_for("large")

    def test_a_call_to_a_stopping_worker(self, tmp_path, closing):
        client = closing(Client(tmp_path / "engine.sock"))
        client.loop.run_on_loop(client.transport.stop)
        with pytest.raises(heat.EngineUnavailable, match="stopping"):
            client.call("echo")


class TestStop:
    def test_what_is_under_way_is_answered_and_the_rest_goes_to_the_successor_once(self, tmp_path, closing):
        first = closing(Served(tmp_path))
        client = closing(Client(first.path))
        held = client.begin("held", value=1)
        wait_for(lambda: first.engine.inside == 1)
        first.stop.set()
        wait_for(lambda: not first.path.exists())
        ends = [client.begin("echo", n=number) for number in range(20)]
        first.engine.gate.set()
        assert held() == (1, None)
        first.join()
        second = closing(Served(tmp_path))
        assert sorted(end()[0]["arguments"]["n"] for end in ends) == list(range(20))
        assert len(first.engine.began) == 1 and len(second.engine.began) == 20

    def test_under_load_every_request_is_carried_out_exactly_once(self, tmp_path, closing):
        engines = []
        served = Served(tmp_path)
        client = closing(Client(served.path))
        over = threading.Event()
        failures, done = [], []

        def load():
            while not over.is_set():
                try:
                    client.call("echo")
                    done.append(1)
                except Exception as error:
                    failures.append(error)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            before = len(done)
            wait_for(lambda before=before: len(done) > before + 20)
            engines.append(served.engine)
            served.close()
            served = Served(tmp_path)
        over.set()
        for thread in threads:
            thread.join(TIMEOUT)
        engines.append(served.engine)
        served.close()
        assert failures == []
        assert sum(len(engine.began) for engine in engines) == len(done)

    def test_a_request_that_hangs_does_not_keep_it(self, tmp_path, closing):
        served = closing(Served(tmp_path, drain=0.1))
        client = closing(Client(served.path))
        end = client.begin("held")
        wait_for(lambda: served.engine.inside == 1)
        served.stop.set()
        served.join()
        assert served.engine.closed and isinstance(end()[1], heat.EngineLost)

    def test_idle_workers_hang_up_so_it_is_soon(self, tmp_path, closing, monkeypatch):
        monkeypatch.setattr(server, "LINGER", 10 * TIMEOUT)
        served = closing(Served(tmp_path))
        client = closing(Client(served.path))
        client.call("echo")
        served.stop.set()
        served.join()

    def test_the_file_of_a_successor_stays(self, tmp_path, closing):
        served = Served(tmp_path)
        served.path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(served.path))
            served.close()
            assert served.path.exists()


class TestSocketFile:
    def test_only_we_may_reach_it(self, served):
        assert stat.S_IMODE(served.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(served.path.parent.stat().st_mode) == 0o700

    def test_missing_folders_are_made_closed(self, tmp_path):
        before = os.umask(0)
        try:
            server.prepare_folder(str(tmp_path / "a" / "b" / "s"))
        finally:
            os.umask(before)
        assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")] == [0o700] * 2

    def test_a_folder_of_ours_that_is_open_is_closed(self, tmp_path):
        folder = tmp_path / "run"
        folder.mkdir()
        folder.chmod(0o755)
        (folder / "s").touch()
        server.prepare_folder(str(folder / "s"))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    def test_a_shared_folder_is_left_as_it_is(self, tmp_path):
        folder = tmp_path / "shared"
        folder.mkdir()
        folder.chmod(0o755)
        (folder / "of another program").touch()
        with pytest.raises(ConfigurationError, match="open to other users"):
            server.prepare_folder(str(folder / "s"))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755

    def test_a_link_is_no_folder(self, tmp_path):
        (tmp_path / "real").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "real")
        with pytest.raises(ConfigurationError, match="is not a folder"):
            server.prepare_folder(str(tmp_path / "link" / "s"))

    @needs_root
    def test_somebody_elses_folder(self, tmp_path):
        os.mkdir(tmp_path / "theirs", 0o700)
        os.chown(tmp_path / "theirs", NOBODY, NOBODY)
        with pytest.raises(ConfigurationError, match=f"belongs to user {NOBODY}"):
            server.prepare_folder(str(tmp_path / "theirs" / "s"))

    @pytest.mark.parametrize("make", [server.check_path, lambda path: LocalTransport(path, 1.0)])
    def test_length(self, make):
        make("/" + "x" * 106)
        with pytest.raises(ConfigurationError, match="108 bytes"):
            make("/" + "é" * 53 + "x")

    def test_an_engine_that_answers_is_not_replaced(self, tmp_path, served, client):
        second = Engine()
        with pytest.raises(ConfigurationError, match="another process answers"):
            Served(tmp_path, second)
        assert second.closed and client.call("echo", n=1)["arguments"] == {"n": 1}

    def test_a_file_that_is_no_socket_is_not_removed(self, tmp_path):
        (tmp_path / "s").write_text("mine")
        tmp_path.chmod(0o700)
        with pytest.raises(ConfigurationError, match="is not a socket"):
            server.listen(tmp_path / "s")
        assert (tmp_path / "s").read_text() == "mine"

    def test_an_engine_that_cannot_start_leaves_no_socket(self, tmp_path):
        def opener(_state):
            raise ConfigurationError("locked by 1")

        path = tmp_path / "run" / "s"
        with pytest.raises(ConfigurationError, match="locked"):
            server.serve(tmp_path, path, ready=lambda: None, stop=threading.Event(), opener=opener)
        assert not path.exists()


AS_NOBODY = f"import os, socket, sys; os.setgid({NOBODY}); os.setuid({NOBODY}); s = socket.socket(socket.AF_UNIX);"


@needs_root
class TestOtherUsers:
    @pytest.fixture
    def folder(self):
        """One that everybody may reach, unlike tmp_path."""
        with tempfile.TemporaryDirectory() as name:
            os.chmod(name, 0o777)
            yield pathlib.Path(name)

    def test_may_not_connect_even_if_the_file_lets_them(self, folder, closing, caplog):
        served = closing(Served(folder))
        served.path.parent.chmod(0o777)
        served.path.chmod(0o777)
        script = AS_NOBODY + "s.connect(sys.argv[1]); sys.exit(len(s.recv(1)))"
        assert subprocess.run([sys.executable, "-c", script, str(served.path)], timeout=TIMEOUT).returncode == 0
        wait_for(lambda: f"Refused a connection of user {NOBODY}" in caplog.text)

    def test_are_told_nothing_if_they_listen_in_the_engines_place(self, folder, closing, monkeypatch, caplog):
        monkeypatch.setattr(LocalTransport, "CONNECT_DEADLINE", 0.2)
        script = AS_NOBODY + (
            "s.bind(sys.argv[1]); s.listen(); print('up', flush=True); c, _ = s.accept(); sys.exit(len(c.recv(1)))"
        )
        command = [sys.executable, "-c", script, str(folder / "s")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as listener:
            assert listener.stdout.readline() == b"up\n"
            client = closing(Client(folder / "s"))
            with pytest.raises(heat.EngineUnavailable):
                client.call("echo")
            assert listener.wait(TIMEOUT) == 0
        assert f"user {NOBODY} listens there" in caplog.text


class TestConnectUnix:
    """The loop's primitive by itself."""

    def test_both_directions_at_once(self, tmp_path, closing):
        path = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            loop = closing(Client(path)).loop
            receiving, sending = loop.run_on_loop(loop.connect_unix, path)
            peer, _ = listener.accept()
        data = os.urandom(3_000_000)
        got, done = [], threading.Event()

        def receive():
            while part := receiving.recv(65_536, wait_first=True):
                got.append(part)
            done.set()

        loop.call_soon_threadsafe(loop.spawn, receive)
        loop.call_soon_threadsafe(loop.spawn, sending.send_all, data)
        with peer:
            peer.settimeout(TIMEOUT)
            peer.sendall(b"while the other direction is full")
            wait_for(lambda: got)
            arrived = b""
            while len(arrived) < len(data):
                arrived += peer.recv(1_000_000)
        assert arrived == data and done.wait(TIMEOUT)
        for stream in (receiving, sending):
            loop.run_on_loop(stream.close)

    def test_nobody_listens(self, tmp_path, closing):
        loop = closing(Client(tmp_path / "s")).loop
        with pytest.raises(FileNotFoundError):
            loop.run_on_loop(loop.connect_unix, str(tmp_path / "s"))
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(tmp_path / "s"))
        with pytest.raises(ConnectionRefusedError):
            loop.run_on_loop(loop.connect_unix, str(tmp_path / "s"))

"""Helper processes: the bytes, then real processes behind a real socket, used from a real loop.

Helpers that must die run in processes of their own; see helper_rig.
"""

import os
import random
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time

import pytest
from helper_rig import Client, Helper, helper_and_client, wait_for

from heatperf import loops
from heatperf.errors import ConfigurationError, Overloaded, heat
from heatperf.helper import frames
from heatperf.helper.client import Failed
from heatperf.helper.frames import Frames, MalformedFrame, beginning
from heatperf.helper.server import serve


@pytest.fixture
def path():
    """Of a socket: short enough, in a folder that does not exist yet."""
    with tempfile.TemporaryDirectory() as folder:
        yield os.path.join(folder, "run", "s")


@pytest.fixture(params=loops.available())
def pair(request, path):
    with helper_and_client(path, request.param) as found:
        yield found


@pytest.fixture
def gevent_pair(path):
    with helper_and_client(path) as found:
        yield found


class TestFrames:
    MESSAGES = [({"id": number, "text": "\ud800"}, bytes([number]) * number * 100) for number in range(20)]

    @pytest.mark.parametrize("seed", range(5))
    def test_however_the_bytes_arrive(self, seed):
        data = b"".join(beginning(head, len(body)) + body for head, body in self.MESSAGES)
        chance = random.Random(seed)
        reader, found = Frames(), []
        while data:
            size = chance.choice([1, 3, 8, 100, 5000])
            found += reader.feed(data[:size])
            data = data[size:]
            assert reader.partial or not data or len(found) > 0
        assert found == self.MESSAGES and not reader.partial

    @pytest.mark.parametrize(
        "data",
        [
            frames.HEADER.pack(frames.MAX_HEAD + 1, 0),
            frames.HEADER.pack(2, frames.MAX_BODY + 1),
            frames.HEADER.pack(2, 0) + b"[]",
            frames.HEADER.pack(2, 0) + b"{}",
            frames.HEADER.pack(2, 0) + b"{x",
            frames.HEADER.pack(9, 0) + b'{"id":""}',
        ],
    )
    def test_what_is_no_frame(self, data):
        with pytest.raises(MalformedFrame):
            list(Frames().feed(data))


class TestTasks:
    def test_bytes_come_back_as_they_are(self, pair):
        _helper, client = pair
        body = os.urandom(3_000_000)
        answer = client.run("echo", body, say="\ud800\u2028")
        assert (answer.head["said"], answer.body) == ("\ud800\u2028", body)
        assert client.run("echo").body == b""

    def test_many_at_once_get_each_its_own(self, pair):
        _helper, client = pair
        begun = [client.begin("echo", b"x" * (n * 10_000), say=n) for n in range(4)]
        assert [each.join().head["said"] for each in begun] == [0, 1, 2, 3]

    @pytest.mark.parametrize(
        ("kind", "error", "text"),
        [
            ("value", ValueError, "no \ud800 good"),
            ("depth", RecursionError, "no \ud800 good"),
            ("limit", heat.RequestLimitExceeded, "Request limit exceeded: no \ud800 good"),
        ],
    )
    def test_refusals_are_raised_as_they_were(self, gevent_pair, kind, error, text):
        with pytest.raises(error) as caught:
            gevent_pair[1].run("refuse", kind=kind, text="no \ud800 good")
        assert type(caught.value) is error and str(caught.value) == text

    @pytest.mark.parametrize("kind", ["memory", "mistake"])
    def test_other_exceptions_do_not_cross_and_tell_nothing(self, gevent_pair, kind):
        with pytest.raises(Failed) as caught:
            gevent_pair[1].run("refuse", kind=kind, text="secret")
        assert "secret" not in str(caught.value)
        assert gevent_pair[1].run("echo").body == b""

    def test_a_task_that_is_not_there(self, gevent_pair):
        with pytest.raises(Failed):
            gevent_pair[1].run("os.system", b"true")


class TestLimits:
    def test_a_full_queue_refuses(self, pair, tmp_path):
        helper, client = pair
        first = client.begin("hold", begun=str(tmp_path / "b"), until=str(tmp_path / "u"))
        wait_for((tmp_path / "b").exists)
        waiting = [client.begin("echo", say=n) for n in range(8)]
        wait_for(lambda: client.all_sent(9))
        (tmp_path / "u").touch()
        outcomes = [each.join() for each in waiting]
        refused = [each for each in outcomes if isinstance(each, Overloaded)]
        assert len(refused) == 4 and all(each.retry_after for each in refused)
        assert [each.head["said"] for each in outcomes if each not in refused] == [
            n for n, each in enumerate(outcomes) if each not in refused
        ]
        assert first.join().head["pid"] == helper.process.pid

    def test_a_worker_sends_no_more_than_so_many(self, gevent_pair, tmp_path, monkeypatch):
        _helper, client = gevent_pair
        client.helpers.MOST_UNDER_WAY = 1
        first = client.begin("hold", begun=str(tmp_path / "b"), until=str(tmp_path / "u"))
        wait_for((tmp_path / "b").exists)
        with pytest.raises(Overloaded):
            client.run("echo")
        (tmp_path / "u").touch()
        first.join()
        client.run("echo")

    def test_nor_more_bytes(self, gevent_pair, tmp_path):
        _helper, client = gevent_pair
        client.helpers.MOST_BYTES = 10
        first = client.begin("hold", b"x" * 20, begun=str(tmp_path / "b"), until=str(tmp_path / "u"))
        wait_for((tmp_path / "b").exists)
        with pytest.raises(Overloaded):
            client.run("echo", b"x")
        (tmp_path / "u").touch()
        first.join()
        assert client.run("echo", b"y" * 20)

    def test_nobody_waits_longer_than_the_deadline_and_what_is_late_is_not_begun(self, pair, tmp_path):
        _helper, client = pair
        first = client.begin("hold", begun=str(tmp_path / "b"), until=str(tmp_path / "u"))
        wait_for((tmp_path / "b").exists)
        with pytest.raises(Overloaded):
            client.run("hold", seconds=0.1, begun=str(tmp_path / "late"), until=str(tmp_path / "u"))
        (tmp_path / "u").touch()
        first.join()
        client.run("echo")
        assert not (tmp_path / "late").exists()


class TestDeaths:
    def respawned(self, helper):
        """A supervisor: starts the helper again whenever it is gone, until the test ends."""

        def watch():
            while not stop.is_set():
                if helper.process.poll() is not None:
                    helper.process.stdout.close()
                    helper.start()
                    started.append(helper.process.pid)
                stop.wait(0.01)

        stop, started = threading.Event(), []
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()

        def end():
            stop.set()
            thread.join()

        return started, end

    def test_a_task_whose_helper_was_killed_is_tried_again(self, pair, tmp_path):
        helper, client = pair
        started, end = self.respawned(helper)
        try:
            first = client.begin("hold", begun=str(tmp_path / "b"), until=str(tmp_path / "u"))
            wait_for((tmp_path / "b").exists)
            others = [client.begin("echo", b"x" * 300_000, say=n) for n in range(3)]
            (tmp_path / "b").unlink()
            helper.process.kill()
            wait_for((tmp_path / "b").exists)  # begun anew
            (tmp_path / "u").touch()
            assert first.join().head["pid"] == wait_for(lambda: started and started[0])
            assert [each.join().head["said"] for each in others] == [0, 1, 2]
        finally:
            end()

    @pytest.mark.parametrize(("deaths", "survives"), [("x", True), ("xx", False), ("xxxxxx", False)])
    def test_a_task_that_kills_is_tried_twice_and_no_more(self, gevent_pair, tmp_path, deaths, survives):
        helper, client = gevent_pair
        (tmp_path / "count").write_text(deaths)
        started, end = self.respawned(helper)
        try:
            outcome = client.begin("die", count=str(tmp_path / "count")).join()
            assert isinstance(outcome, Failed) is not survives
            assert client.run("echo").head["pid"]
        finally:
            end()
        assert len(started) == (1 if survives else 2)

    def test_without_a_helper_there_is_an_honest_answer_soon(self, gevent_pair):
        helper, client = gevent_pair
        client.helpers.CONNECT_DEADLINE = 0.2
        client.run("echo")
        helper.process.kill()
        helper.process.wait()
        began = time.monotonic()
        with pytest.raises(Overloaded) as caught:
            client.run("echo")
        assert time.monotonic() - began < 2 and caught.value.retry_after

    def test_another_helper_does_it(self, path):
        both = [Helper(path), Helper(path + "2")]
        client = Client([each.path for each in both])
        try:
            pids = {client.run("echo").head["pid"] for _ in range(3)}
            [first] = [each for each in both if each.process.pid in pids]
            first.process.kill()
            first.process.wait()
            assert client.run("echo").head["pid"] not in pids
        finally:
            client.close()
            for each in both:
                each.kill()

    def test_two_helpers_share_the_work(self, path, tmp_path):
        both = [Helper(path), Helper(path + "2")]
        client = Client([each.path for each in both])
        try:
            names = {"begun": str(tmp_path / "b"), "until": str(tmp_path / "u")}
            begun = [client.begin("hold", **names), client.begin("hold", **names)]
            wait_for((tmp_path / "b").exists)
            wait_for(lambda: client.all_sent(2))
            (tmp_path / "u").touch()
            assert {each.join().head["pid"] for each in begun} == {each.process.pid for each in both}
        finally:
            client.close()
            for each in both:
                each.kill()

    def test_a_task_without_end_ends_with_its_helper(self, path):
        helper = Helper(path, cpu=0.3)
        client = Client([path])
        client.helpers.CONNECT_DEADLINE = 0.1
        try:
            began = time.monotonic()
            outcome = client.begin("spin").join()
            assert isinstance(outcome, Overloaded)  # this helper has no supervisor
            assert time.monotonic() - began < 10
            assert helper.process.wait(5) < 0
        finally:
            client.close()
            helper.kill()


class TestSocket:
    def test_nobody_else_may_use_it(self, gevent_pair, path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700

    @pytest.mark.skipif(os.geteuid() != 0, reason="another user's process is needed")
    def test_another_user_is_hung_up_on(self, gevent_pair, path):
        os.chmod(os.path.dirname(os.path.dirname(path)), 0o755)
        os.chmod(os.path.dirname(path), 0o755)
        os.chmod(path, 0o666)
        code = (
            "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
            "s.connect(sys.argv[1]); sys.exit(len(s.recv(1)))"
        )
        assert subprocess.run([sys.executable, "-c", code, path], timeout=20, check=False).returncode == 0

    @pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", beginning({"id": 1, "task": "echo"}, 0)])
    def test_a_stranger_to_the_protocol_is_hung_up_on_and_hurts_nobody(self, gevent_pair, path, data):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(10)
            stranger.connect(path)
            stranger.sendall(data)
            assert stranger.recv(100) == b""
        gevent_pair[1].run("echo")

    def test_it_leaves_nothing_behind(self, path):
        code = (
            "import sys, threading; from heatperf.helper.server import serve; stop = threading.Event();"
            "serve(sys.argv[1], {}, ready=stop.set, stop=stop)"
        )
        subprocess.run([sys.executable, "-c", code, path], check=True, timeout=20)
        assert not os.path.exists(os.path.dirname(path))

    def test_a_path_that_is_too_long(self, tmp_path):
        with pytest.raises(ConfigurationError):
            serve(str(tmp_path / ("x" * 200)), {}, ready=lambda: None, stop=threading.Event())

"""What the RPC benchmarks rest on: a responder that finds what it needs without parsing, a load at a constant rate."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

import pytest

from heatperf.context import RequestContext
from heatperf.rpc import envelope
from heatperf.rpc.methods import METHODS

ROOT = pathlib.Path(__file__).parents[2]
BENCH = ROOT / "bench"
sys.path.insert(0, str(BENCH))

import _responder  # noqa: E402
import _rpc  # noqa: E402
import _rpc_data  # noqa: E402

#: What a user may write into a template to look like the envelope.
CUNNING = '"_msg_id": "no", "_reply_q": "no", "limit": 5'


def ours(arguments):
    context = RequestContext(**_rpc_data.CALLER)
    return envelope.encode_call(context, "list_stacks", arguments, "1.33", "m" * 32, "reply_1", "u" * 32)


def stock(arguments):
    message = {"method": "list_stacks", "args": arguments, "version": "1.33", "_context_user": None}
    message |= {"_msg_id": "m" * 32, "_reply_q": "reply_1", "_timeout": None, "_unique_id": "u" * 32}
    return json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(message)}).encode()


@pytest.mark.parametrize("encode", [ours, stock])
@pytest.mark.parametrize("limit", [None, 7])
def test_the_responder_finds_what_it_needs_of_both_clients(encode, limit):
    body = encode({**_rpc_data.SMALL, "limit": limit, "filters": {"name": CUNNING}})
    assert _responder.text_after(body, _responder._METHOD) == b"list_stacks"
    assert _responder.text_after(body, _responder._MSG_ID) == b"m" * 32
    assert _responder.text_after(body, _responder._REPLY_QUEUE) == b"reply_1"
    assert _responder.number_after(body, _responder._LIMIT) == limit


def test_nobody_is_answered_who_does_not_wait():
    body = envelope.encode_cast(RequestContext(**_rpc_data.CALLER), "delete_stack", {}, "1.0", "u" * 32)
    assert _responder.text_after(body, _responder._MSG_ID) is None


@pytest.mark.parametrize(("limit", "rows"), [(None, 1), (3, 3)])
def test_an_answer_of_the_responder_is_one_of_an_engine(limit, rows):
    reply = envelope.decode_reply(_responder.Answers("p").to(b"list_stacks", limit, b"m" * 32))
    assert (reply.msg_id, reply.failure, reply.ending) == ("m" * 32, None, True)
    assert reply.result == [_rpc_data.row("p", number) for number in range(rows)]


@pytest.mark.parametrize("payload", ["small", "big"])
def test_clients_send_what_goes_on_the_wire(payload):
    method, arguments, version = _rpc_data.payload(payload)
    assert METHODS[method].version == version
    assert METHODS[method].arguments.keys() == arguments.keys()


@pytest.mark.parametrize("spread", [True, False])
@pytest.mark.parametrize("size", [1_000, 60_000, 450_000])
def test_templates_have_the_size_they_are_said_to_have(size, spread):
    assert len(json.dumps(_rpc_data.template(size, spread))) == pytest.approx(size, rel=0.2)


class Server:
    """Answers every request on every connection with the same; stands still once."""

    def __init__(self, body=b"ok", close=False, stall_at=None, stall=0.0):
        self.received = 0
        self._answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (
            len(body), b"Connection: close\r\n" if close else b"", body
        )  # fmt: skip
        self._close, self._stall_at, self._stall = close, stall_at, stall
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, client):
        with client, contextlib.suppress(OSError):
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    more = client.recv(65536)
                    if not more:
                        return
                    data += more
                data = data.partition(b"\r\n\r\n")[2]
                with self._lock:  # one at a time, as one worker
                    self.received += 1
                    if self.received == self._stall_at:
                        time.sleep(self._stall)
                client.sendall(self._answer)
                if self._close:
                    return

    def close(self):
        self._listener.close()


@pytest.fixture
def serve():
    with contextlib.ExitStack() as running:

        def start(**how):
            server = Server(**how)
            running.callback(server.close)
            return server

        yield start


def paced(server, folder, answer=b"ok", **how):
    (folder / "request").write_bytes(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    (folder / "answer").write_bytes(answer)
    command = {"port": server.port, "status": 200, "connections": 8, **how}
    command |= {"request": str(folder / "request"), "answer": str(folder / "answer")}
    words = [sys.executable, str(BENCH / "_paced.py")]
    done = subprocess.run(words, input=json.dumps(command), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("close", [False, True])
def test_a_count_is_exact(serve, tmp_path, close):
    server = serve(close=close)
    found = paced(server, tmp_path, count=100)
    assert found["requests"] == server.received == 100


def test_a_server_that_stands_still_is_charged_with_all_it_should_have_got(serve, tmp_path):
    server = serve(stall_at=50, stall=0.5)
    # Closed loops would show one slow request per connection: 8 of 200. Due in that half second were 50.
    found = paced(server, tmp_path, rate=100, seconds=2)
    assert found["requests"] == 200
    assert found["p90_ms"] > 100
    assert found["p50_ms"] < 100
    assert 500 <= found["max_ms"] < 2000


def test_a_wrong_answer_ends_a_run(serve, tmp_path):
    assert "wrong answer" in paced(serve(body=b"no"), tmp_path, count=10)["error"]


def test_connections_are_counted_not_descriptors(serve):
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port)) as one, one.dup():
        assert _rpc.connections_to(server.port, os.getpid()) == 1

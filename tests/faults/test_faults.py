"""A few of ``make faults``, one turn each, the rules themselves, and what must leave no trace."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from _firewall import Firewall, obstacle, tables
from _of_broker import consumer_cancelled, killed
from _requests import Record
from _stage import until
from _verdict import CONNECT, RESPONSE, SLACK, Unmet, judge
from stack import RabbitMQ


@pytest.fixture(scope="module")
def node(launcher, stack_directory):
    """A broker that nobody else needs."""
    part = launcher.start(RabbitMQ(stack_directory / "faulty"))
    yield part
    launcher.stop(part)


@pytest.mark.parametrize("fault", [killed, consumer_cancelled])
def test_fault(fault, node, tmp_path):
    assert fault(tmp_path, node, 1)


BEGAN = 100.0
STRIKE, WELL = 110.0, 120.0


def record(marker="a", status=200, seconds=0.1, began=BEGAN, **more):
    return Record(marker, "show", began, began + seconds, status, **more)


def delivery(marker="a", unique="1", link=1):
    return {"marker": marker, "unique": unique, "link": link, "pid": 1}


def stage(records, deliveries, casts=(), keeps=True, log="", hung=0):
    return SimpleNamespace(
        records=records,
        casts=lambda: list(casts),
        deliveries=lambda: deliveries,
        load=SimpleNamespace(hung=hung),
        keeps=keeps,
        slack=0.0,
        strikes=[[STRIKE, WELL]],
        recoveries=[0.5],
        logs=lambda: {"a log": log},
    )


def failed(status=503, error="EngineUnavailable", retry_after="5", seconds=CONNECT, began=STRIKE + 1, **more):
    return record("b", status, seconds, began, error=error, retry_after=retry_after, **more)


def timed_out(**more):
    return failed(**{"status": 500, "error": "MessagingTimeout", "retry_after": None, "seconds": RESPONSE, **more})


def cast(error=""):
    return record("c", 0 if error else 200, began=STRIKE + 1, error=error)


def test_what_is_allowed():
    line = judge(
        stage(
            [record(), failed(), timed_out()],
            [delivery(), delivery("c", "2"), delivery("c", "2", link=2)],
            [cast(), cast("EngineLost")],
        )
    )
    assert line == (
        "3 requests; 1 503 EngineUnavailable, 1 500 MessagingTimeout; 2 casts (1 EngineLost); 1 delivered again by"
        " the broker; longest wait 6.0 s; recovered in 0.5 s"
    )


def test_without_a_record_of_the_engine_what_clients_see_is_judged():
    assert judge(stage([record(), timed_out()], None)).startswith("2 requests; 1 500 MessagingTimeout; longest wait")
    with pytest.raises(Unmet, match="outlived"):
        judge(stage([record(seconds=RESPONSE + SLACK + 0.1)], None))


@pytest.mark.parametrize(
    "broken, reason",
    [
        (stage([record()], [delivery()], hung=1), "hang"),
        (stage([record(wrong="another's")], [delivery()]), "wrong answers"),
        (stage([record(seconds=RESPONSE + SLACK + 0.1)], [delivery()]), "outlived"),
        (stage([failed(retry_after=None)], []), "without Retry-After"),
        (stage([failed()], [delivery("b")]), "an engine has got"),
        (stage([failed(error="Overloaded")], []), "unknown 503"),
        (stage([timed_out(retry_after="1")], []), "500 with"),
        (stage([timed_out(seconds=RESPONSE - 1)], []), "before their time"),
        (stage([timed_out(error="RemoteError")], []), "unknown 500"),
        (stage([record()], [delivery()], [cast()]), "were lost"),
        (stage([record()], [delivery(), delivery("c")], [cast("EngineUnavailable")]), "refused casts"),
        (stage([record()], [delivery()], [cast("KeyError")]), "unknown error"),
        (stage([record()], [delivery(), delivery(unique="2", link=2)]), "sent twice"),
        (stage([record()], [delivery(), delivery()]), "delivered twice"),
        (stage([record()], []), "without an engine"),
        (stage([failed(began=BEGAN)], []), "nothing was wrong"),
        (stage([timed_out(began=WELL + 0.1)], []), "nothing was wrong"),
        (stage([record()], [delivery()], log="Traceback"), "traceback"),
    ],
)
def test_what_is_not(broken, reason):
    with pytest.raises(Unmet, match=reason):
        judge(broken)


needs_nftables = pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "usable")


@pytest.fixture
def pair():
    """Both ends of a connection, and the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, listener.accept()[0] as server:
            client.settimeout(10)
            yield client, server, port


@needs_nftables
def test_packets_are_dropped_and_come_through_again(pair):
    client, server, port = pair
    with Firewall(port) as firewall:
        firewall.cut()
        server.sendall(b"x")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        with pytest.raises(TimeoutError):
            socket.create_connection(("127.0.0.1", port), 0.3)
        firewall.heal()
        client.settimeout(10)
        assert client.recv(1) == b"x"
        firewall.cut(exempt=[client.getsockname()[1]])
        client.sendall(b"y")
        assert server.recv(1) == b"y"
    assert os.getpid() not in tables()


_CUTTER = """
import sys
sys.path[:0] = [sys.argv[1]]
from _firewall import Firewall
Firewall(int(sys.argv[2])).cut()
print("cut", flush=True)
sys.stdin.read()
"""


@needs_nftables
def test_a_killed_test_leaves_no_rules(pair):
    client, server, port = pair
    here = str(Path(__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", _CUTTER, here, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as cutter:
        assert cutter.stdout.readline() == b"cut\n"
        assert cutter.pid in tables()
        server.sendall(b"x")
        cutter.send_signal(signal.SIGKILL)
    assert client.recv(1) == b"x"
    until(lambda: cutter.pid not in tables(), "the rules are gone")


@needs_nftables
def test_rules_that_nobody_holds_go_with_the_next_test():
    gone = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True).stdout.strip()
    subprocess.run(["nft", "add", "table", "inet", f"heatperf_faults_{gone}"], check=True)
    assert int(gone) in tables()
    with Firewall(1):
        assert int(gone) not in tables()

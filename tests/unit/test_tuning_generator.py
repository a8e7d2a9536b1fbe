"""The load generator against servers that do as they are told."""

import contextlib
import os
import socket
import threading

import pytest

from heatperf.tuning.generator import Generator, LoadError, Request, edge, step

GOOD = (Request("/", 200), Request("/nosuch", 404))
BODIES = {b"/": (b"200 OK", b"hello"), b"/nosuch": (b"404 Not Found", b"x" * 5000)}


def plain(sock, path):
    status, body = BODIES[path]
    sock.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


@contextlib.contextmanager
def server(answer=plain, family=socket.AF_INET, address=("127.0.0.1", 0)):
    """Serve every connection from a thread; yields the address and what was asked for."""
    asked = []
    listener = socket.socket(family)
    listener.bind(address)
    listener.listen()

    def serve(sock):
        with contextlib.closing(sock), contextlib.suppress(OSError):
            data = b""
            while more := sock.recv(4096):
                data += more
                while b"\r\n\r\n" in data:
                    head, _, data = data.partition(b"\r\n\r\n")
                    asked.append(head)
                    answer(sock, head.split(b" ")[1])

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname(), asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_counts_what_was_answered():
    with server() as (address, asked), Generator(address, GOOD, processes=2, connections=5) as load:
        assert len(load.pids) == 2 and all(os.path.exists(f"/proc/{pid}") for pid in load.pids)
        window = load.run(0.2)
        # Every connection has had one answer more, which came too late to count.
        assert window.answers + 5 == len(asked)
        again = load.run(0.2)
        assert again.answers + window.answers + 10 == len(asked)
    assert window.answers > 20 and 0.2 <= window.seconds < 1.0
    assert sum(window.latencies.values()) == window.answers
    assert 0 < window.latency(0.5) <= window.latency(0.99) < 1e6
    assert 0 < window.cpu < 2 * window.seconds and 0 < window.busiest <= 1.05
    assert {head.split(b" ")[1] for head in asked} == set(BODIES)
    assert asked[0].split(b"\r\n")[1:] == [b"Host: 127.0.0.1", b"Accept: application/json"]


def test_answers_in_pieces_and_over_a_unix_socket(tmp_path):
    def slowly(sock, path):
        status, body = BODIES[path]
        for piece in (b"HTTP/1.1 ", status, b"\r\nA: b\r\ncontent-length:%d" % len(body), b"\r\n\r\n", body):
            sock.sendall(piece)

    path = str(tmp_path / "socket")
    with server(slowly, socket.AF_UNIX, path) as (_, asked), Generator(path, GOOD, connections=2) as load:
        window = load.run(0.2)
        assert window.answers + 2 == len(asked) and window.answers > 10


def wrong(sock, path):
    sock.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")


def endless(sock, path):
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")


def short(sock, path):
    sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (wrong, "the answer was 'HTTP/1.1 503 Service Unavailable' where HTTP/1.1"),
        (endless, "no Content-Length"),
        (short, "closed a connection"),
    ],
)
def test_wrong_answers_end_it(answer, words):
    with (
        server(answer) as (address, _),
        Generator(address, GOOD, connections=1) as load,
        pytest.raises(LoadError, match=words),
    ):
        load.run(0.2)


def test_nobody_listens():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(LoadError, match="refused"):
            Generator(unused.getsockname(), GOOD)


def test_no_process_is_left():
    with server() as (address, _):
        load = Generator(address, GOOD, processes=2)
        pids = load.pids
        load.close()
        assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def test_it_runs_where_it_is_told():
    cpu = max(os.sched_getaffinity(0))
    with server() as (address, _), Generator(address, GOOD, cpus=[cpu]) as load:
        assert os.sched_getaffinity(load.pids[0]) == {cpu}


def test_steps_of_the_histogram_are_three_percent_and_leave_no_gap():
    last = -1
    for value in [*range(5000), 10**6, 10**6 + 1, 10**8]:
        number = step(value)
        assert number >= last and value <= edge(number) <= value * (1 + 1 / 32) + 1
        last = number
    assert all(step(edge(number)) == number and step(edge(number) + 1) == number + 1 for number in range(400))

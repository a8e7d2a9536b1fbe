"""The scoreboard across real forks and execs: what a worker writes, the supervisor reads, also of a dead or mad one."""

import os
import signal
import subprocess
import sys
import time

import pytest

from heatperf.errors import ConfigurationError
from heatperf.server import scoreboard
from heatperf.server.scoreboard import LINE_BYTES, Scoreboard, State


@pytest.fixture
def board():
    made = Scoreboard.create(seats=8)
    yield made
    made.close()


def in_child(function):
    """Run in a forked process; its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def test_a_new_seat_is_empty(board):
    seen = board.seat(7).read()
    assert (seen.state, seen.heartbeat, seen.requests, seen.begun, seen.in_flight) == (State.EMPTY, 0, 0, 0, 0)
    assert (seen.oldest_began, seen.oldest_line, seen.latest_began, seen.latest_line) == (0.0, "", 0.0, "")


def test_what_a_killed_worker_did_is_read_after_its_death(board):
    """As the supervisor does: the worker dies in the middle of a request, without a chance to say anything."""

    def worker():
        seat = board.seat(2)
        seat.state = State.SERVING
        seat.began(b"GET /v1/p/stacks")
        seat.ended()
        seat.began(b"POST /v1/p/stacks")
        seat.beat(1, 5.5, b"POST /v1/p/stacks")
        seat.began(b"DELETE /v1/p/stacks/s/1")
        os.kill(os.getpid(), signal.SIGKILL)

    before, before_ns = time.monotonic(), time.monotonic_ns()
    assert in_child(worker) == signal.SIGKILL
    seen = board.seat(2).read()
    assert seen.state is State.SERVING
    assert (seen.requests, seen.begun, seen.in_flight) == (1, 3, 1)
    assert (seen.oldest_began, seen.oldest_line) == (5.5, "POST /v1/p/stacks")
    assert seen.latest_line == "DELETE /v1/p/stacks/s/1"
    assert before_ns <= seen.heartbeat <= time.monotonic_ns()
    assert before <= seen.latest_began <= time.monotonic()


def test_only_beats_move_the_heartbeat(board):
    seat = board.seat(0)
    seat.state = State.SERVING
    seat.began(b"GET /")
    seat.ended()
    assert seat.read().heartbeat == 0
    seat.beat(0, 0.0, b"")
    first = seat.read().heartbeat
    seat.began(b"GET /")
    seat.state = State.DRAINING
    assert seat.read().heartbeat == first > 0
    seat.beat(0, 0.0, b"")
    assert seat.read().heartbeat > first


def test_seats_do_not_touch_each_other(board):
    """Filled to the brim and then cleared, a seat leaves its neighbours as they were."""
    long = b"GET /" + b"x" * 5000
    seats = [board.seat(index) for index in range(8)]
    for number, seat in enumerate(seats):
        seat.state = State.READY
        seat.beat(number, float(number), b"oldest %d" % number)
        seat.began(b"latest %d" % number)
    full = seats[3]
    full.beat(2**64 - 1, 1e300, long)
    full.began(long)
    assert full.read().latest_line == full.read().oldest_line == long[:LINE_BYTES].decode()
    for number in (0, 1, 2, 4, 5, 6, 7):
        seen = board.seat(number).read()
        assert (seen.in_flight, seen.oldest_line, seen.latest_line) == (number, f"oldest {number}", f"latest {number}")
    full.clear()
    assert full.read() == board.seat(3).read() and full.read().begun == full.read().in_flight == 0
    assert [seat.read().state for seat in seats].count(State.READY) == 7


def test_the_successor_of_a_worker_counts_from_zero(board):
    """The supervisor's own Seat object outlives several workers."""
    kept = board.seat(1)

    def worker():
        seat = board.seat(1)
        for _ in range(3):
            seat.began(b"GET /")
            seat.ended()

    for _ in range(2):
        assert in_child(worker) == 0
        assert (kept.read().requests, kept.read().begun) == (3, 3)
        kept.clear()
    assert kept.read().requests == 0


def test_a_shorter_line_leaves_nothing_of_the_longer(board):
    seat = board.seat(0)
    seat.began(b"DELETE /v1/project/stacks/a-long-name")
    seat.began(b"GET /")
    assert seat.read().latest_line == "GET /"


def test_what_clients_choose_cannot_move_a_terminal_or_forge_a_line(board):
    seat = board.seat(0)
    seat.beat(1, 1.0, b'GET /\x1b[2J\r\n"\xc3\xa9')
    assert seat.read().oldest_line == r"GET /\x1b[2J\x0d\x0a\x22\xc3\xa9"


def test_a_number_that_is_no_state_does_not_stop_the_supervisor(board):
    seat = board.seat(0)
    seat.state = 77
    assert seat.read().state is State.EMPTY is seat.state


def test_reading_beside_a_writer(board):
    """Lines and their counts belong together as long as the writer lets the reader look twice."""
    ready, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        seat = board.seat(0)
        os.write(go, b"x")
        while True:
            for line in (b"GET /" + b"a" * 400, b"PUT /" + b"b" * 400):
                seat.began(line)
                seat.ended()
    try:
        os.read(ready, 1)
        counts, whole = [], 0
        for _ in range(2000):
            seen = board.seat(0).read()
            counts.append(seen.requests)
            whole += seen.latest_line in ("GET /" + "a" * 400, "PUT /" + "b" * 400)
            assert set(seen.latest_line) <= set("GETPUT /ab")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(go)
    assert counts == sorted(counts) and counts[-1] > counts[0]
    assert whole > 100  # the writer here never rests; a worker writes twice in a millisecond
    # It died anywhere, perhaps in the middle of a write: reading goes on.
    assert board.seat(0).read().requests >= counts[-1]


ZYGOTE = """
import os, sys
from heatperf.server.scoreboard import Scoreboard, State
board = Scoreboard.attach(int(sys.argv[1]))
assert not os.get_inheritable(board.fd)
if os.fork() == 0:
    seat = board.seat(5)
    seat.state = State.READY
    seat.began(b"GET /from/the/grandchild")
    os._exit(0)
assert os.wait()[1] == 0
"""


def test_through_exec_and_fork(board):
    assert not os.get_inheritable(board.fd)
    subprocess.run([sys.executable, "-c", ZYGOTE, str(board.fd)], check=True, pass_fds=[board.fd], timeout=20)
    seen = board.seat(5).read()
    assert (seen.state, seen.latest_line) == (State.READY, "GET /from/the/grandchild")


def test_an_upgraded_zygote_refuses_the_old_supervisors_board(board, monkeypatch):
    monkeypatch.setattr(scoreboard, "LAYOUT", scoreboard.LAYOUT + 1)
    with pytest.raises(ConfigurationError, match="restart it"):
        Scoreboard.attach(board.fd)
    assert os.fstat(board.fd).st_size  # still the caller's


def test_what_is_no_scoreboard_is_refused(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"x" * 9000)
    for name in (str(other), os.devnull):
        fd = os.open(name, os.O_RDWR)
        with pytest.raises(ConfigurationError, match="not a scoreboard"):
            Scoreboard.attach(fd)
        os.close(fd)
    with pytest.raises(ConfigurationError, match="not a scoreboard"):
        Scoreboard.attach(fd)


def test_it_cannot_be_cut_under_its_users(board):
    """A truncated mapping would end everybody who looks with SIGBUS."""
    with pytest.raises(PermissionError):
        os.ftruncate(board.fd, 0)


def test_seats_that_do_not_exist(board):
    for index in (-1, 8):
        with pytest.raises(IndexError):
            board.seat(index)
    with pytest.raises(ValueError):
        Scoreboard.create(0)


def test_memory_is_taken_by_use():
    board = Scoreboard.create(seats=10_000)
    try:
        taken = os.fstat(board.fd).st_blocks
        board.seat(9_999).state = State.READY
        assert os.fstat(board.fd).st_blocks - taken <= 8  # one page, in blocks of 512 bytes
        assert taken <= 8
    finally:
        board.close()


def test_close_gives_everything_back(board):
    descriptors = len(os.listdir("/proc/self/fd"))
    other = Scoreboard.create(seats=1)
    seat = other.seat(0)
    other.close()
    other.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    with pytest.raises((TypeError, ValueError)):
        seat.began(b"GET /")
    with pytest.raises(ValueError):
        seat.read()

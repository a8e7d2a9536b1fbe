"""What each worker is doing now, in memory that the supervisor can read while the worker hangs.

Comes in: a worker's beats and the first line of each request it begins. Goes out: a Snapshot of any seat, for the
status, the watchdog and the report on a stuck worker. Raises ConfigurationError when no shared memory is to be had, or
when it was made by another version of heatperf. The supervisor creates it, zygotes attach to its descriptor, workers
inherit it through the fork; each on its main thread.

No locks: a seat has one writer, its worker, and a writer that dies or is stopped must never hold up the reader. The
numbers are aligned words, which the processor writes whole. The texts may be caught half written, so a reader looks
until it has seen the same bytes twice.

Tokens must not get here: the writer is given the method and the path of a request, never its query or headers.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import time
from dataclasses import dataclass
from enum import IntEnum

from heatperf.errors import ConfigurationError
from heatperf.loops.access_log import escape

MAGIC = b"heatperf"
# An upgrade replaces the files under a running supervisor, and the next zygote comes from the new ones: raise this
# number with every change below, so that it refuses instead of writing into the wrong words.
LAYOUT = 1
HEADER = struct.Struct("@8sQQ")  # magic, layout, seats; it has a record of its own, before the seats

SEAT_BYTES = 1024
LINE_BYTES = 480
# Words of a seat, in order; then two groups that are written in one go, each ending in its line. Native format: only
# there is a number copied as a whole.
STATE, HEARTBEAT, REQUESTS, IN_FLIGHT = range(4)
WORDS = 4
OLDEST = struct.Struct(f"@d{LINE_BYTES}s")
LATEST = struct.Struct(f"@Qd{LINE_BYTES}s")
OLDEST_AT = 8 * WORDS
LATEST_AT = OLDEST_AT + OLDEST.size
SEAT = struct.Struct(f"@{WORDS}Q")

READ_ATTEMPTS = 10
MFD_NOEXEC_SEAL = 0x0008  # linux/memfd.h, since 6.3; implies MFD_ALLOW_SEALING
monotonic = time.monotonic
monotonic_ns = time.monotonic_ns


class State(IntEnum):
    """How far the worker in a seat has come."""

    EMPTY = 0
    BOOTING = 1
    READY = 2
    SERVING = 3
    DRAINING = 4


@dataclass(frozen=True)
class Snapshot:
    """A seat at one moment. Moments are seconds of time.monotonic(), 0.0 where there is none."""

    state: State
    #: nanoseconds of time.monotonic_ns() at the last beat, 0 before the first
    heartbeat: int
    #: answered since the seat was cleared
    requests: int
    #: given to the application since the seat was cleared; the difference to ``requests`` is in flight right now,
    #: also where the worker is stuck and does not beat
    begun: int
    #: these three are of the last beat
    in_flight: int
    oldest_began: float
    oldest_line: str
    #: the request that began last, which may be over
    latest_began: float
    latest_line: str


class Seat:
    """One worker's record. Its worker writes, the supervisor reads and clears.

    ``began`` and ``ended`` run once per request: together about 0.2 microseconds.
    """

    __slots__ = ("_memory", "_words", "_start", "_state", "_heartbeat", "_requests", "_in_flight", "_oldest", "_latest",
                 "_begun", "_ended")  # fmt: skip

    def __init__(self, memory: memoryview, words: memoryview, start: int) -> None:
        """
        :param memory: all of it, as bytes
        :param words: the same as unsigned 64-bit numbers
        :param start: where the seat is, in bytes
        """
        self._memory = memory
        self._words = words
        self._start = start
        word = start // 8
        self._state = word + STATE
        self._heartbeat = word + HEARTBEAT
        self._requests = word + REQUESTS
        self._in_flight = word + IN_FLIGHT
        self._oldest = start + OLDEST_AT
        self._latest = start + LATEST_AT
        self._begun: int = LATEST.unpack_from(memory, self._latest)[0]
        self._ended: int = words[self._requests]

    # Worker

    @property
    def state(self) -> State:
        """How far the worker has come; EMPTY also for a number that means nothing."""
        return _state(self._words[self._state])

    @state.setter
    def state(self, state: State) -> None:
        self._words[self._state] = state

    def began(self, line: bytes) -> None:
        """A request goes to the application.

        :param line: method, a space, and the path without its query; cut at LINE_BYTES
        """
        self._begun = begun = self._begun + 1
        LATEST.pack_into(self._memory, self._latest, begun, monotonic(), line)

    def ended(self) -> None:
        """A request that began has its answer, or nobody waits for it any more."""
        self._ended = ended = self._ended + 1
        self._words[self._requests] = ended

    def beat(self, in_flight: int, oldest_began: float, oldest_line: bytes) -> None:
        """The loop is alive. Only a timer of the serving loop may call this.

        :param in_flight: requests that the application has not answered yet
        :param oldest_began: when the one that began first did so, seconds of time.monotonic(); 0.0 without any
        :param oldest_line: as for ``began``; b"" without any
        """
        self._words[self._in_flight] = in_flight
        OLDEST.pack_into(self._memory, self._oldest, oldest_began, oldest_line)
        self._words[self._heartbeat] = monotonic_ns()

    # Supervisor

    def read(self) -> Snapshot:
        """The seat as it is now; never waits for the writer."""
        start, memory = self._start, self._memory
        record = bytes(memory[start : start + SEAT_BYTES])
        for _ in range(READ_ATTEMPTS):
            before, record = record, bytes(memory[start : start + SEAT_BYTES])
            if record == before:
                break
        state, heartbeat, requests, in_flight = SEAT.unpack_from(record)
        oldest_began, oldest_line = OLDEST.unpack_from(record, OLDEST_AT)
        begun, latest_began, latest_line = LATEST.unpack_from(record, LATEST_AT)
        return Snapshot(
            _state(state), heartbeat, requests, begun,
            in_flight, oldest_began, _text(oldest_line), latest_began, _text(latest_line),
        )  # fmt: skip

    def clear(self) -> None:
        """Forget the worker that sat here. Only when it is gone, and before the next one is forked."""
        self._memory[self._start : self._start + SEAT_BYTES] = bytes(SEAT_BYTES)
        self._begun = self._ended = 0


class Scoreboard:
    """All seats: shared memory without a name, which the kernel frees with its last user.

    Memory is taken as seats are used, four to a page, so there may be many more than workers.

    :ivar fd: descriptor to pass to a zygote; not inheritable unless the caller passes it on
    :ivar seats: how many there are
    """

    def __init__(self, fd: int, seats: int) -> None:
        """Use create or attach."""
        self.fd = fd
        self.seats = seats
        self._map = mmap.mmap(fd, (seats + 1) * SEAT_BYTES)
        self._memory = memoryview(self._map)
        self._words = self._memory.cast("Q")

    @classmethod
    def create(cls, seats: int) -> Scoreboard:
        """A new one, all seats empty. Supervisor only.

        :param seats: at least 1
        :raises ConfigurationError: the kernel gives no shared memory
        """
        if seats < 1:
            raise ValueError(f"a scoreboard of {seats} seats")
        fd = -1
        try:
            fd = _memfd()
            os.ftruncate(fd, (seats + 1) * SEAT_BYTES)
            # Whoever could shrink it would kill all others with SIGBUS.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            board = cls(fd, seats)
        except OSError as exc:
            if fd >= 0:
                os.close(fd)
            raise ConfigurationError(
                f"Cannot create shared memory for the scoreboard: {exc}",
                remedy="memfd_create(2) must be allowed, and the memory limit must leave room",
            ) from None
        HEADER.pack_into(board._memory, 0, MAGIC, LAYOUT, seats)
        return board

    @classmethod
    def attach(cls, fd: int) -> Scoreboard:
        """The one behind a descriptor that was passed on, which belongs to the scoreboard from now on.

        :raises ConfigurationError: it is no scoreboard, or one of another version of heatperf; the descriptor stays
        """
        try:
            magic, layout, seats = HEADER.unpack(os.pread(fd, HEADER.size, 0))
            size = os.fstat(fd).st_size
        except (OSError, struct.error):
            raise ConfigurationError(f"Descriptor {fd} is not a scoreboard") from None
        if magic != MAGIC:
            raise ConfigurationError(f"Descriptor {fd} is not a scoreboard")
        if layout != LAYOUT or size != (seats + 1) * SEAT_BYTES:
            raise ConfigurationError(
                "The running supervisor is of another version of heatperf", remedy="restart it instead of reloading"
            )
        os.set_inheritable(fd, False)
        return cls(fd, seats)

    def seat(self, index: int) -> Seat:
        """
        :param index: 0 to seats - 1
        :raises IndexError: there is no such seat
        """
        if not 0 <= index < self.seats:
            raise IndexError(f"seat {index} of {self.seats}")
        return Seat(self._memory, self._words, (index + 1) * SEAT_BYTES)

    def close(self) -> None:
        """Let go of memory and descriptor in this process; its seats are of no use then. Twice is fine."""
        if self.fd < 0:
            return
        self._words.release()
        self._memory.release()
        self._map.close()
        os.close(self.fd)
        self.fd = -1


def _memfd() -> int:
    name = "heatperf-scoreboard"
    # With sysctl vm.memfd_noexec=2 the kernel insists on the flag; before 6.3 it does not know it.
    with contextlib.suppress(OSError):
        return os.memfd_create(name, os.MFD_CLOEXEC | MFD_NOEXEC_SEAL)
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _state(number: int) -> State:
    try:
        return State(number)
    except ValueError:
        return State.EMPTY


def _text(line: bytes) -> str:
    """Printable and free of quotes: clients choose what is in it, and operators read it in a terminal."""
    return escape(line.partition(b"\0")[0].decode("latin-1"))

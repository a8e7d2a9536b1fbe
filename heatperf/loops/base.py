"""The interface between a worker and the thing it waits on, and the limits of the HTTP layer.

Nothing here imports a loop: the supervisor reads HttpLimits before any loop exists. Everything else in heatperf that
must wait does it through these Protocols, so that one test suite runs on every loop. "Loop thread" is the worker's
main thread; "greenlet" is whatever the loop parks. A function that "must not park" runs inside the loop itself.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from socket import socket
from typing import Any, Protocol

INFINITE = float("inf")


@dataclass(frozen=True)
class HttpLimits:
    """What a client may make a worker hold, and for how long. Sizes in bytes, times in seconds."""

    # Upstream's eventlet_opts let a request line grow with max_header_line; uWSGI behind stock Heat runs with 64 KiB
    # for the whole head. 50 000 leaves room for the longest ?filters= lists seen and still bounds the buffer.
    max_request_line: int = 50_000
    # heat.conf [heat_api] max_header_line: 16384, raised there for tokens with large catalogs.
    max_header_line: int = 16_384
    # Four of the largest lines: a user token and a service token of PKI size, and ordinary headers beside them.
    max_header_bytes: int = 65_536
    # nginx and Apache stop at 100; a proxy chain adds a dozen.
    max_headers: int = 200
    # A body up to this many bytes is buffered before the application runs. Heat refuses JSON above
    # max_json_body_size (1 MiB), so a little more lets Heat itself say so.
    max_body: int = 1_114_112
    # From the first byte of a head to its last: Apache's RequestReadTimeout grants 20 to 40 seconds.
    header_deadline: float = 30.0
    # From the end of the head to the end of the body: 1 MiB at 20 kB/s.
    body_deadline: float = 60.0
    # Without any progress of the client reading its answer; a dead peer must not keep a large answer in memory.
    send_timeout: float = 60.0
    # heat.conf [eventlet_opts] client_socket_timeout: 900. Also the wait for the first byte.
    idle_timeout: float = 900.0
    # How long the rest of a refused body is read and thrown away so that the client gets to see the answer;
    # closing earlier sends a reset that destroys it in flight (RFC 9112 9.6). nginx: lingering_timeout 5 s.
    linger_timeout: float = 5.0
    # heat.conf [eventlet_opts] wsgi_keep_alive.
    keep_alive: bool = True


class Interrupted(Exception):
    """A parked ``Stream.recv`` was told to give up because the worker drains."""


class Observer(Protocol):
    """Is told of every request that reaches the application. Loop thread, on the hot path: it must be quick, must not
    park and must not raise."""

    def began(self, line: bytes) -> None:
        """The application is about to be called.

        :param line: method, a space, and the path without query or authority, as the client wrote them
        """

    def ended(self) -> None:
        """A request that began is over: answered, or given up because the client has gone. Not in order."""


class Handle(Protocol):
    """Something that will happen, unless it is cancelled. Loop thread only."""

    def cancel(self) -> None:
        """Undo a ``call_later`` or ``on_readable`` that has not run, or end an ``every``; later calls do nothing."""


class Waiter(Protocol):
    """One greenlet waits, one party wakes it."""

    def wait(self, timeout: float | None = None) -> Any:
        """Park the calling greenlet.

        :param timeout: seconds, None for ever
        :returns: what ``wake`` was given
        :raises TimeoutError: nothing came in time; a later wake is ignored
        :raises Exception: what ``throw`` was given
        """

    def wake(self, value: Any = None) -> None:
        """End the wait, from any thread. Only the first wake or throw counts."""

    def throw(self, error: BaseException) -> None:
        """End the wait with an exception, from any thread."""


class Pool(Protocol):
    """Native threads for calls that block, with a bounded queue."""

    name: str
    threads: int
    queue_limit: int

    def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run in a native thread under a copy of the caller's contextvars; the calling greenlet parks.

        :returns: what the function returns
        :raises Overloaded: all threads busy and the queue full
        :raises Exception: what the function raises
        """

    def run_within(self, seconds: float, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As run, but wait at most ``seconds``. A call still in the queue then never starts; one that runs keeps its
        thread until it ends.

        :raises DeadlineExceeded: it was not over in time
        """

    def stop(self) -> None:
        """Let the threads end once the queue is empty."""


class Stream(Protocol):
    """One accepted connection as the HTTP layer sees it. Used on the loop thread only.

    ``deadline`` is a moment of time.monotonic(): a recv still parked then raises TimeoutError (within a quarter of a
    second). A send gives up after ``send_timeout`` seconds without progress.
    """

    deadline: float
    send_timeout: float
    peer: tuple[str, str]
    local: tuple[str, str]
    scheme: str

    @property
    def buffered(self) -> bool:
        """Whether there may be bytes that recv gives without waiting, whatever it is told."""

    def start(self) -> None:
        """Do what must precede the first byte (TLS handshake), under ``deadline``."""

    def recv(self, size: int, wait_first: bool = False) -> bytes:
        """Bytes from the client, b"" at its end.

        :param wait_first: expect nothing to be there yet, so do not waste a system call on looking
        :raises OSError, TimeoutError, Interrupted:
        """

    def recv_ready(self, size: int) -> bytes:
        """Bytes that have already arrived, b"" if none; never parks."""

    def send_all(self, data: bytes) -> None:
        """Hand all of it to the kernel, parking while its buffer is full.

        :raises OSError: the client is gone; TimeoutError: no progress for ``send_timeout`` seconds
        """

    def shutdown_write(self) -> None:
        """Tell the client that no more comes (FIN, with TLS close_notify before); recv goes on working.

        :raises OSError: with TLS, where close_notify cannot be sent
        """

    def close(self) -> None:
        """Give the descriptor back; later calls do nothing. The kernel still sends what it has."""

    def interrupt(self) -> None:
        """Make a parked recv raise Interrupted."""


Handler = Callable[[Stream], None]


class Loop(Protocol):
    """One per worker, made after the fork on the thread that runs it."""

    name: str

    def spawn(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """Start a greenlet with a copy of the caller's contextvars; an exception that escapes it is logged."""

    def spawn_apart(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """As spawn, without the caller's contextvars, a token among them: for what outlives the request it serves
        first."""

    def call_soon_threadsafe(self, function: Callable[..., Any], /, *args: Any) -> None:
        """From any thread: run inside the loop soon. The function must not park."""

    def call_later(self, seconds: float, function: Callable[..., Any], /, *args: Any) -> Handle:
        """Run in a greenlet of its own after a while."""

    def every(self, seconds: float, function: Callable[[], Any]) -> Handle:
        """Run inside the loop again and again, the first time after one interval. The function must not park.

        Turns that a busy loop missed are not made up for. An exception is logged and ends nothing.

        :param seconds: the interval, above 0
        """

    def waiter(self) -> Waiter:
        """A new Waiter for one wait of one greenlet of this loop."""

    def sleep(self, seconds: float) -> None:
        """Park the calling greenlet; 0 lets others run once."""

    def pool(self, name: str, threads: int, queue_limit: int) -> Pool:
        """A new Pool, stopped when the loop stops. No thread exists before its first call.

        :param name: for thread names and for the message of Overloaded
        :param threads: most calls running at once, at least 1
        :param queue_limit: calls that may wait beyond those
        """

    def run_on_loop(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """From a native thread: run in a new greenlet under a copy of the caller's contextvars; blocks that thread.

        :returns: what the function returns
        :raises RuntimeError: called on the loop thread, which would wait for itself
        :raises BaseException: what the function raises
        """

    def in_loop_thread(self) -> bool:
        """Whether the caller is on the thread that made the loop; from any thread."""

    def on_signal(self, signum: int, callback: Callable[[], Any]) -> None:
        """Run callback in a greenlet when the signal arrives; the handler itself only writes a byte."""

    def on_readable(self, fd: int, callback: Callable[[], Any]) -> Handle:
        """Run callback in a greenlet, once, when the descriptor is readable or at its end."""

    def serve(self, listener: socket, handler: Handler, ssl_context: ssl.SSLContext | None = None) -> None:
        """Accept from now on; handler runs in a greenlet per connection and must close the stream.

        Whatever goes wrong while accepting pauses the listener for a moment and is logged; it never ends it.
        """

    def connect_unix(self, path: str) -> tuple[Stream, Stream]:
        """Connect to a unix socket of this host, without parking.

        :returns: one Stream to receive and one to send, each for one greenlet at a time; both must be closed
        :raises OSError: nobody listens there, or its queue is full; PermissionError: the listener is neither this
            process's user nor root, so it must not be told anything
        """

    def connect_tcp(
        self, host: str, port: int, seconds: float, context: ssl.SSLContext | None, server_name: str
    ) -> tuple[Any, Any]:
        """Connect to a host, parking; names are looked up in a native thread.

        :param seconds: for all of it
        :param context: for TLS, None for plain TCP
        :param server_name: that the peer's certificate must have, where ``context`` checks names
        :returns: one stream to receive and one to send, each for one greenlet at a time; both must be closed. They have
            of Stream what their direction needs: recv, send_all, send_timeout, shutdown_write, interrupt, close
        :raises OSError: it cannot be had; TimeoutError and ssl.SSLError among them
        """

    def stop_accepting(self) -> None:
        """Take what the kernel has already queued, then close the listeners (this process's copies).

        Without free descriptors the rest of the queue is taken as connections close; see ``accepting_rest``.
        """

    @property
    def accepting_rest(self) -> bool:
        """Whether ``stop_accepting`` still waits for descriptors to take what the kernel has queued."""

    def run(self) -> None:
        """Block until ``stop``, then stop the pools; connections that are open stay as they are. Call it once."""

    def stop(self) -> None:
        """Make ``run`` return soon; loop thread, from any greenlet. Before ``run`` it returns at once."""

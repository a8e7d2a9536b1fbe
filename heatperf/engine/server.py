"""The engine process: a unix socket in front of Engine.dispatch.

In: frames with RPC requests from the workers of this host. Out: frames with results, or with failures in
oslo.messaging's shape. Raised at start: ConfigurationError. Reading order: failures, native threads, connections,
``serve``; see frames for the bytes and heatperf.socketfile for the file.

One thread does all socket I/O, so a worker that stops reading holds up nobody; a bounded pool of threads runs the
requests; the main thread waits for the order to stop. Requests carry tokens and passwords: nothing of them is logged.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import selectors
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol

from heatperf.engine.frames import MAX_FRAME, PROTOCOL, Frames, FrameTooLarge, MalformedFrame, encode_frame
from heatperf.errors import heat
from heatperf.outbox import Outbox
from heatperf.socketfile import check_path, listen, peer_uid, prepare_folder, remove_own

LOG = logging.getLogger("heatperf.engine")

THREADS = 64
QUEUE_LIMIT = 1024
MAX_CONNECTIONS = 256
RECEIVE = 262_144
# How long serve waits, after the order to stop, for requests under way; then for clients to take their answers; then,
# DRAIN again, for operations on stacks. All of it is less than the supervisor grants (server/side.py: STOP_DEADLINE).
DRAIN = 4.0
LINGER = 1.0
HEAT_MODULE = "heat.common.exception"


class Dispatcher(Protocol):
    """What this module needs of service.Engine."""

    def dispatch(self, context: dict[str, Any], method: str, arguments: dict[str, Any], version: str) -> Any: ...

    def close(self, timeout: float) -> Any: ...


#: What a request holds beside its id, and perhaps "cast". ttl: seconds its caller waits.
_REQUEST: dict[str, Any] = {"method": str, "version": str, "context": dict, "args": dict, "ttl": (int, float)}

# Failures


def failure_of(error: BaseException) -> dict[str, Any]:
    """Describe an exception as oslo.messaging does, for rpc/remote.py to rebuild.

    Classes of errors/heat.py travel under upstream's module name; everything else under its own.
    """
    kind = type(error)
    return {
        "class": kind.__name__,
        "module": HEAT_MODULE if _of_the_api(kind) else kind.__module__,
        "message": str(error),
        "tb": traceback.format_exception(error),
        "args": list(error.args),
        "kwargs": getattr(error, "kwargs", {}),
    }


def _of_the_api(kind: type[BaseException]) -> bool:
    return heat.BY_NAME.get(kind.__name__) is kind


class Threads:
    """A pool of at most ``most`` threads, with at most ``queue_limit`` jobs waiting beyond those that run.

    The threads are daemons: a request that hangs must not keep a stopped engine alive.
    """

    def __init__(self, most: int, queue_limit: int) -> None:
        self._most = most
        self._limit = most + queue_limit
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Condition()
        self._outstanding = 0
        self._made = 0

    def submit(self, job: Callable[[], None]) -> bool:
        """Have the job run; False where too many are waiting already. One thread only may call this."""
        with self._idle:
            if self._outstanding >= self._limit:
                return False
            self._outstanding += 1
            more = self._made < min(self._outstanding, self._most)
        if more:
            self._made += 1
            threading.Thread(target=self._work, name=f"rpc-{self._made}", daemon=True).start()
        self._jobs.put(job)
        return True

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException:
                LOG.exception("A request ended in an error that could not be sent")
            del job  # an idle thread must not keep a token alive
            with self._idle:
                self._outstanding -= 1
                self._idle.notify_all()

    def drain(self, seconds: float) -> bool:
        """Wait for all jobs; whether they ended in time."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._outstanding, seconds)

    def stop(self) -> None:
        for _ in range(self._made):
            self._jobs.put(None)


# Connections


class Connection:
    """One worker's connection. Used by the I/O thread only, as far as nothing else is said."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.frames = Frames()
        self.unsent = Outbox()
        self.open = True


class Server:
    """Carries requests from connections to the engine, and answers back.

    :param threads: requests that run at once
    :param queue_limit: requests that may wait; those beyond are refused
    """

    def __init__(self, engine: Dispatcher, *, threads: int = THREADS, queue_limit: int = QUEUE_LIMIT) -> None:
        self._engine = engine
        self._threads = Threads(threads, queue_limit)
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        self._answers: deque[tuple[Connection, bytes]] = deque()  # filled by any thread
        self._wake_in, self._wake_out = socket.socketpair()
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        self._refusing = False
        self._leave_at: float | None = None
        self._broken: BaseException | None = None

    def run(
        self, listener: socket.socket, ready: Callable[[], None], stop: threading.Event, drain: float = DRAIN
    ) -> None:
        """Serve until ``stop`` is set. The socket file is removed, and requests under way get ``drain`` seconds.

        :raises BaseException: what broke the I/O thread, which also sets ``stop``
        """
        own = os.stat(listener.getsockname())
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        inout = threading.Thread(target=self._io, args=(listener, stop), name="engine-io", daemon=True)
        inout.start()
        ready()
        stop.wait()
        # Gone before anything else, so that workers wait for our successor instead of knocking here.
        remove_own(listener.getsockname(), own)
        self._refusing = True
        self._wake()
        if not self._threads.drain(drain):
            LOG.warning("Requests were still running %.0f s after the order to stop; they are cut off", drain)
        self._leave_at = time.monotonic() + LINGER
        self._wake()
        inout.join()
        self._threads.stop()
        for sock in (self._wake_in, self._wake_out):
            sock.close()
        if self._broken is not None:
            raise self._broken

    def _wake(self) -> None:
        # A full pipe wakes as well; a closed one has nobody to wake.
        with contextlib.suppress(OSError):
            self._wake_in.send(b".")

    def _io(self, listener: socket.socket, stop: threading.Event) -> None:
        try:
            while not self._over():
                for key, events in self._selector.select(0.05 if self._leave_at is not None else None):
                    if key.fileobj is listener:
                        self._accept(listener)
                    elif key.fileobj is self._wake_out:
                        self._wake_out.recv(4096)
                    elif key.data.open:
                        self._serve(key.data, events)
                if self._refusing and listener.fileno() >= 0:
                    self._announce_stop(listener)
                self._post()
        except BaseException as error:
            self._broken = error
            stop.set()
        finally:
            for connection in list(self._connections):
                self._close(connection)
            listener.close()
            self._selector.close()

    def _over(self) -> bool:
        """Workers close their ends when they have what they waited for, so this is soon after the order to stop."""
        return self._leave_at is not None and (not self._connections or time.monotonic() >= self._leave_at)

    def _accept(self, listener: socket.socket) -> bool:
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as exc:  # out of descriptors or memory: trying again at once would spin
            LOG.error("The engine cannot accept connections: %s", exc.strerror)
            time.sleep(0.1)
            return False
        uid = peer_uid(sock)
        if uid not in (os.geteuid(), 0):
            LOG.warning("Refused a connection of user %d to the engine", uid)
            sock.close()
        elif len(self._connections) >= MAX_CONNECTIONS:
            LOG.warning("Refused a connection to the engine: %d are open", MAX_CONNECTIONS)
            sock.close()
        else:
            connection = Connection(sock)
            self._connections.add(connection)
            self._selector.register(sock, selectors.EVENT_READ, connection)
            # A worker sends nothing before: what it connected to may be the queue of an engine that is dying.
            self._answers.append((connection, encode_frame({"id": 0, "hello": PROTOCOL})))
        return True

    def _announce_stop(self, listener: socket.socket) -> None:
        """Tell every worker, those in the kernel's queue too, to send nothing more."""
        self._selector.unregister(listener)
        while self._accept(listener):
            pass
        listener.close()
        notice = encode_frame({"id": 0, "stopping": True})
        for connection in self._connections:
            self._answers.append((connection, notice))

    def _post(self) -> None:
        """Send what the threads have answered."""
        touched = set()
        while self._answers:
            connection, frame = self._answers.popleft()
            if connection.open:
                connection.unsent.put(frame)
                touched.add(connection)
        for connection in touched:
            if connection.unsent.size > 2 * MAX_FRAME:
                self._close(connection, "it does not take its answers")
            else:
                self._serve(connection, selectors.EVENT_WRITE)

    def _serve(self, connection: Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                data = connection.sock.recv(RECEIVE)
                if not data:
                    self._close(connection)
                    return
                for message in connection.frames.feed(data):
                    self._begin(connection, message)
            if events & selectors.EVENT_WRITE:
                connection.unsent.send(connection.sock)
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
            if self._selector.get_key(connection.sock).events != wanted:
                self._selector.modify(connection.sock, wanted, connection)
        except MalformedFrame as error:
            self._close(connection, str(error))
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)

    def _close(self, connection: Connection, reason: str | None = None) -> None:
        if reason is not None:
            LOG.error("A connection to the engine is closed: %s", reason)
        connection.open = False
        connection.unsent.clear()
        self._connections.discard(connection)
        self._selector.unregister(connection.sock)
        connection.sock.close()

    # Requests

    def _begin(self, connection: Connection, message: dict[str, Any]) -> None:
        number = message["id"]
        for name, kind in _REQUEST.items():
            if not isinstance(message.get(name), kind):
                raise MalformedFrame(f"a request without {name}")
        method = message["method"]
        expires = time.monotonic() + message["ttl"]
        request = (message["context"], method, message["args"], message["version"])
        cast = bool(message.get("cast"))

        def job() -> None:
            # As the expiry of messages at a broker: nobody waits for this any more.
            if not cast and time.monotonic() >= expires:
                LOG.warning("%s waited longer for a thread than its caller for the answer; it is not begun", method)
                return
            frame = self._run(number, method, request, cast)
            if frame is not None:
                self._answers.append((connection, frame))
                self._wake()

        if self._refusing:
            answer: dict[str, Any] = {"id": number, "refused": "stopping"}
        elif not self._threads.submit(job):
            answer = {"id": number, "refused": "busy"}
        elif cast:
            answer = {"id": number, "result": None}  # as a broker's confirm: it will be begun
        else:
            return
        self._answers.append((connection, encode_frame(answer)))

    def _run(self, number: int, method: str, request: tuple[Any, ...], cast: bool) -> bytes | None:
        """Dispatch, in a thread of the pool; the answer's frame, None for a cast."""
        try:
            result = self._engine.dispatch(*request)
            return None if cast else encode_frame({"id": number, "result": result})
        except FrameTooLarge as large:
            error: BaseException = heat.RequestLimitExceeded(message=f"the answer to {method}: {large}")
        except BaseException as raised:
            error = raised
        # What the API shows to clients is no news. Anything else is a mistake in the engine.
        if cast or not _of_the_api(type(error)):
            LOG.error("%s failed", method, exc_info=error)
        if cast:
            return None
        try:
            return encode_frame({"id": number, "failure": failure_of(error)}, unknown=str)
        except Exception:
            LOG.exception("The failure of %s cannot be sent as it is", method)
            return encode_frame({"id": number, "failure": failure_of(RuntimeError(f"{method} failed"))})


def open_engine(state: pathlib.Path) -> Dispatcher:
    """Open the embedded engine; ConfigurationError where the state cannot be used."""
    from heatperf.engine.service import Engine  # workers import this module for its frames and need no engine

    engine: Dispatcher = Engine(state)
    return engine


def serve(
    state: pathlib.Path,
    socket_path: pathlib.Path,
    *,
    ready: Callable[[], None],
    stop: threading.Event,
    drain: float = DRAIN,
    opener: Callable[[pathlib.Path], Dispatcher] = open_engine,
) -> None:
    """Run the engine in this process, on its main thread, until ``stop`` is set.

    :param state: folder of the engine's store
    :param socket_path: at most 107 bytes; its folder is made and kept for this user alone
    :param ready: called once requests are answered
    :param drain: seconds that requests under way get after the order to stop
    :param opener: makes the engine
    :raises ConfigurationError: state or socket cannot be used, or are used by another engine
    """
    path = check_path(socket_path)
    prepare_folder(path)  # before the engine resumes what it was doing, which may take a while
    engine = opener(state)
    try:
        listener = listen(path)
        Server(engine).run(listener, ready, stop, drain)
    finally:
        engine.close(drain)

"""A helper process: a unix socket in front of a table of tasks.

In: frames with requests of the workers of this host. Out: frames with what the tasks return, or why they refuse; see
frames. Raised at start: ConfigurationError. Requests hold templates, and with them passwords: nothing of them is
logged.

One thread does everything, one task at a time, in the order of arrival; between two tasks it takes and gives what the
sockets have. A task that uses more CPU than it may is the end of the process, which the supervisor replaces: nothing
else stops code in C.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import pathlib
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from heatperf.errors import heat
from heatperf.helper.frames import MAX_BODY, Frames, MalformedFrame, Message, beginning
from heatperf.outbox import Outbox
from heatperf.socketfile import check_path, listen, peer_uid, remove_own

LOG = logging.getLogger("heatperf.helper")

#: What a task is: arguments and a body in, an answer and a body out. What it raises of REFUSALS is for the client of
#: the API; anything else is a mistake in the task.
Task = Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]

#: Exceptions that cross the socket, by name.
REFUSALS: dict[str, type[Exception]] = {
    "ValueError": ValueError,
    "RecursionError": RecursionError,
    "RequestLimitExceeded": heat.RequestLimitExceeded,
}

#: Requests that may wait; those beyond are refused.
QUEUE_LIMIT = 256
#: Bytes of their bodies; a single one may have more.
MOST_WAITING = 128 * 1024 * 1024
MAX_CONNECTIONS = 4096
RECEIVE = 1_048_576
#: Seconds to wait for the next bytes of a request before the next task, and how often at most.
INTAKE_PATIENCE = 0.005
INTAKE_ROUNDS = 200
#: Seconds of CPU that one task may use. 4 MB of YAML take some 4 s.
TASK_CPU = 30.0
#: Added to what the kernel weighs when memory is short (proc(5), oom_score_adj): a helper is easier to do without than
#: a worker, and more likely to be the cause.
OOM_SCORE = 300
#: Above the workers' (nice(2)), which have other requests to answer.
NICENESS = 5


class Request(NamedTuple):
    """One request that waits, and when its caller gives up."""

    connection: Connection
    message: Message
    expires: float


class Connection:
    """One worker's connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.frames = Frames()
        self.unsent = Outbox()
        self.open = True


class Server:
    """Carries requests to tasks, and answers back.

    :param queue_limit: requests that may wait
    :param task_cpu: seconds of CPU after which a task ends the process; 0: never
    """

    def __init__(
        self, tasks: Mapping[str, Task], *, queue_limit: int = QUEUE_LIMIT, task_cpu: float = TASK_CPU
    ) -> None:
        self._tasks = tasks
        self._queue_limit = queue_limit
        self._task_cpu = task_cpu
        self._selector = selectors.DefaultSelector()
        self._waiting: deque[Request] = deque()
        self._bytes = 0  # of their bodies
        self._connections = 0
        self._arriving: set[Connection] = set()  # those with a part of a request

    def run(self, listener: socket.socket, stop: socket.socket) -> None:
        """Serve until ``stop`` is readable. What is under way then is not answered."""
        listener.setblocking(False)
        with self._selector:
            self._selector.register(listener, selectors.EVENT_READ)
            self._selector.register(stop, selectors.EVENT_READ)
            rounds = 0
            while True:
                # What a worker has begun to send it goes on sending at once, a socket buffer at a time.
                patience = INTAKE_PATIENCE if self._arriving and rounds < INTAKE_ROUNDS else 0
                found = self._selector.select(patience if self._waiting else None)
                for key, events in found:
                    if key.fileobj is stop:
                        return
                    if key.fileobj is listener:
                        self._accept(listener)
                    else:
                        self._serve(key.data, events)
                rounds += 1
                if self._waiting and not (found and patience):
                    request = self._waiting.popleft()
                    self._bytes -= len(request.message.body)
                    self._work(request)
                    rounds = 0

    # Connections

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # out of descriptors or memory: trying again at once would spin
            LOG.error("A helper cannot accept connections: %s", error.strerror)
            time.sleep(0.1)
            return
        uid = peer_uid(sock)
        if uid not in (os.geteuid(), 0) or self._connections >= MAX_CONNECTIONS:
            LOG.warning("Refused a connection of user %d to a helper; %d are open", uid, self._connections)
            sock.close()
            return
        self._connections += 1
        self._selector.register(sock, selectors.EVENT_READ, Connection(sock))

    def _serve(self, connection: Connection, events: int) -> None:
        if not connection.open:
            return
        try:
            if events & selectors.EVENT_READ:
                self._read(connection)
            if connection.open:
                self._write(connection)
        except MalformedFrame as error:
            LOG.error("A connection to a helper is closed: %s", error)
            self._close(connection)
        except OSError:
            self._close(connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(RECEIVE)
        except BlockingIOError:
            return
        if not data:
            self._close(connection)
            return
        for message in connection.frames.feed(data):
            head = message.head
            until = head.get("until")
            if not isinstance(until, (int, float)) or not isinstance(head.get("arguments"), dict):
                raise MalformedFrame("a request without deadline or arguments")
            size = len(message.body)
            if len(self._waiting) >= self._queue_limit or (self._waiting and self._bytes + size > MOST_WAITING):
                self._tell(connection, {"id": head["id"], "busy": True})
            else:
                self._waiting.append(Request(connection, message, until))
                self._bytes += size
        if connection.frames.partial:
            self._arriving.add(connection)
        else:
            self._arriving.discard(connection)

    def _tell(self, connection: Connection, head: dict[str, Any], body: bytes = b"") -> None:
        connection.unsent.put(beginning(head, len(body)))
        connection.unsent.put(body)

    def _write(self, connection: Connection) -> None:
        connection.unsent.send(connection.sock)
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
        if self._selector.get_key(connection.sock).events != wanted:
            self._selector.modify(connection.sock, wanted, connection)

    def _close(self, connection: Connection) -> None:
        connection.open = False
        connection.unsent.clear()
        self._connections -= 1
        self._arriving.discard(connection)
        self._selector.unregister(connection.sock)
        connection.sock.close()

    # Tasks

    def _work(self, request: Request) -> None:
        connection, (head, body), expires = request
        if not connection.open or time.monotonic() >= expires:
            return  # nobody waits for it any more
        # Whoever hears this and then no more knows which task it was that ended the process.
        self._tell(connection, {"id": head["id"], "begun": True})
        self._serve(connection, 0)
        answer, data = self._run(head, body)
        if connection.open:
            self._tell(connection, {"id": head["id"], **answer}, data)
            self._serve(connection, 0)

    def _run(self, head: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        task = self._tasks.get(head.get("task", ""))
        if task is None:
            return {"failed": "no such task"}, b""
        # In a task nearly everything is alive to its end, and looking at it again and again doubles its time.
        gc.disable()
        signal.setitimer(signal.ITIMER_PROF, self._task_cpu)
        try:
            answer, data = task(head["arguments"], body)
            if len(data) > MAX_BODY:
                raise heat.RequestLimitExceeded(
                    message=f"The request stands for {len(data)} bytes, and at most {MAX_BODY} can be dealt with."
                )
            return {"answer": answer}, data
        except Exception as error:
            for name, kind in REFUSALS.items():
                if isinstance(error, kind):
                    text = error.kwargs.get("message", "") if isinstance(error, heat.HeatError) else str(error)
                    return {"refused": {"class": name, "text": text}}, b""
            # The text of an error may hold what is in the request.
            LOG.error("Task %s failed: %s", head.get("task"), type(error).__name__)
            return {"failed": type(error).__name__}, b""
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            gc.enable()


def serve(
    path: str, tasks: Mapping[str, Task], *, ready: Callable[[], None], stop: threading.Event, **options: Any
) -> None:
    """Be a helper until ``stop`` is set; call it on the main thread.

    :param path: of the socket, at most 107 bytes; its folder is made and kept for this user alone
    :param ready: called once requests are answered
    :param options: of Server
    :raises ConfigurationError: the path cannot be used
    """
    text = check_path(path, "helper")
    _step_back()
    # The kernel's default, whatever was inherited: the end.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    listener = listen(text, "helper")
    own = os.stat(text)
    ours, theirs = socket.socketpair()
    gc.collect()
    gc.freeze()
    broken: list[BaseException] = []

    def work() -> None:
        try:
            Server(tasks, **options).run(listener, theirs)
        except BaseException as error:
            broken.append(error)
        finally:
            stop.set()

    with listener, ours, theirs:
        thread = threading.Thread(target=work, name="tasks", daemon=True)
        thread.start()
        ready()
        stop.wait()
        remove_own(text, own)
        with contextlib.suppress(OSError):  # the last one of several does it
            pathlib.Path(text).parent.rmdir()
        ours.send(b".")
        thread.join(1.0)  # a task that runs ends with the process
    if broken:
        raise broken[0]


def _step_back() -> None:
    """Let the workers go first, and this process first where one must go. Neither needs a privilege."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "r+") as file:
        score = int(file.read()) + OOM_SCORE
        file.seek(0)
        file.write(str(min(score, 1000)))

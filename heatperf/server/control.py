"""The supervisor's control socket: ``heatperf reload``, ``stop`` and ``status`` come in here.

One JSON object on a line each way, then the connection ends:

    {"command": "reload", "arguments": {}}  ->  {"ok": true, "text": "...", "exit_code": 0, ...}

ControlServer runs in the supervisor's poll loop. It has no thread and never waits: every socket is non-blocking, and
what a client may cost is bounded in time, bytes and number. Its descriptors sit in one epoll instance, itself a
descriptor that is readable when any of them has something to do. Only open may take up to a second.

Raises ConfigurationError where the socket cannot be made; no client makes anything raise. Who may talk to the server
is decided twice: by the socket's mode, 0600, and by the user id that the kernel vouches for (SO_PEERCRED, unix(7)).
The other end is control_client.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import select
import socket
import stat
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from heatperf.errors import ConfigurationError
from heatperf.server.sockets import remove_own

LOG = logging.getLogger("heatperf.server")

COMMANDS = ("reload", "status", "stop")
SYSTEM_PATH = Path("/run/heatperf/control.sock")
# Commands are a few dozen bytes.
MAX_REQUEST = 16_384
# Clients at a time, those included that wait for the end of a reload.
MAX_CLIENTS = 32
# Seconds for a client to say what it wants, and later to take its answer.
PATIENCE = 5.0
# Seconds without accepting when there is no descriptor left: the connection stays in the queue, so poll would spin.
PAUSE = 1.0
CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid

REMEDIES = {
    errno.ENOENT: "make the directory {folder}, or choose another --control",
    errno.ENOTDIR: "{folder} is not a directory; choose another --control",
    errno.EEXIST: "{folder} is not a directory; choose another --control",
    errno.EACCES: "the user of this process must be allowed to write {folder}; or choose another --control",
    errno.EROFS: "{folder} is on a read-only file system; choose a path below /run",
    errno.ENAMETOOLONG: "choose a path of at most 107 bytes",
}


# Where


def default_path(environ: Mapping[str, str], uid: int) -> Path | None:
    """
    :param environ: RUNTIME_DIRECTORY is systemd's RuntimeDirectory=, XDG_RUNTIME_DIR the login session's
    :param uid: of the server
    :returns: where a server listens that was told nothing else; None where no place is its own
    """
    first = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if first.startswith("/"):
        return Path(first) / "control.sock"
    return SYSTEM_PATH if uid == 0 else _session_path(environ)


def candidates(environ: Mapping[str, str], uid: int) -> list[Path]:
    """
    :returns: where a client that was told nothing looks for a server, in this order
    """
    paths = (default_path(environ, uid), SYSTEM_PATH, _session_path(environ))
    return list(dict.fromkeys(path for path in paths if path is not None))


def _session_path(environ: Mapping[str, str]) -> Path | None:
    folder = environ.get("XDG_RUNTIME_DIR", "")
    # A relative one is to be ignored (XDG Base Directory Specification).
    return Path(folder) / "heatperf" / "control.sock" if folder.startswith("/") else None


# Server


class Request:
    """What one client asks for. Answer it once, with reply or hold, now or later; the client waits meanwhile.

    ``command`` is one of COMMANDS; ``arguments`` is as the client sent it, so check what is in it.
    """

    def __init__(self, client: _Client, command: str, arguments: dict[str, Any]) -> None:
        self.command = command
        self.arguments = arguments
        self._client = client

    @property
    def gone(self) -> bool:
        """Whether the client has left, as far as known. Answering it is no mistake."""
        return self._client.sock.fileno() < 0

    def reply(self, ok: bool, text: str = "", exit_code: int | None = None, **data: Any) -> None:
        """Answer, and end the connection when the answer is out. Only the first answer counts.

        :param text: for people
        :param exit_code: of the client's process; 0 or 1 after ok unless given
        :param data: goes into the answer as it is; what JSON cannot say becomes text
        """
        self._client.answer(_encode(ok, text, exit_code, data))

    def hold(self, text: str = "", **data: Any) -> None:
        """Answer that all is well, and keep the connection open until this process ends, close() notwithstanding: the
        client sees the end of the process as the end of the connection.
        """
        self._client.held = True
        self._client.answer(_encode(True, text, 0, data))


class ControlServer:
    """The listening socket and its clients; made by open."""

    def __init__(self, path: Path, sock: socket.socket, inode: tuple[int, int]) -> None:
        self.path = path
        self._sock = sock
        self._inode = inode
        self._clients: dict[int, _Client] = {}
        self._epoll = select.epoll()
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._resume_at: float | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ControlServer:
        """Listen at ``path``; its directory is made (0700) where only the last part of it is missing.

        :raises ConfigurationError: another server answers there, or the socket cannot be made
        """
        place = Path(os.path.abspath(path))
        try:
            place.parent.mkdir(mode=0o700, exist_ok=True)
            with _locked(place.parent):
                _clear_the_way(place)
                return cls(place, *_bind(place))
        except OSError as exc:
            # A path that does not fit into sockaddr_un is refused by Python, without an errno.
            remedy = REMEDIES.get(exc.errno or errno.ENAMETOOLONG, "choose another --control")
            raise ConfigurationError(
                f"cannot make the control socket {place}: {exc.strerror or exc}", remedy.format(folder=place.parent)
            ) from None

    def fileno(self) -> int:
        """One descriptor for poll (POLLIN): readable when ready() has something to do."""
        return self._epoll.fileno()

    def descriptors(self) -> list[int]:
        """What to poll for POLLIN; empty after close."""
        return [] if self._epoll.closed else [self._epoll.fileno()]

    def deadline(self) -> float | None:
        """time.monotonic() when ready() is to be called even if poll says nothing; None: no need."""
        moments = [client.deadline for client in self._clients.values() if client.deadline is not None]
        if self._resume_at is not None:
            moments.append(self._resume_at)
        return min(moments, default=None)

    def ready(self, fds: Iterable[int] = ()) -> list[Request]:
        """Accept, read, write and expire, as far as possible without waiting. Cheap when there is nothing to do.

        :param fds: what poll has returned; only looked at by those who care
        :returns: requests that have come in completely; each is to be answered
        """
        if self._epoll.closed:
            return []
        now = time.monotonic()
        if self._resume_at is not None and now >= self._resume_at:
            self._resume_at = None
            self._epoll.modify(self._sock.fileno(), select.EPOLLIN)
        requests: list[Request] = []
        knocked = False
        for fd, events in self._epoll.poll(0):
            if fd == self._sock.fileno():
                knocked = True
            elif client := self._clients.get(fd):
                request = client.on_event(events)
                if request is not None:
                    requests.append(request)
        for client in list(self._clients.values()):
            if client.deadline is not None and now >= client.deadline:
                client.close()
        # After those who leave have made room; nor can an event above be for a newcomer with a number used again.
        if knocked:
            self._accept(now)
        return requests

    def close(self) -> None:
        """Stop listening, end the connections that are not held, and remove the file if it is still ours."""
        if self._epoll.closed:
            return
        remove_own(str(self.path), self._inode)
        self._sock.close()
        for client in list(self._clients.values()):
            if client.held:
                client.sock.detach()  # stays open until the process ends; the kernel closes it then
            else:
                client.close()
        self._clients.clear()
        self._epoll.close()

    def _accept(self, now: float) -> None:
        # Bounded: a client that connects as fast as we accept must not keep the supervisor here.
        for _ in range(MAX_CLIENTS):
            try:
                sock, _address = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as exc:
                LOG.error("Cannot accept on the control socket: %s", exc.strerror)
                self._resume_at = now + PAUSE
                self._epoll.modify(self._sock.fileno(), 0)
                return
            sock.setblocking(False)
            client = _Client(self._clients, self._epoll, sock, now + PATIENCE)
            refusal = self._refusal(sock)
            if refusal is not None:
                client.answer(_encode(False, refusal, None, {}))

    def _refusal(self, sock: socket.socket) -> str | None:
        """Why this peer is not listened to; the client counts already."""
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        pid, uid, _gid = CREDENTIALS.unpack(credentials)
        if not permitted(uid, os.geteuid()):
            LOG.warning("User %d (pid %d) may not control this server", uid, pid)
            return f"user {uid} may not control this server; be root or user {os.geteuid()}"
        if len(self._clients) > MAX_CLIENTS:
            LOG.warning("More than %d clients on the control socket; pid %d is turned away", MAX_CLIENTS, pid)
            return f"{MAX_CLIENTS} other clients are waiting for this server; try again later"
        return None


def permitted(peer: int, own: int) -> bool:
    """
    :param peer: user id of the client
    :param own: user id of the server
    """
    return peer in (0, own)


class _Client:
    """One connection: reading, then waiting for the answer, then writing it, then held or closed."""

    def __init__(self, clients: dict[int, _Client], poller: select.epoll, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.deadline: float | None = deadline
        self.held = False
        self._clients = clients
        self._epoll = poller
        self._answered = False
        self._input = b""
        self._output = b""
        poller.register(sock.fileno(), select.EPOLLIN)
        clients[sock.fileno()] = self

    def on_event(self, events: int) -> Request | None:
        """Take the next step. Returns the request when it is complete."""
        if self._output:
            self._write()
        elif self._waits():
            # Nothing is read any more, so this is EPOLLHUP: the client has closed its end. (One that has only finished
            # writing, as socat does, still wants its answer, and gives no event.)
            self.close()
        else:
            return self._read()
        return None

    def answer(self, line: bytes) -> None:
        """Send now what the socket takes, and the rest when there is room."""
        if self._answered or self.sock.fileno() < 0:
            return
        self._answered = True
        self._output = line
        self.deadline = time.monotonic() + PATIENCE
        self._write()

    def close(self) -> None:
        """End the connection; later calls do nothing."""
        if self.sock.fileno() >= 0:
            del self._clients[self.sock.fileno()]
            self._epoll.unregister(self.sock.fileno())
            self.sock.close()

    def _waits(self) -> bool:
        return self._answered or self.deadline is None

    def _read(self) -> Request | None:
        try:
            data = self.sock.recv(MAX_REQUEST)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        self._input += data
        line, newline, _rest = self._input.partition(b"\n")
        if newline:
            return self._understand(line)
        if len(self._input) > MAX_REQUEST:
            self.answer(_encode(False, f"the request is longer than {MAX_REQUEST} bytes", None, {}))
        elif not data:
            self.close()
        return None

    def _understand(self, line: bytes) -> Request | None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("arguments", {}), dict):
            self.answer(_encode(False, "the request is not a JSON object with command and arguments", None, {}))
            return None
        if message.get("command") not in COMMANDS:
            name = str(message.get("command"))[:40]
            self.answer(_encode(False, f"no command {name!r}; this server knows {', '.join(COMMANDS)}", None, {}))
            return None
        self.deadline = None  # from now on the wait is ours
        self._epoll.modify(self.sock.fileno(), 0)  # EPOLLHUP comes all the same
        return Request(self, message["command"], message.get("arguments", {}))

    def _write(self) -> None:
        try:
            self._output = self._output[self.sock.send(self._output) :]
        except BlockingIOError:
            pass
        except OSError:  # the client has left
            self.close()
            return
        if self._output:
            self._epoll.modify(self.sock.fileno(), select.EPOLLOUT)
        elif self.held:
            self.deadline = None
            self._epoll.modify(self.sock.fileno(), 0)
        else:
            self.close()


def _encode(ok: bool, text: str, exit_code: int | None, data: dict[str, Any]) -> bytes:
    code = (0 if ok else 1) if exit_code is None else exit_code
    return json.dumps({**data, "ok": ok, "text": text, "exit_code": code}, default=str).encode() + b"\n"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second server, started at the same moment, from taking our new socket for a stale one.

    Taken for the blink of opening, so a holder that does not let go is no server: go on without.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _ in range(20):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(fd)


def _clear_the_way(path: Path) -> None:
    """Remove a socket that nobody answers on; refuse anything else that stands there."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(
            f"cannot make the control socket {path}: the file there is not a socket",
            remedy="choose another --control, or move it away",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            pass  # stale: its server is gone
        except BlockingIOError:
            raise _taken(path) from None  # a live server with a full queue
        else:
            raise _taken(path)
    os.unlink(path)
    LOG.info("Removed the stale control socket %s", path)


def _taken(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"another server answers at the control socket {path}",
        remedy="stop that one, or give this one a path of its own with --control",
    )


def _bind(path: Path) -> tuple[socket.socket, tuple[int, int]]:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    bound = False
    try:
        sock.bind(str(path))
        bound = True
        os.chmod(path, 0o600)  # before listen(), until which nobody can connect
        sock.listen(MAX_CLIENTS)
        made = os.lstat(path)
    except BaseException:
        sock.close()
        if bound:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise
    return sock, (made.st_dev, made.st_ino)

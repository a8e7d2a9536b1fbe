"""The client's end of the control socket (see control): ask, and wait for the answer.

Comes in: a path, a command. Goes out: the server's answer. Raises ControlError with a sentence for the operator. Runs
in the process of ``heatperf reload``, ``stop`` or ``status``; it waits, so never call it in the supervisor.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from heatperf.errors import HeatperfError

# Some 300 bytes for each of at most 4096 workers, with room.
MAX_ANSWER = 8 * 2**20


class ControlError(HeatperfError):
    """A running server could not be asked.

    :param message: what is wrong, in one sentence
    :param remedy: what to do about it, or None where the message says it
    :param absent: nobody serves there, so that another path may be tried
    """

    def __init__(self, message: str, remedy: str | None = None, absent: bool = False) -> None:
        self.message = message
        self.remedy = remedy
        self.absent = absent
        super().__init__(f"{message} ({remedy})" if remedy else message)


def call(
    path: str | os.PathLike[str],
    command: str,
    arguments: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    until_end: bool = False,
) -> dict[str, Any]:
    """Ask the server at ``path``.

    :param timeout: seconds for all of it; None waits as long as it takes
    :param until_end: after an answer that all is well, wait until the server's process has ended (it must hold)
    :returns: the answer: ok, text, exit_code and the command's own data
    :raises ControlError: no server is there, it must not be asked, or it did not answer in time
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    message = json.dumps({"command": command, "arguments": dict(arguments or {})}).encode() + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            _connect(sock, str(path), deadline)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # turned away: the reason can be read
                _limit(sock, deadline)
                sock.sendall(message)
            answer = _answer(path, _read_line(sock, deadline))
        except TimeoutError:
            raise ControlError(f"the server at {path} did not answer {command} within {timeout:g} s") from None
        except OSError as exc:
            raise _unreachable(path, exc) from None
        if until_end and answer["ok"]:
            try:
                _read_to_end(sock, deadline)
            except TimeoutError:
                raise ControlError(f"the server at {path} has not ended within {timeout:g} s") from None
    return answer


def call_first(
    paths: Iterable[Path],
    command: str,
    arguments: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    until_end: bool = False,
) -> dict[str, Any]:
    """Like call, at the first of the paths where a server is.

    :raises ControlError: as call does; or no server is at any of them
    """
    tried = []
    for path in paths:
        try:
            return call(path, command, arguments, timeout, until_end)
        except ControlError as exc:
            if not exc.absent:
                raise
            tried.append(str(path))
    where = f"nobody answers at {', '.join(tried)}" if tried else "there is no usual place for its control socket here"
    raise ControlError(f"no running server found: {where}", "give its control socket with --control", absent=True)


def _connect(sock: socket.socket, path: str, deadline: float | None) -> None:
    while True:
        _limit(sock, deadline)
        try:
            sock.connect(path)
            return
        except BlockingIOError:
            # A socket with a timeout gets this instead of a wait when the server's queue is full (unix(7)).
            time.sleep(0.05)


def _limit(sock: socket.socket, deadline: float | None) -> None:
    if deadline is None:
        return
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    sock.settimeout(left)


def _read_line(sock: socket.socket, deadline: float | None) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size <= MAX_ANSWER:
        _limit(sock, deadline)
        try:
            data = sock.recv(65_536)
        except ConnectionResetError:
            data = b""
        if not data:
            break
        parts.append(data)
        size += len(data)
        if b"\n" in data:
            break
    return b"".join(parts)


def _read_to_end(sock: socket.socket, deadline: float | None) -> None:
    with contextlib.suppress(ConnectionResetError):
        _limit(sock, deadline)
        while sock.recv(4096):
            _limit(sock, deadline)


def _answer(path: object, line: bytes) -> dict[str, Any]:
    if not line:
        raise ControlError(
            f"the server at {path} closed the connection without an answer", "it has just ended; see its log"
        )
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
        raise ControlError(f"what answers at {path} is no heatperf server", "check --control")
    return {"text": "", "exit_code": 0 if answer["ok"] else 1, **answer}


def _unreachable(path: object, error: OSError) -> ControlError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return ControlError(f"no server is running at {path}: there is no such socket", absent=True)
    if error.errno == errno.ECONNREFUSED:
        return ControlError(f"no server is running at {path}: the one that made this socket has ended", absent=True)
    if error.errno in (errno.EACCES, errno.EPERM):
        return ControlError(f"the control socket {path} is not open to this user", "be root or the server's user")
    return ControlError(f"cannot ask the server at {path}: {error.strerror or error}")

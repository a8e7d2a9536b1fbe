"""The unix socket of a side process (the engine, a helper): only its own user may reach it.

In: a path, and whose it is, for the messages. Out: a listening socket. Raised: ConfigurationError where the path or its
folder cannot be used. In the side process, at start and end.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import stat
import struct

from heatperf.errors import ConfigurationError

#: sun_path of sockaddr_un holds 108 bytes with the closing zero (unix(7)).
MAX_PATH = 107
BACKLOG = 128


def check_path(path: str | os.PathLike[str], whose: str = "engine") -> str:
    """Return the path as text; ConfigurationError if it is too long for a unix socket."""
    text = os.fspath(path)
    size = len(os.fsencode(text))
    if size > MAX_PATH:
        raise ConfigurationError(
            f"the path of the {whose}'s socket has {size} bytes, and a unix socket may have {MAX_PATH}: {text}",
            remedy="choose a shorter folder",
        )
    return text


def prepare_folder(path: str, whose: str = "engine") -> None:
    """Make sure that nobody but us may reach a socket at ``path``: its folder is ours, with mode 0700.

    A missing folder is made. One of ours that is open to others is closed to them, unless it holds anything but the
    socket: it then serves others too.

    :raises ConfigurationError: the folder is somebody else's, shared, no folder, or cannot be made
    """
    folder = pathlib.Path(path).absolute().parent
    remedy = f"give the {whose}'s socket a folder of its own, with mode 0700"
    try:
        for missing in reversed([each for each in (folder, *folder.parents) if not os.path.lexists(each)]):
            missing.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise ConfigurationError(f"{folder} is not a folder", remedy)
        if found.st_uid != os.geteuid():
            raise ConfigurationError(f"the folder {folder} belongs to user {found.st_uid}, not to us", remedy)
        if stat.S_IMODE(found.st_mode) & 0o077:
            if set(os.listdir(folder)) - {os.path.basename(path)}:
                raise ConfigurationError(f"the folder {folder} is open to other users and holds other files", remedy)
            folder.chmod(0o700)
    except OSError as exc:
        raise ConfigurationError(f"the folder {folder} cannot be used: {exc.strerror}", remedy) from None


def listen(path: str | os.PathLike[str], whose: str = "engine") -> socket.socket:
    """Listen on a unix socket whose file only we may open. Replaces the file of a server that is gone.

    :returns: the listening socket, non-blocking
    :raises ConfigurationError: the path or its folder cannot be used, or another process answers there
    """
    text = check_path(path, whose)
    prepare_folder(text, whose)
    try:
        _clear_the_way(text, whose)
        with contextlib.ExitStack() as undo:
            listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            listener.bind(text)  # nobody else gets this far before the chmod: the folder is closed to them
            os.chmod(text, 0o600)
            listener.listen(BACKLOG)
            listener.setblocking(False)
            undo.pop_all()
    except OSError as exc:
        raise ConfigurationError(f"the {whose} cannot listen on {text}: {exc.strerror}") from None
    return listener


def _clear_the_way(path: str, whose: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigurationError(f"{path} is there and is not a socket", remedy="move it away")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # its server is gone
            return
        except OSError:
            pass  # a full queue, say: not provably stale
    raise ConfigurationError(f"another process answers on {path}", remedy=f"stop the other {whose}")


def peer_uid(sock: socket.socket) -> int:
    """The user at the other end, as of its connect (SO_PEERCRED, unix(7))."""
    return int(struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])


def remove_own(path: str, own: os.stat_result) -> None:
    """Remove the socket file, unless a successor has put its own there."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino):
            os.unlink(path)

"""Listening sockets that systemd has opened for us (sd_listen_fds(3), systemd.socket(5)).

Comes in: LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, and descriptors from 3 on. Goes out: socket objects. Raises
ConfigurationError that names the descriptor, what it is, and what to change in the .socket unit. Supervisor, before it
opens anything of its own.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import MutableMapping

from heatperf.errors import ConfigurationError

FIRST = 3  # SD_LISTEN_FDS_START
# LISTEN_PIDFDID comes with newer versions of systemd; it only repeats LISTEN_PID in a form that is never reused.
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
# More sockets than any unit has, and few enough to look at each.
MOST = 4096
FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
ONLY_STREAMS = "in the .socket unit use ListenStream= and nothing else"
NO_ACCEPT = "set Accept=no in the .socket unit: the server accepts connections itself"
# What a socket of another kind was asked for with, in the .socket unit.
KINDS = {
    socket.SOCK_DGRAM: ("a datagram socket", "ListenDatagram="),
    socket.SOCK_SEQPACKET: ("a sequential-packet socket", "ListenSequentialPacket="),
    socket.SOCK_RAW: ("a raw socket", "ListenNetlink="),
}
FILES = {
    stat.S_IFIFO: ("a FIFO", "ListenFIFO="),
    stat.S_IFCHR: ("a character device", "ListenSpecial="),
    stat.S_IFREG: ("a regular file", "ListenSpecial= or OpenFile="),
    stat.S_IFDIR: ("a directory", "OpenFile="),
}


def inherited(environ: MutableMapping[str, str], pid: int | None = None, first: int = FIRST) -> list[socket.socket]:
    """Take over the sockets that systemd passes. Their blocking mode and options stay as they are.

    :param environ: loses the protocol's variables, whoever they are for, so that no child takes them for its own
    :param pid: of this process
    :param first: number of the first descriptor; the protocol says 3
    :returns: listening stream sockets in the unit's order, each closed on exec; none when not activated, or when the
        variables are meant for another process
    :raises ConfigurationError: what is passed is not such a socket; the descriptors stay open
    """
    values = {name: environ.pop(name, "") for name in VARIABLES}
    if not values["LISTEN_PID"] or not values["LISTEN_FDS"]:
        return []
    if _number("LISTEN_PID", values["LISTEN_PID"]) != (os.getpid() if pid is None else pid):
        return []
    count = _number("LISTEN_FDS", values["LISTEN_FDS"])
    if count > MOST:
        raise ConfigurationError(f"LISTEN_FDS={count} is more than {MOST} sockets", "listen on fewer addresses")
    names = values["LISTEN_FDNAMES"].split(":")
    sockets: list[socket.socket] = []
    try:
        for index in range(count):
            sockets.append(_take(first + index, names[index] if index < len(names) else ""))
    except ConfigurationError:
        for sock in sockets:
            sock.detach()
        raise
    return sockets


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ConfigurationError(
            f"{name}={text[:40]!r} in the environment is not a number",
            remedy="it is systemd's for socket activation; unset it, or start the server from its .socket unit",
        )
    return int(text)


def _take(fd: int, name: str) -> socket.socket:
    what = f"descriptor {fd}" + (f" ({name})" if name else "")
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            # Closed on exec first: what fails after this must not leak into a child either.
            os.set_inheritable(fd, False)
    except OSError as exc:
        raise ConfigurationError(
            f"{what}, which systemd should have passed, cannot be used: {exc.strerror}",
            remedy="nothing between systemd and the server may close it: start the server directly with ExecStart=",
        ) from None
    if not stat.S_ISSOCK(mode):
        kind, directive = FILES.get(stat.S_IFMT(mode), ("no socket", "something else"))
        raise _refusal(what, kind, f"{ONLY_STREAMS}; this one comes from {directive}")
    sock = socket.socket(fileno=fd)
    try:
        _check(sock, what)
    except BaseException:
        sock.detach()
        raise
    return sock


def _check(sock: socket.socket, what: str) -> None:
    if sock.type != socket.SOCK_STREAM:
        kind, directive = KINDS.get(socket.SocketKind(sock.type), ("no stream socket", "something else"))
        raise _refusal(what, kind, f"{ONLY_STREAMS}; this one comes from {directive}")
    if sock.family not in FAMILIES:
        family = getattr(sock.family, "name", str(sock.family))
        raise _refusal(what, f"a socket of the family {family}", "give ListenStream= an IP address and port or a path")
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return
    try:
        sock.getpeername()
    except OSError:
        raise _refusal(what, "a socket that does not listen", ONLY_STREAMS) from None
    raise _refusal(what, "a connection, not a listening socket", NO_ACCEPT)


def _refusal(what: str, kind: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{what}, passed by systemd, is {kind}", remedy=remedy)

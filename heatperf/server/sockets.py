"""Listening sockets: made in the supervisor, shared by all generations and their workers.

Comes in: Bind values. Goes out: listening sockets with all options set (Linux hands TCP_NODELAY and keepalive settings
of a listener on to what it accepts, which saves system calls per connection). Raises ConfigurationError with the
address that cannot be used, and what to do about it.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import socket
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from heatperf.errors import ConfigurationError
from heatperf.server import places
from heatperf.server.places import File, Place, Target
from heatperf.server.settings import Bind, ServerSettings

LOG = logging.getLogger("heatperf.server")
# The kernel cuts at net.core.somaxconn, but Python's listen() refuses what is no C int.
MAX_BACKLOG = 2**31 - 1


@dataclass
class Listener:
    """One open listening socket.

    :param bind: where, with the port that the kernel chose
    :param wanted: what was asked for; None for a socket that came with the process
    :param inode: tells our unix socket file from a successor's under the same name
    """

    bind: Bind
    sock: socket.socket
    wanted: Place | None = None
    inode: tuple[int, int] | None = None

    @property
    def inherited(self) -> bool:
        """Whether somebody else (systemd) holds this socket too, and will go on using it after us."""
        return self.wanted is None


class Taken(ConfigurationError):
    """Another process has the address, and may be about to leave it."""


def inherit(socks: Sequence[socket.socket]) -> list[Listener]:
    """Make listeners of sockets that came with the process, open and listening."""
    return [Listener(_address(sock), sock) for sock in socks]


def _address(sock: socket.socket) -> Bind:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        path = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
        return Bind(path=path.replace("\0", "@"))
    return Bind(host=name[0], port=name[1])


def listen(settings: ServerSettings, held: Sequence[Listener] = (), wanted: Sequence[Place] = ()) -> list[Listener]:
    """Bind everything or nothing.

    :param held: open already; those that settings ask for again are returned as they are, not opened a second time
    :param wanted: the places of the settings, where they are resolved already
    :returns: the sockets, each with its bind
    :raises Taken: another process has one of the addresses
    :raises ConfigurationError: an address cannot be used, is given twice, or stands in the way of one in ``held``
    :raises OSError: no descriptor is to be had
    """
    targets = wanted or places.resolve(settings)
    left = list(held)
    found = [_take(target, left) for target in targets]
    for target, listener in zip(targets, found, strict=True):
        if listener is None:
            _refuse_conflicts(target, left)
    opened: list[Listener] = []
    try:
        for target, listener in zip(targets, found, strict=True):
            opened.append(listener or _open(target, settings))
    except BaseException:
        close([listener for listener in opened if listener not in held])
        raise
    return opened


def _take(place: Place, left: list[Listener]) -> Listener | None:
    """The listener of ``left`` that was opened for the same; it is taken out, so that nobody takes it twice."""
    for listener in left:
        if isinstance(place, Target):
            found = listener.wanted == place
        else:
            # A file that was removed or replaced leads nobody to our socket any more.
            found = listener.wanted is not None and places.same(listener.wanted, place)
            found = found and _is_ours(place.path, listener.inode)
        if found:
            left.remove(listener)
            return listener
    return None


def _refuse_conflicts(place: Place, held: Sequence[Listener]) -> None:
    for listener in held:
        if isinstance(place, Target) and listener.wanted is not None and places.same(listener.wanted, place):
            raise ConfigurationError(
                f"cannot listen on {place.bind} while this server listens on {listener.bind}",
                remedy="restart the service to change the address of a port in use",
            )


def _open(place: Place, settings: ServerSettings) -> Listener:
    return _listen_tcp(place, settings) if isinstance(place, Target) else _listen_unix(place, settings)


def adopt(listener: Listener, place: Place, settings: ServerSettings) -> None:
    """Give a listener that is taken over what new settings say of it; raises nothing."""
    try:
        listener.sock.listen(min(settings.backlog, MAX_BACKLOG))
        if isinstance(place, Target):
            _set_options(listener.sock, settings)
        else:
            _permit(place, current_umask())
    except OSError as exc:
        LOG.warning("%s stays as it is: %s", listener.bind, exc.strerror)


# Classic BPF, on the header of a TCP segment: load the flags, keep SYN and ACK, and let everything pass (return -1)
# but a SYN alone (return 0), which asks for a new connection. bpf(4), linux/filter.h.
NO_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),
        (0x54, 0, 0, 0x12),
        (0x15, 0, 1, 0x02),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 2**32 - 1),
    )
)
SO_ATTACH_FILTER = 26


def plug(listeners: Sequence[Listener]) -> None:
    """Let nobody in any more, so that the queue can be emptied before it is closed: closing resets what it holds.

    New attempts at TCP listeners are dropped, which a client repeats after a second, when there may be a successor;
    unix sockets lose their names. A socket that was inherited is left alone: its owner keeps it open.
    """
    for listener in listeners:
        if listener.inherited:
            continue
        if listener.bind.path is not None:
            remove_own(listener.bind.path, listener.inode)
            continue
        code = ctypes.create_string_buffer(NO_SYN, len(NO_SYN))
        program = struct.pack("@HP", len(NO_SYN) // 8, ctypes.addressof(code))
        try:
            listener.sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        except OSError as exc:
            LOG.debug("Cannot plug %s: %s", listener.bind, exc.strerror)


def close(listeners: Sequence[Listener]) -> None:
    """Close the supervisor's copies, and remove the files of unix sockets that are still ours."""
    for listener in listeners:
        if listener.bind.path is not None and not listener.inherited:
            remove_own(listener.bind.path, listener.inode)
        listener.sock.close()


# TCP


def _listen_tcp(target: Target, settings: ServerSettings) -> Listener:
    bind = target.bind
    try:
        return _open_tcp(target, settings)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise ConfigurationError(f"cannot listen on {bind}: {exc.strerror}", _remedy(bind, exc)) from None
    raise Taken(
        f"cannot listen on {bind}: port {bind.port} is taken by another process",
        remedy=f"stop whoever listens there (ss -ltnp 'sport = :{bind.port}') or choose another --bind",
    )


def _open_tcp(target: Target, settings: ServerSettings) -> Listener:
    sock = socket.socket(target.family, target.kind, target.proto)
    try:
        _set_options(sock, settings)
        if target.v6only:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(target.address)
        sock.listen(min(settings.backlog, MAX_BACKLOG))
        return Listener(replace(target.bind, port=sock.getsockname()[1]), sock, target)
    except BaseException:
        sock.close()
        raise


def _set_options(sock: socket.socket, settings: ServerSettings) -> None:
    # A restart must not wait for TIME_WAIT; on Linux this does not allow a second listener.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Without it the second segment of an answer waits 40 ms for the client's delayed ACK.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if settings.tcp_keepidle > 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, settings.tcp_keepidle)


REMEDIES = {
    errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE"
    " (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE); or choose a higher port",
    errno.EADDRNOTAVAIL: "no interface of this host has that address; ip -brief address lists those it has",
    errno.EAFNOSUPPORT: "the kernel has no support for this kind of address; bind an IPv4 address",
    errno.EINVAL: "a link-local address needs its interface, as in [fe80::1%eth0]:8004",
}
UNIX_REMEDIES = {
    errno.ENOENT: "make the directory {folder}, or have systemd make it (RuntimeDirectory=)",
    errno.ENOTDIR: "{folder} is not a directory; choose another path",
    errno.EACCES: "the user of this process must be allowed to search and write {folder}",
    errno.EPERM: "only root may give the socket away, and others only to a group of their own; change owner=",
    errno.EROFS: "{folder} is on a read-only file system; choose a path below /run",
    errno.ELOOP: "a symbolic link in the path leads to itself; choose another path",
    errno.ENAMETOOLONG: "choose a path of at most 107 bytes",
}


def _remedy(bind: Bind, error: OSError) -> str:
    if error.errno == errno.EACCES and bind.port >= 1024:
        return "a security module (SELinux, AppArmor) or a sysctl forbids this port: see its log, or choose another"
    return REMEDIES.get(error.errno or 0, "choose another --bind")


def _unix_refusal(bind: Bind, error: OSError) -> ConfigurationError:
    # A path that does not fit into sockaddr_un is refused by Python, without an errno.
    number = error.errno or errno.ENAMETOOLONG
    remedy = UNIX_REMEDIES.get(number, "choose another path")
    folder = os.path.dirname(os.path.abspath(bind.path or ""))
    return ConfigurationError(f"cannot listen on {bind}: {error.strerror or error}", remedy.format(folder=folder))


# Unix sockets


def _listen_unix(place: File, settings: ServerSettings) -> Listener:
    bind, path = place.bind, place.path
    _clear_the_way(bind, path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Made with no permission for anybody else, then opened up: there is no moment in which a stranger may connect.
    umask = os.umask(0o177)
    bound = False
    try:
        sock.bind(path)
        bound = True
        _permit(place, umask)
        sock.listen(min(settings.backlog, MAX_BACKLOG))
        made = os.lstat(path)
    except OSError as exc:
        sock.close()
        if bound:
            remove_own(path, None)
        raise _unix_refusal(bind, exc) from None
    finally:
        os.umask(umask)
    return Listener(bind, sock, place, (made.st_dev, made.st_ino))


def current_umask() -> int:
    """The umask of the process; there is no way to read it but to set it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _permit(place: File, umask: int) -> None:
    if place.uid != -1 or place.gid != -1:
        os.chown(place.path, place.uid, place.gid)
    os.chmod(place.path, 0o777 & ~umask if place.bind.mode is None else place.bind.mode)


def _is_ours(path: str, inode: tuple[int, int] | None) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == inode


def _clear_the_way(bind: Bind, path: str) -> None:
    """Remove a socket file that nobody answers on; refuse anything else that stands there."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as exc:
        raise _unix_refusal(bind, exc) from None
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(
            f"cannot listen on {bind}: the file there is not a socket", remedy="choose another path, or move it away"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            pass  # stale: its server is gone
        except OSError as exc:
            # EAGAIN is a live server with a full queue; EACCES tells nothing. Neither is ours to remove.
            raise ConfigurationError(
                f"cannot listen on {bind}: the socket there cannot be tried: {exc.strerror or exc}",
                remedy="stop its server or remove the file, or choose another path",
            ) from None
        else:
            raise ConfigurationError(
                f"cannot listen on {bind}: another process answers there",
                remedy="stop it or choose another path",
            )
    try:
        os.unlink(path)
    except OSError as exc:
        raise ConfigurationError(
            f"cannot remove the stale socket {path}: {exc.strerror}", remedy="remove it, or choose another path"
        ) from None
    LOG.info("Removed the stale socket %s", path)


def remove_own(path: str, inode: tuple[int, int] | None) -> None:
    """Remove the file unless a successor has already put its own there; inode None: it was made a moment ago."""
    try:
        found = os.lstat(path)
        if inode is None or (found.st_dev, found.st_ino) == inode:
            os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        LOG.warning("Cannot remove the socket %s: %s", path, exc.strerror)

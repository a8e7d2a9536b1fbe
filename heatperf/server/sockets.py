"""Listening sockets and the TLS context: made once in the supervisor, inherited by every worker.

Comes in: Bind and TLS values. Goes out: listening sockets with all options set (Linux hands TCP_NODELAY and keepalive
settings of a listener on to what it accepts, which saves system calls per connection), an ssl.SSLContext. Raises
ConfigurationError with the address or the file that cannot be used, and what to do about it.

All names are resolved before the first bind, because binds can stand in each other's way: [::] takes IPv4 too unless
it is told not to (IPV6_V6ONLY, ipv6(7)), and what is given twice would look like taken by somebody else.
"""

from __future__ import annotations

import errno
import grp
import ipaddress
import logging
import os
import pwd
import socket
import ssl
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from heatperf.errors import ConfigurationError
from heatperf.server.settings import TLS, Bind, ServerSettings

LOG = logging.getLogger("heatperf.server")
RETRY_INTERVAL = 0.25
# (uid_t)-1 means "leave" to chown(2).
MAX_ID = 2**32 - 2
# MAX_TCP_KEEPIDLE of the kernel, seconds.
MAX_KEEPIDLE = 32_767
# The kernel cuts at net.core.somaxconn, but Python's listen() refuses what is no C int.
MAX_BACKLOG = 2**31 - 1


@dataclass
class Listener:
    """One open listening socket. ``inode`` tells our unix socket file from a successor's under the same name."""

    bind: Bind
    sock: socket.socket
    inode: tuple[int, int] | None = None


@dataclass
class Target:
    """A TCP bind after its name has been looked up: what socket() and bind() take."""

    bind: Bind
    family: int
    kind: int
    proto: int
    address: tuple[Any, ...]
    v6only: bool = False

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """The address; an IPv4-mapped one (::ffff:192.0.2.1) as the IPv4 address that it means to the kernel."""
        ip = ipaddress.ip_address(self.address[0])
        return getattr(ip, "ipv4_mapped", None) or ip


def listen(settings: ServerSettings, pause: Callable[[float], object] = time.sleep) -> list[Listener]:
    """Bind everything or nothing.

    :param pause: waits for as many seconds between two attempts at a taken address; what it raises ends the wait
    :returns: the sockets, each with its bind (and the port the kernel chose where 0 was asked for)
    :raises ConfigurationError: an address cannot be used, is given twice, or stayed taken for settings.bind_retry
        seconds
    """
    deadline = time.monotonic() + settings.bind_retry
    targets = [bind if bind.path is not None else _resolve(bind) for bind in settings.binds]
    _refuse_duplicates(targets)
    _part_families([target for target in targets if isinstance(target, Target)])
    opened: list[Listener] = []
    try:
        for target in targets:
            if isinstance(target, Target):
                opened.append(_listen_tcp(target, settings, deadline, pause))
            else:
                opened.append(_listen_unix(target, settings))
    except BaseException:
        close(opened)
        raise
    return opened


def close(listeners: list[Listener]) -> None:
    """Close the supervisor's copies, and remove the files of unix sockets that are still ours."""
    for listener in listeners:
        if listener.bind.path is not None:
            _remove_own(listener.bind.path, listener.inode)
        listener.sock.close()


# TCP


def _resolve(bind: Bind) -> Target:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as exc:  # UnicodeError: no name by the rules of IDNA
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigurationError(
            f"cannot resolve the bind address {bind}: {reason}",
            remedy="give an IP address of this host, or 0.0.0.0 or [::] for all of them",
        ) from None
    return Target(bind, family, kind, proto, address)


def _refuse_duplicates(targets: list[Target | Bind]) -> None:
    """Two binds for one place: the second would wait for the first, which is ours, to go away."""
    for number, second in enumerate(targets):
        for first in targets[:number]:
            if _same_place(first, second):
                names = [str(each.bind if isinstance(each, Target) else each) for each in (first, second)]
                what = f"--bind {names[1]} is given twice"
                if names[0] != names[1]:
                    what = f"--bind {names[0]} and --bind {names[1]} stand for the same place"
                raise ConfigurationError(what, remedy="leave one of them out")


def _same_place(first: Target | Bind, second: Target | Bind) -> bool:
    """Also where one is a single address and the other all addresses of its family: Linux refuses that as well."""
    if isinstance(first, Target) and isinstance(second, Target):
        if first.bind.port != second.bind.port or not first.bind.port or first.ip.version != second.ip.version:
            return False
        return first.ip == second.ip or first.ip.is_unspecified or second.ip.is_unspecified
    if isinstance(first, Target) or isinstance(second, Target):
        return False
    return _real(first.path or "") == _real(second.path or "")


def _real(path: str) -> str:
    # The last part is not followed: bind() would not either.
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def _part_families(targets: list[Target]) -> None:
    """Keep [::] off IPv4 on a port for which there is an IPv4 bind; alone it goes on serving both."""
    for target in targets:
        # Of IPv6 binds only the one for all addresses reaches into IPv4; a mapped address cannot be v6only (EINVAL).
        if target.ip.version != 6 or not target.ip.is_unspecified or not target.bind.port:
            continue
        for other in targets:
            if other.ip.version == 4 and other.bind.port == target.bind.port:
                target.v6only = True
                LOG.info("%s serves IPv6 only, since %s is given for IPv4", target.bind, other.bind)
                break


def _listen_tcp(
    target: Target, settings: ServerSettings, deadline: float, pause: Callable[[float], object]
) -> Listener:
    bind = target.bind
    waiting = False
    while True:
        try:
            return _open_tcp(target, settings)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise ConfigurationError(f"cannot listen on {bind}: {exc.strerror}", _remedy(bind, exc)) from None
        if time.monotonic() >= deadline:
            raise ConfigurationError(
                f"cannot listen on {bind}: port {bind.port} is taken by another process",
                remedy=f"stop whoever listens there (ss -ltnp 'sport = :{bind.port}') or choose another --bind",
            )
        if not waiting:
            waiting = True
            LOG.warning("%s is taken; trying for %.0f s", bind, settings.bind_retry)
        pause(RETRY_INTERVAL)


def _open_tcp(target: Target, settings: ServerSettings) -> Listener:
    sock = socket.socket(target.family, target.kind, target.proto)
    try:
        _set_options(sock, settings)
        if target.v6only:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(target.address)
        sock.listen(min(settings.backlog, MAX_BACKLOG))
        return Listener(replace(target.bind, port=sock.getsockname()[1]), sock)
    except BaseException:
        sock.close()
        raise


def _set_options(sock: socket.socket, settings: ServerSettings) -> None:
    # A restart must not wait for TIME_WAIT; on Linux this does not allow a second listener.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Without it the second segment of an answer waits 40 ms for the client's delayed ACK.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if settings.tcp_keepidle > MAX_KEEPIDLE:
        raise ConfigurationError(
            f"{settings.tcp_keepidle} is more than the kernel takes",
            remedy=f"give at most {MAX_KEEPIDLE} seconds",
            option="[heat_api] tcp_keepidle",
        )
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


def _listen_unix(bind: Bind, settings: ServerSettings) -> Listener:
    path = bind.path or ""
    uid, gid = _owner(bind)
    _clear_the_way(bind, path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Made with no permission for anybody else, then opened up: there is no moment in which a stranger may connect.
    umask = os.umask(0o177)
    bound = False
    try:
        sock.bind(path)
        bound = True
        if uid != -1 or gid != -1:
            os.chown(path, uid, gid)
        os.chmod(path, 0o777 & ~umask if bind.mode is None else bind.mode)
        sock.listen(min(settings.backlog, MAX_BACKLOG))
        made = os.lstat(path)
    except OSError as exc:
        sock.close()
        if bound:
            _remove_own(path, None)
        raise _unix_refusal(bind, exc) from None
    finally:
        os.umask(umask)
    return Listener(bind, sock, (made.st_dev, made.st_ino))


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


def _owner(bind: Bind) -> tuple[int, int]:
    """(uid, gid), -1 for "leave"."""
    user, _, group = (bind.owner or "").partition(":")
    try:
        uid = -1 if not user else _number(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
        gid = -1 if not group else _number(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise ConfigurationError(
            f"cannot listen on {bind}: owner {bind.owner} does not exist here",
            remedy="give owner=USER, USER:GROUP or :GROUP with names or numbers of this host",
        ) from None
    return uid, gid


def _number(text: str) -> int:
    number = int(text)
    if number > MAX_ID:
        raise ValueError(text)
    return number


def _remove_own(path: str, inode: tuple[int, int] | None) -> None:
    """Remove the file unless a successor has already put its own there; inode None: it was made a moment ago."""
    try:
        found = os.lstat(path)
        if inode is None or (found.st_dev, found.st_ino) == inode:
            os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        LOG.warning("Cannot remove the socket %s: %s", path, exc.strerror)


# TLS


def tls_context(tls: TLS) -> ssl.SSLContext:
    """
    :raises ConfigurationError: a file is missing, unreadable, encrypted, or does not fit the other
    """
    for option, file in (("cert_file", tls.cert_file), ("key_file", tls.key_file)):
        try:
            with open(file, "rb"):
                pass
        except OSError as exc:
            raise ConfigurationError(f"cannot read the {option}: {exc.strerror}", file=file, option=option) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def no_passphrase() -> str:
        # OpenSSL would ask on the terminal, and a service would wait there for ever.
        raise ConfigurationError("the key_file is encrypted", remedy="store it unencrypted", file=tls.key_file)

    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, password=no_passphrase)
    except ssl.SSLError as exc:
        raise ConfigurationError(
            f"the key_file does not fit the cert_file {tls.cert_file}, or one of them is not PEM ({exc.reason})",
            file=tls.key_file,
            option="key_file",
        ) from None
    return context

"""Listening sockets and the TLS context: made once in the supervisor, inherited by every worker.

Comes in: Bind and TLS values. Goes out: listening sockets with all options set (Linux hands TCP_NODELAY and keepalive
settings of a listener on to what it accepts, which saves system calls per connection), an ssl.SSLContext. Raises
ConfigurationError with the address or the file that cannot be used.
"""

from __future__ import annotations

import errno
import grp
import logging
import os
import pwd
import socket
import ssl
import stat
import time
from dataclasses import dataclass, replace

from heatperf.errors import ConfigurationError
from heatperf.server.settings import TLS, Bind, ServerSettings

LOG = logging.getLogger("heatperf.server")
RETRY_INTERVAL = 0.25


@dataclass
class Listener:
    """One open listening socket. ``inode`` tells our unix socket file from a successor's under the same name."""

    bind: Bind
    sock: socket.socket
    inode: tuple[int, int] | None = None


def listen(settings: ServerSettings) -> list[Listener]:
    """Bind everything or nothing.

    :returns: the sockets, each with its bind (and the port the kernel chose where 0 was asked for)
    :raises ConfigurationError: an address cannot be used, or stayed taken for settings.bind_retry seconds
    """
    deadline = time.monotonic() + settings.bind_retry
    opened: list[Listener] = []
    try:
        for bind in settings.binds:
            opened.append(_listen_unix(bind, settings) if bind.path else _listen_tcp(bind, settings, deadline))
    except ConfigurationError:
        close(opened)
        raise
    return opened


def close(listeners: list[Listener]) -> None:
    """Close the supervisor's copies, and remove the files of unix sockets that are still ours."""
    for listener in listeners:
        if listener.bind.path is not None:
            _remove_own(listener.bind.path, listener.inode)
        listener.sock.close()


def _listen_tcp(bind: Bind, settings: ServerSettings, deadline: float) -> Listener:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as exc:
        raise ConfigurationError(f"cannot resolve the bind address {bind}: {exc.strerror or exc}") from None
    waiting = False
    while True:
        sock = socket.socket(family, kind, proto)
        try:
            _set_options(sock, settings)
            sock.bind(address)
            sock.listen(settings.backlog)
            return Listener(replace(bind, port=sock.getsockname()[1]), sock)
        except OSError as exc:
            sock.close()
            if exc.errno != errno.EADDRINUSE:
                raise ConfigurationError(f"cannot listen on {bind}: {exc.strerror}", _remedy(exc)) from None
        if time.monotonic() >= deadline:
            raise ConfigurationError(
                f"cannot listen on {bind}: port {bind.port} is taken by another process",
                remedy=f"stop whoever listens there (ss -ltnp 'sport = :{bind.port}') or choose another --bind",
            )
        if not waiting:
            waiting = True
            LOG.warning("%s is taken; trying for %.0f s", bind, settings.bind_retry)
        time.sleep(RETRY_INTERVAL)


def _set_options(sock: socket.socket, settings: ServerSettings) -> None:
    # A restart must not wait for TIME_WAIT; on Linux this does not allow a second listener.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Without it the second segment of an answer waits 40 ms for the client's delayed ACK.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if settings.tcp_keepidle > 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, settings.tcp_keepidle)


def _remedy(error: OSError) -> str | None:
    if error.errno == errno.EACCES:
        return "ports below 1024 need root or CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return "no interface of this host has that address"
    return None


# Unix sockets


def _listen_unix(bind: Bind, settings: ServerSettings) -> Listener:
    path = bind.path or ""
    _clear_the_way(path)
    uid, gid = _owner(bind)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Made with no permission for anybody else, then opened up: there is no moment in which a stranger may connect.
    umask = os.umask(0o177)
    try:
        sock.bind(path)
        if uid != -1 or gid != -1:
            os.chown(path, uid, gid)
        os.chmod(path, 0o777 & ~umask if bind.mode is None else bind.mode)
        sock.listen(settings.backlog)
        made = os.lstat(path)
    except OSError as exc:
        sock.close()
        raise ConfigurationError(f"cannot listen on {bind}: {exc.strerror or exc}") from None
    finally:
        os.umask(umask)
    return Listener(bind, sock, (made.st_dev, made.st_ino))


def _clear_the_way(path: str) -> None:
    """Remove a socket file that nobody answers on; refuse anything else that stands there."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as exc:
        raise ConfigurationError(f"cannot listen on unix:{path}: {exc.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"cannot listen on unix:{path}: the file there is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            pass  # stale: its server is gone
        except OSError as exc:
            # EAGAIN is a live server with a full queue; EACCES tells nothing. Neither is ours to remove.
            raise ConfigurationError(f"cannot listen on unix:{path}: {exc.strerror or exc}") from None
        else:
            raise ConfigurationError(
                f"cannot listen on unix:{path}: another process answers there",
                remedy="stop it or choose another path",
            )
    try:
        os.unlink(path)
    except OSError as exc:
        raise ConfigurationError(f"cannot remove the stale socket {path}: {exc.strerror}") from None
    LOG.info("Removed the stale socket %s", path)


def _owner(bind: Bind) -> tuple[int, int]:
    """(uid, gid), -1 for "leave"."""
    user, _, group = (bind.owner or "").partition(":")
    try:
        uid = -1 if not user else int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
        gid = -1 if not group else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigurationError(f"cannot listen on {bind}: owner {bind.owner} does not exist here") from None
    return uid, gid


def _remove_own(path: str, inode: tuple[int, int] | None) -> None:
    """Remove the file unless a successor has already put its own there."""
    try:
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == inode:
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
    for option, file in (("cert_file", tls.cert_file), ("key_file", tls.key_file), ("ca_file", tls.ca_file)):
        if file is None:
            continue
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
    if tls.ca_file is not None:
        try:
            context.load_verify_locations(tls.ca_file)
        except ssl.SSLError as exc:
            raise ConfigurationError(f"not a PEM file ({exc.reason})", file=tls.ca_file, option="ca_file") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context

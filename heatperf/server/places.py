"""Where to listen, before anything is opened: names looked up, users found, contradictions refused.

Comes in: the binds of ServerSettings. Goes out: places, which need no further question to a name service. Raises
ConfigurationError with the address that cannot be used. Runs in the zygote: a name service that hangs may hold up a
reload, but not the supervisor.

All names are resolved before the first bind, because binds can stand in each other's way: [::] takes IPv4 too unless
it is told not to (IPV6_V6ONLY, ipv6(7)), and what is given twice would look like taken by somebody else.
"""

from __future__ import annotations

import grp
import ipaddress
import logging
import os
import pwd
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from heatperf.errors import ConfigurationError
from heatperf.server.channel import MAX_DESCRIPTORS
from heatperf.server.settings import Bind, ServerSettings

LOG = logging.getLogger("heatperf.server")
# (uid_t)-1 means "leave" to chown(2).
MAX_ID = 2**32 - 2
# MAX_TCP_KEEPIDLE of the kernel, seconds.
MAX_KEEPIDLE = 32_767


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


@dataclass
class File:
    """A unix socket after its owner has been looked up; -1 leaves user or group as they are."""

    bind: Bind
    uid: int = -1
    gid: int = -1

    @property
    def path(self) -> str:
        """As given."""
        return self.bind.path or ""


Place = Target | File


def resolve(settings: ServerSettings) -> list[Place]:
    """
    :returns: a place for each bind, in order
    :raises ConfigurationError: an address, an owner or an option cannot be used, or an address is given twice
    """
    if len(settings.binds) > MAX_DESCRIPTORS:
        raise ConfigurationError(
            f"{len(settings.binds)} addresses are too many", remedy=f"give at most {MAX_DESCRIPTORS}"
        )
    if settings.tcp_keepidle > MAX_KEEPIDLE and any(bind.path is None for bind in settings.binds):
        raise ConfigurationError(
            f"{settings.tcp_keepidle} is more than the kernel takes",
            remedy=f"give at most {MAX_KEEPIDLE} seconds",
            option="[heat_api] tcp_keepidle",
        )
    places = [_find(bind) if bind.path is not None else _look_up(bind) for bind in settings.binds]
    _refuse_duplicates(places)
    _part_families([place for place in places if isinstance(place, Target)])
    return places


def to_values(places: Sequence[Place]) -> list[dict[str, Any]]:
    """For the way through JSON."""
    return [asdict(place) for place in places]


def from_values(values: Sequence[dict[str, Any]]) -> list[Place]:
    """:param values: of to_values"""
    return [_place(Bind(**value.pop("bind")), value) for value in values]


def _place(bind: Bind, values: dict[str, Any]) -> Place:
    if bind.path is not None:
        return File(bind, **values)
    return Target(bind, **{**values, "address": tuple(values["address"])})


def _look_up(bind: Bind) -> Target:
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


def _refuse_duplicates(places: list[Place]) -> None:
    """Two binds for one place: the second would wait for the first, which is ours, to go away."""
    for number, second in enumerate(places):
        for first in places[:number]:
            if same(first, second):
                names = [str(each.bind) for each in (first, second)]
                what = f"--bind {names[1]} is given twice"
                if names[0] != names[1]:
                    what = f"--bind {names[0]} and --bind {names[1]} stand for the same place"
                raise ConfigurationError(what, remedy="leave one of them out")


def same(first: Place, second: Place) -> bool:
    """Whether the two cannot both be listened on.

    Also where one is a single address and the other all addresses of its family: Linux refuses that as well.
    """
    if isinstance(first, Target) and isinstance(second, Target):
        if first.bind.port != second.bind.port or not first.bind.port or first.ip.version != second.ip.version:
            return False
        return first.ip == second.ip or first.ip.is_unspecified or second.ip.is_unspecified
    if isinstance(first, Target) or isinstance(second, Target):
        return False
    return _real(first.path) == _real(second.path)


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


def _find(bind: Bind) -> File:
    user, _, group = (bind.owner or "").partition(":")
    try:
        uid = -1 if not user else _number(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
        gid = -1 if not group else _number(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise ConfigurationError(
            f"cannot listen on {bind}: owner {bind.owner} does not exist here",
            remedy="give owner=USER, USER:GROUP or :GROUP with names or numbers of this host",
        ) from None
    return File(bind, uid, gid)


def _number(text: str) -> int:
    number = int(text)
    if number > MAX_ID:
        raise ValueError(text)
    return number

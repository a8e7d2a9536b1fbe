"""A transport_url taken apart as oslo.messaging does it, without oslo.messaging. Pure.

In: ``driver://[user:password@]host:port[,[user:password@]host:port ...]/vhost?option=value``. Out: its parts. Raised:
ValueError, whose text may hold the password and is not for showing.
"""

from dataclasses import dataclass, field
from urllib import parse as urls

from oslo_utils import netutils


@dataclass(frozen=True)
class Host:
    """One broker; what the URL does not say is None. Its repr shows no password."""

    name: str | None
    port: int | None
    user: str | None
    password: str | None = field(repr=False)


@dataclass(frozen=True)
class TransportUrl:
    """The parts.

    :ivar driver: in front of ``://``
    :ivar vhost: None without a slash behind the hosts, "" with nothing behind it
    :ivar query: options of the driver's group that the URL overrides, as text
    """

    driver: str
    hosts: tuple[Host, ...]
    vhost: str | None
    query: dict[str, str]


def parse(text: str) -> TransportUrl:
    """:raises ValueError: there is no driver, or a port is no number, or an address is no address"""
    url = urls.urlparse(text)
    if not url.scheme:
        raise ValueError("no driver")
    vhost = urls.unquote(url.path[1:]) if url.path.startswith("/") else None
    query = {name: ",".join(values) for name, values in urls.parse_qs(url.query).items()} if url.query else {}
    hosts = tuple(_host(part) for part in url.netloc.split(",") if part)
    return TransportUrl(url.scheme, hosts, vhost, query)


def _host(text: str) -> Host:
    user = password = None
    if "@" in text:
        user, text = text.rsplit("@", 1)
        if ":" in user:
            user, password = user.split(":", 1)
            password = urls.unquote(password)
        user = urls.unquote(user)
    name, port = netutils.parse_host_port(text)
    return Host(name, port, user, password)

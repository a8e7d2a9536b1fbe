"""HTTP connections that reach public addresses only.

In: URLs of a client's choosing. Out: a requests.Session whose every connection, redirects included, goes to an address
that was found public first. Raises NotPublic where a host has no such address. Blocking: for native threads.

The check sits where the connection is made, between resolving the name and connecting, and the connection is made to
the very address that passed. Checking the URL beforehand would be worthless: names of an attacker's own resolve to
something else a moment later, and there are many spellings of 127.0.0.1.
"""

import ipaddress
import os
import socket
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NameResolutionError, NewConnectionError

from heatperf.errors import HeatperfError

_UNICAST = ipaddress.IPv6Network("2000::/3")  # what IANA gives out of IPv6
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last four bytes are an IPv4 address


class NotPublic(HeatperfError):
    """A host has no public address.

    No OSError, which urllib3 would take for a connection that failed, and wrap.
    """


def is_public(text: str) -> bool:
    """Tell whether an address, as getaddrinfo writes it, belongs to the public internet.

    Private, loopback, link-local, multicast, reserved and shared ones (RFC 6598) do not. IPv6 addresses that lead to an
    IPv4 address are judged by that one; 6to4 is refused altogether.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(address.packed[-4:])
        if inner is None:
            return address in _UNICAST and address.is_global and address.sixtofour is None
        address = inner
    # to the library, multicast is global unless its scope says otherwise
    return address.is_global and not (address.is_multicast or address.is_reserved)


def public_addresses(host: str, port: int) -> list[str]:
    """Resolve a name, and return those of its addresses that are public, in the resolver's order.

    :raises NotPublic: none is
    :raises socket.gaierror: the name does not resolve
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [address for address in (str(entry[4][0]) for entry in found) if is_public(address)]
    if not addresses:
        raise NotPublic(f"{host} has no public address")
    return addresses


class _Guarded(HTTPConnection):
    """urllib3's connection, with a look at the address between resolving and connecting."""

    def _new_conn(self) -> socket.socket:
        port = self.port or self.default_port
        try:
            addresses = public_addresses(self.host.strip("[]"), port)
        except UnicodeError as error:  # a label that is empty or too long
            raise NewConnectionError(self, f"{self.host} is no host name") from error
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        *others, last = addresses
        for address in others:
            try:
                return self._connected(address, port)
            except OSError:
                continue
        return self._connected(last, port)  # what this one raises counts; urllib3 knows what to make of it

    def _connected(self, address: str, port: int) -> socket.socket:
        seconds = self.timeout if isinstance(self.timeout, int | float) else None
        return socket.create_connection((address, port), timeout=seconds)


class _GuardedTLS(_Guarded, HTTPSConnection):
    """The same with TLS; certificates are held against the name in the URL, not the address."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Guarded


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedTLS


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}


def session() -> requests.Session:
    """Return a session that reaches public addresses only.

    It uses no proxy, since a proxy resolves names itself and reaches what it likes. Of the environment only the place
    of the CA certificates counts.
    """
    made = requests.Session()
    made.trust_env = False
    made.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    made.mount("http://", _Adapter())
    made.mount("https://", _Adapter())
    return made

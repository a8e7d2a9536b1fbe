"""Custom constraints that need no cloud: addresses, host names, times, JSON.

Comes in: a value. Goes out: None where it is right, otherwise the reason (an empty text where there is no more to say
than that it is wrong). Raises nothing. Checks that ask a service (images, flavors, networks ...) are not here.
"""

import datetime
import ipaddress
import json
import re
import zoneinfo
from collections.abc import Callable
from typing import Any

_LABEL_MAX = 63
_FQDN_MAX = 255
_LABEL = re.compile(rf"[a-z0-9-]{{1,{_LABEL_MAX}}}\Z")
_MAC = re.compile(r"(?:[0-9a-f]{1,2}([:-]))(?:[0-9a-f]{1,2}\1){4}[0-9a-f]{1,2}\Z", re.IGNORECASE)
_MAC_BARE = re.compile(r"[0-9a-f]{12}\Z|(?:[0-9a-f]{1,4}\.){2}[0-9a-f]{1,4}\Z", re.IGNORECASE)


def _ip(value: Any) -> str | None:
    try:
        if isinstance(value, str):
            ipaddress.ip_address(value)
            return None
    except ValueError:
        pass
    return "Invalid IP address"


def _mac(value: Any) -> str | None:
    text = value if isinstance(value, str) else ""
    return None if _MAC.match(text) or _MAC_BARE.match(text) else "Invalid MAC address."


def _cidr(value: Any) -> str | None:
    try:
        if not isinstance(value, str) or "/" not in value:
            raise ValueError(f"'{value}' has no prefix length")
        ipaddress.ip_network(value, strict=True)
    except ValueError as error:
        return f"Invalid net cidr {error} "
    return None


def _ip_or_cidr(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"{value} is not a valid IP or CIDR"
    if "/" not in value:
        return None if _ip(value) is None else f"'{value}' is not a valid IP address"
    return None if _cidr(value) is None else f"'{value}' is not a valid IP subnet"


def _host_name_problem(name: str) -> str | None:
    """Return why ``name`` is no host name."""
    trimmed = name.removesuffix(".")
    if len(trimmed) > _FQDN_MAX:
        return f"'{trimmed}' exceeds the {_FQDN_MAX} character FQDN limit"
    labels = trimmed.split(".")
    for label in labels:
        if not label:
            return "Encountered an empty component."
        if label.startswith("-") or label.endswith("-"):
            return f"Name '{label}' must not start or end with a hyphen."
        if not _LABEL.match(label):
            return (
                f"Name '{label}' must be 1-{_LABEL_MAX} characters long, each of which can only be alphanumeric or "
                "a hyphen."
            )
    # RFC 1123, 2.1: a top level domain is not all digits
    if name.endswith(".") and len(labels) > 1 and labels[-1].isdigit():
        return f"TLD '{labels[-1]}' must not be all numeric."
    return None


def _dns_name(value: Any) -> str | None:
    if not value:
        return None
    problem = _host_name_problem(value) if isinstance(value, str) else "It is not a string."
    return None if problem is None else f"'{value}' not in valid format. Reason: {problem}"


def _relative_dns_name(value: Any) -> str | None:
    text = str(value or "")
    if text.endswith("."):
        return f"'{text}' is a FQDN. It should be a relative domain name."
    if len(text) > _FQDN_MAX - 3:
        return (
            f"'{text}' contains '{len(text)}' characters. Adding a domain name will cause it to exceed the maximum "
            f"length of a FQDN of '{_FQDN_MAX}'."
        )
    return _dns_name(value)


def _dns_domain(value: Any) -> str | None:
    problem = _dns_name(value)
    if problem is None and value and not value.endswith("."):
        return f"'{value}' must end with '.'."
    return problem


def _time(value: Any) -> datetime.datetime:
    """Return the time that ISO 8601 text says, in UTC where it names no zone.

    :raises ValueError: it says none
    """
    moment = datetime.datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _iso_8601(value: Any) -> str | None:
    try:
        _time(value)
    except ValueError:
        return ""
    return None


def _expiration(value: Any) -> str | None:
    if not value:
        return None
    try:
        if _time(str(value).strip()) <= datetime.datetime.now(datetime.UTC):
            raise ValueError("Expiration time is out of date.")
    except (ValueError, OverflowError) as error:
        return f"Expiration {value} is invalid: {error}"
    return None


def _timezone(value: Any) -> str | None:
    if not value:
        return None
    try:
        zoneinfo.ZoneInfo(str(value))
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        return f"Invalid timezone: {error}"
    return None


def _json(value: Any) -> str | None:
    if not value:
        return None
    try:
        json.loads(value)
    except (ValueError, TypeError, RecursionError) as error:
        return f"JSON string {value} is invalid: {error}"
    return None


#: name in a template -> check
CHECKS: dict[str, Callable[[Any], str | None]] = {
    "dns_domain": _dns_domain,
    "dns_name": _dns_name,
    "expiration": _expiration,
    "ip_addr": _ip,
    "ip_or_cidr": _ip_or_cidr,
    "iso_8601": _iso_8601,
    "json_string": _json,
    "mac_addr": _mac,
    "net_cidr": _cidr,
    "rel_dns_name": _relative_dns_name,
    "timezone": _timezone,
}

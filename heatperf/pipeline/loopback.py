"""Development mode's door: programs and pages of this machine get in, web pages of other places do not.

In: every request, before any station of the pipeline. Out: the pipeline's answer, or a 403 in Heat's error shape.
Raises what the pipeline raises. Runs on the worker's loop.

Listening on loopback keeps other machines out, but not the browser of whoever develops here. There is no password in
this mode, and Heat takes text/plain as JSON, so any page could make stacks with a plain form post (CSRF). A page may
also point its own host name at 127.0.0.1 and then read the answers too (DNS rebinding). What a browser says of itself
in Host, Origin and Sec-Fetch-Site cannot be changed by the page; programs such as curl send a Host of loopback and
neither of the others.
"""

import ipaddress
import logging
import re
from collections.abc import Iterable
from typing import Any

import webob.exc

from heatperf.errors import heat
from heatperf.pipeline.faultwrap import FaultWrapper
from heatperf.pipeline.parts import App

LOG = logging.getLogger(__name__)

# Name or address, then perhaps a port (RFC 9110 7.2). What else a URI's authority may hold, browsers never send.
_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]*)?", re.ASCII)
# Sec-Fetch-Site of requests that no other site has caused; "none" is typed into the address bar (Fetch Metadata, 2.1).
_OWN_SITES = frozenset(("same-origin", "same-site", "none"))
# The list of versions: tells nothing about stacks, and is what a link in some documentation would lead to.
_VERSIONS = frozenset(("", "/", "/versions", "/versions/"))


class LoopbackOnly:
    """WSGI wrapper around a whole pipeline.

    :param conf: parsed configuration, as for the faultwrap station
    """

    def __init__(self, app: App, conf: Any) -> None:
        self._app = app
        self._faults = FaultWrapper(app, conf)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        reason = refusal(environ)
        if reason is None:
            return self._app(environ, start_response)
        LOG.info("Refused %s %r: %s", environ["REQUEST_METHOD"], environ["PATH_INFO"], reason)
        error = heat.HTTPExceptionDisguise(webob.exc.HTTPForbidden(reason))
        return self._faults.render(error, environ)(environ, start_response)


def refusal(environ: dict[str, Any]) -> str | None:
    """Return why a request may not pass, a sentence for the client; None for one that may."""
    host = environ.get("HTTP_HOST")
    if host is None:
        return "Development mode needs a Host header that names this machine, such as localhost."
    if not is_loopback(host):
        return f"Development mode answers to localhost, 127.0.0.1 and [::1] only, not to the host {host!r}."
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and not is_own_origin(origin):
        return f"Development mode takes no request from web pages of other places; the origin is {origin!r}."
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None and site not in _OWN_SITES and not _opens_versions(environ):
        return f"Development mode takes no request from web pages of other sites (Sec-Fetch-Site is {site!r})."
    return None


def is_loopback(host: str) -> bool:
    """Tell whether a Host header, with or without a port, names loopback.

    Names below localhost count: nobody can register one (RFC 6761 6.3).
    """
    match = _HOST.fullmatch(host.lower())
    if match is None:
        return False
    try:
        if match["v6"] is not None:
            return ipaddress.IPv6Address(match["v6"]) == ipaddress.IPv6Address("::1")
        name = match["name"].removesuffix(".")
        return name == "localhost" or name.endswith(".localhost") or ipaddress.IPv4Address(name).is_loopback
    except ValueError:
        return False


def is_own_origin(origin: str) -> bool:
    """Tell whether an Origin header is that of a page served on this machine.

    "null" is not: a page gets it by sandboxing itself in a frame.
    """
    scheme, _, host = origin.partition("://")
    return scheme in ("http", "https") and is_loopback(host)


def _opens_versions(environ: dict[str, Any]) -> bool:
    """Tell whether somebody followed a link to the list of versions, in a window and not in a frame."""
    return (
        environ["REQUEST_METHOD"] in ("GET", "HEAD")
        and environ["PATH_INFO"] in _VERSIONS
        and environ.get("HTTP_SEC_FETCH_MODE") == "navigate"
        and environ.get("HTTP_SEC_FETCH_DEST") == "document"
    )

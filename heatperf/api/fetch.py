"""Download a template_url.

Blocking, so it runs in the pool "fetch" of native threads; bounded by template_fetch_timeout (seconds, for connecting,
for each read, and for all of it) and max_template_size (bytes).

Anybody who may make stacks can have this server fetch from whatever it reaches, as with upstream; operators keep it in
bounds with their firewall. In development mode there is none, and everybody may, so fetch_public reaches public
addresses only.
"""

import logging
import time
from collections.abc import Callable
from urllib.parse import urlparse

import requests

from heatperf.api import public_addresses

LOG = logging.getLogger(__name__)

_CHUNK = 16384  # bytes per read: a limit is exceeded by at most this much


class FetchError(OSError):
    """The template could not be had; the text is shown to the client."""


def fetch(url: str, limit: int, timeout: float) -> bytes:
    """Return the body of ``url``.

    :param limit: largest body, bytes
    :param timeout: seconds to wait for a connection and for each read
    :raises FetchError: wrong scheme, too large, or not to be had
    """
    return _fetch(requests.get, url, limit, timeout)


def fetch_public(url: str, limit: int, timeout: float) -> bytes:
    """As :func:`fetch`, from public addresses only and without a proxy.

    :raises FetchError: also if the URL, or one it redirects to, leads elsewhere
    """
    with public_addresses.session() as session:
        try:
            return _fetch(session.get, url, limit, timeout)
        except public_addresses.NotPublic as error:
            LOG.info("Refused to fetch the template: %s", error)
            raise FetchError(
                f"Failed to retrieve template from {url}: {error}, and development mode fetches from no other"
            ) from error


def _fetch(get: Callable[..., requests.Response], url: str, limit: int, timeout: float) -> bytes:
    scheme = urlparse(url).scheme
    if scheme not in ("http", "https"):
        raise FetchError(f"Invalid URL scheme {scheme}")
    LOG.info("Fetching data from %s", _without_credentials(url))
    data = bytearray()
    end = time.monotonic() + timeout
    try:
        with get(url, stream=True, timeout=timeout) as response:
            response.raise_for_status()
            for chunk in response.iter_content(_CHUNK):
                data += chunk
                if time.monotonic() > end:  # a server that drips would otherwise hold the thread for days
                    raise TimeoutError
                if len(data) > limit:
                    raise FetchError(f"Template exceeds maximum allowed size ({limit} bytes)")
    except (requests.RequestException, TimeoutError) as error:
        LOG.info("Failed to retrieve template: %s", type(error).__name__)
        raise FetchError(f"Failed to retrieve template from {url}") from error
    return bytes(data)


def _without_credentials(url: str) -> str:
    parts = urlparse(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="***" if parts.query else "").geturl()

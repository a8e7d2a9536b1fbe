"""Download a template_url.

Blocking, so it runs in the pool "fetch" of native threads; bounded by template_fetch_timeout (seconds, for connecting,
for each read, and for all of it) and max_template_size (bytes).
"""

import logging
import time
from urllib.parse import urlparse

import requests

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
    scheme = urlparse(url).scheme
    if scheme not in ("http", "https"):
        raise FetchError(f"Invalid URL scheme {scheme}")
    LOG.info("Fetching data from %s", _without_credentials(url))
    data = bytearray()
    end = time.monotonic() + timeout
    try:
        with requests.get(url, stream=True, timeout=timeout) as response:
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

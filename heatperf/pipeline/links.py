"""Redirects under a URL scheme that is none: the same broken Location as upstream.

With proxy parsing on, ``X-Forwarded-Proto: https, http`` makes the scheme "https, http". WebOb completes a Location
that does not start with a scheme, and does not see that this one does. Upstream's filters each pass the answer through
WebOb, so each prefixes it once more; ours do not, except here.
"""

from collections.abc import Iterable
from typing import Any

import webob

from heatperf.pipeline.parts import App, Parts


def relay(app: App, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Call ``app``; complete the answer's Location as one of upstream's filters would."""

    def relinked(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        if environ["wsgi.url_scheme"] in ("http", "https"):
            return start_response(status, headers, *exc_info)
        webob.Response(status=status, headerlist=headers, app_iter=[])(environ, start_response)
        return lambda _data: None

    return app(environ, relinked)


def linked(app: App, parts: Parts) -> App:
    """Return ``app`` with :func:`relay` around it, or as it is where the scheme can only be http or https.

    The HTTP layer makes no other; so it takes a station that changes it, above or below.
    """
    if parts.known_only:
        return app
    return lambda environ, start_response: relay(app, environ, start_response)

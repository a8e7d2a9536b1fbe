"""Station versionnegotiation: which version of the API does the client want?

Out: the path without its version segment, passed on; or the list of versions (300); or 404. A version is a prefix of
the first segment (``v1``, ``v1.0``, but also ``v1-beta``), or part of a vendor media type in Accept. Paths below
``/v1/`` and the list itself are answered without WebOb; everything else by the reference. Runs on the worker's loop.
"""

import re
from collections.abc import Iterable
from typing import Any

import webob
import webob.exc

from heatperf.api import codec
from heatperf.pipeline.links import linked
from heatperf.pipeline.parts import App, current

_VERSION = re.compile(r"^v(\d+)\.?(\d+)?")
_MEDIA_TYPE = "application/vnd.openstack.orchestration-"
_LISTS = frozenset(("/", "/versions", "/versions/"))
#: Clients choose the URL that they use, so what is kept of them is bounded.
_MOST_URLS = 100
_LONGEST_URL = 500


def versions_answer(request: webob.Request) -> webob.Response:
    """Return the list of versions, with links relative to the URL the client used."""
    versions = [
        {
            "id": "v1.0",
            "status": "CURRENT",
            "links": [{"rel": "self", "href": f"{request.application_url}/v1/"}],
        }
    ]
    return webob.Response(
        status=300, content_type="application/json", charset=None, body=codec.encode({"versions": versions})
    )


def _is_v1(text: Any, environ: dict[str, Any]) -> bool | None:
    """Tell whether ``text`` starts with version 1.0; None where it starts with no version."""
    match = _VERSION.match(text)
    if match is None:
        return None
    major, minor = (int(part) for part in match.groups("0"))
    environ["api.major_version"], environ["api.minor_version"] = major, minor
    return (major, minor) == (1, 0)


class ReferenceVersionNegotiation:
    """The filter for all there is."""

    def __init__(self, app: App) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        answer = self.negotiate(webob.Request(environ))
        if answer is not None:
            return answer(environ, start_response)
        return self._app(environ, start_response)

    def negotiate(self, request: webob.Request) -> Any:
        """Return an answer, or None to pass the request on."""
        try:
            first = request.path_info_peek()
        except UnicodeDecodeError:
            return webob.exc.HTTPBadRequest()
        if first in ("versions", ""):
            return versions_answer(request)
        in_path = _is_v1(first, request.environ)
        if in_path is not None:
            if not in_path:
                return versions_answer(request)
            request.path_info_pop()
            return None
        accept = str(request.accept)
        if not accept.startswith(_MEDIA_TYPE):
            return webob.exc.HTTPNotFound()
        in_accept = _is_v1(accept[len(_MEDIA_TYPE) :], request.environ)
        # a vendor media type without any version is passed on, upstream's oddity
        return versions_answer(request) if in_accept is False else None


class VersionNegotiation(ReferenceVersionNegotiation):
    """The filter."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        #: scheme, host and prefix of the URL used -> the list's length as text, and the list
        self._lists: dict[tuple[str, str, str], tuple[str, bytes]] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        prefix = environ["SCRIPT_NAME"]
        # Beyond ASCII it may not be UTF-8, which is for the reference to find out.
        if path.startswith("/v1/") and path.isascii() and prefix.isascii():
            environ["api.major_version"], environ["api.minor_version"] = 1, 0
            environ["SCRIPT_NAME"] = prefix + "/v1"
            environ["PATH_INFO"] = path[3:]
            return self._app(environ, start_response)
        host = environ.get("HTTP_HOST")
        if path in _LISTS and host is not None and environ["REQUEST_METHOD"] != "HEAD":
            key = (environ["wsgi.url_scheme"], host, prefix)
            length, body = self._lists.get(key) or self._list(key, environ)
            start_response("300 Multiple Choices", [("Content-Type", "application/json"), ("Content-Length", length)])
            return [body]
        return super().__call__(environ, start_response)

    def _list(self, key: tuple[str, str, str], environ: dict[str, Any]) -> tuple[str, bytes]:
        body = versions_answer(webob.Request(environ)).body
        found = (str(len(body)), body)
        if sum(map(len, key)) <= _LONGEST_URL:
            if len(self._lists) >= _MOST_URLS:
                self._lists.clear()
            self._lists[key] = found
        return found


def factory(app: App, _conf: Any, **_local_conf: str) -> App:
    """Build the filter for ``heat.filter_factory``."""
    return VersionNegotiation(linked(app, current()))


def stock_factory(app: App, _conf: Any, **_local_conf: str) -> App:
    """Build the reference for ``heat.filter_factory``."""
    return ReferenceVersionNegotiation(linked(app, current()))

"""Station versionnegotiation: which version of the API does the client want?

Out: the path without its version segment, passed on; or the list of versions (300); or 404. A version is a prefix of
the first segment (``v1``, ``v1.0``, but also ``v1-beta``), or part of a vendor media type in Accept.
"""

import re
from collections.abc import Iterable
from typing import Any

import webob
import webob.exc

from heatperf.api import codec
from heatperf.pipeline.links import relay
from heatperf.pipeline.parts import App

_VERSION = re.compile(r"^v(\d+)\.?(\d+)?")
_MEDIA_TYPE = "application/vnd.openstack.orchestration-"


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


class VersionNegotiation:
    """The filter."""

    def __init__(self, app: App) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        answer = self.negotiate(webob.Request(environ))
        if answer is not None:
            return answer(environ, start_response)
        return relay(self._app, environ, start_response)

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


def factory(app: App, _conf: Any, **_local_conf: str) -> App:
    """Build the filter for ``heat.filter_factory``."""
    return VersionNegotiation(app)

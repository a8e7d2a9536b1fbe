"""Station custombackendauth: the engine decides whether the caller's credentials are good (flavor custombackend)."""

from collections.abc import Iterable
from typing import Any

import webob
import webob.exc

from heatperf.pipeline.parts import App, Filter, Parts, current


class CustomBackendAuth:
    """The filter; needs the context station above it."""

    def __init__(self, app: App, parts: Parts) -> None:
        self._app = app
        self._engine = parts.engine

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        context = webob.Request(environ).context
        if self._engine.call(context, "authenticated_to_backend"):
            return self._app(environ, start_response)
        return webob.exc.HTTPUnauthorized("Backend authentication failed", [])(environ, start_response)


def filter_factory(_global_conf: dict[str, str], **_local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    parts = current()
    return lambda app: CustomBackendAuth(app, parts)

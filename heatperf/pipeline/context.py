"""Station context: the RequestContext of the request, from what authtoken (or noauth) left in the environ.

Out: ``request.context`` for every station below, and the current context of this greenlet (heatperf.context).
"""

from collections.abc import Iterable
from typing import Any

import webob

from heatperf.context import RequestContext
from heatperf.pipeline.links import relay
from heatperf.pipeline.parts import App, Filter, Parts, current


class ContextFilter:
    """The filter. It takes no options: the key ``context_class`` that old files hold has no effect upstream either."""

    def __init__(self, app: App, parts: Parts) -> None:
        self._app = app
        self._policy = parts.policy

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        webob.Request(environ).context = self.context_for(environ)
        return relay(self._app, environ, start_response)

    def context_for(self, environ: dict[str, Any]) -> RequestContext:
        """Return the context of the caller that ``environ`` describes.

        User and key headers win over EC2 credentials, as upstream.
        """
        username = environ.get("HTTP_X_AUTH_USER")
        password = aws_creds = None
        if username is not None:
            password = environ.get("HTTP_X_AUTH_KEY")
        else:
            aws_creds = environ.get("HTTP_X_AUTH_EC2_CREDS")
        context = RequestContext.from_environ(
            environ,
            username=username,
            password=password,
            aws_creds=aws_creds,
            auth_url=environ.get("HTTP_X_AUTH_URL"),
            auth_token_info=environ.get("keystone.token_info"),
            region_name=environ.get("HTTP_X_REGION_NAME"),
            auth_plugin=environ.get("keystone.token_auth"),
        )
        context.is_admin = self._policy.is_admin(context)
        return context


def filter_factory(_global_conf: dict[str, str], **_local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    parts = current()
    return lambda app: ContextFilter(app, parts)

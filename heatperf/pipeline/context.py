"""Station context: the RequestContext of the request, from what authtoken (or noauth) left in the environ.

Out: ``request.context`` for every station below, and the current context of this greenlet (heatperf.context).
"""

from collections.abc import Iterable
from typing import Any

import webob
from oslo_utils import importutils

from heatperf.context import RequestContext
from heatperf.pipeline.links import relay
from heatperf.pipeline.parts import App, Filter, Parts, current


class ContextFilter:
    """The filter.

    :param kind: context class; another than ours where the paste section names one as ``context_class``
    """

    def __init__(self, app: App, parts: Parts, kind: Any = RequestContext) -> None:
        self._app = app
        self._policy = parts.policy
        self._kind = kind

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        webob.Request(environ).context = self.context_for(environ)
        return relay(self._app, environ, start_response)

    def context_for(self, environ: dict[str, Any]) -> Any:
        """Return the context of the caller that ``environ`` describes.

        User and key headers win over EC2 credentials, as upstream.
        """
        username = environ.get("HTTP_X_AUTH_USER")
        password = aws_creds = None
        if username is not None:
            password = environ.get("HTTP_X_AUTH_KEY")
        else:
            aws_creds = environ.get("HTTP_X_AUTH_EC2_CREDS")
        context = self._kind.from_environ(
            environ,
            username=username,
            password=password,
            aws_creds=aws_creds,
            auth_url=environ.get("HTTP_X_AUTH_URL"),
            auth_token_info=environ.get("keystone.token_info"),
            region_name=environ.get("HTTP_X_REGION_NAME"),
            auth_plugin=environ.get("keystone.token_auth"),
        )
        if isinstance(context, RequestContext):
            context.is_admin = self._policy.is_admin(context)
        return context


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    parts = current()
    name = {**global_conf, **local_conf}.get("context_class")
    kind = importutils.import_class(name) if name else RequestContext
    return lambda app: ContextFilter(app, parts, kind)

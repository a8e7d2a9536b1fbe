"""Station context: the RequestContext of the request, from what authtoken (or noauth) left in the environ.

Out: ``request.context`` for every station below, and the current context of this greenlet (heatperf.context). A caller
whom authtoken (or noauth) knows already costs a copy of what was made of the environ the first time.
"""

from collections.abc import Iterable
from typing import Any

import webob

from heatperf.context import CALLER, RequestContext
from heatperf.pipeline.links import linked
from heatperf.pipeline.parts import App, Filter, Parts, current


class ContextFilter:
    """The filter. It takes no options: the key ``context_class`` that old files hold has no effect upstream either."""

    def __init__(self, app: App, parts: Parts) -> None:
        self._app = linked(app, parts)
        self._policy = parts.policy

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        caller = environ.get(CALLER)
        if caller is None:
            context = self.context_for(environ)
        elif caller.fields is None:
            context = self.context_for(environ)
            context.remember(caller)
        else:
            context = RequestContext.of_caller(caller, environ)
            context._is_admin = self._policy.is_admin(context)
        # what webob.Request(environ).context = context does
        attributes = environ.get("webob.adhoc_attrs")
        if attributes is None:
            environ["webob.adhoc_attrs"] = {"context": context}
        else:
            attributes["context"] = context
        return self._app(environ, start_response)

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


class StockContextFilter(ContextFilter):
    """The filter, without remembering anybody."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        webob.Request(environ).context = self.context_for(environ)
        return self._app(environ, start_response)


def filter_factory(_global_conf: dict[str, str], **_local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    parts = current()
    return lambda app: ContextFilter(app, parts)


def stock_filter_factory(_global_conf: dict[str, str], **_local_conf: str) -> Filter:
    """Build the filter that makes each context of the whole environ."""
    parts = current()
    return lambda app: StockContextFilter(app, parts)

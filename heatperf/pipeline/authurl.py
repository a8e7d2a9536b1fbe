"""Station authurl: X-Auth-Url, the Keystone that the engine will use for this caller.

Overwrites the client's header with the configured URL; with ``[auth_password] multi_cloud`` the client chooses among
the allowed ones. With ``[clients_keystone] auth_uri`` the URL is discovered at the first request that needs it, in the
pool "auth", and kept. Runs on the worker's loop.
"""

from collections.abc import Iterable
from typing import Any

import webob.exc

from heatperf.pipeline import keystone
from heatperf.pipeline.links import linked
from heatperf.pipeline.parts import App, Filter, Parts, current


class ReferenceAuthUrl:
    """The filter for all there is.

    :param configured: ``auth_uri`` of the paste section, which spares the discovery
    """

    def __init__(self, app: App, parts: Parts, configured: str | None) -> None:
        self._app = app
        self._parts = parts
        self._auth_url = configured

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            environ["HTTP_X_AUTH_URL"] = self.auth_url(environ.get("HTTP_X_AUTH_URL"))
        except webob.exc.HTTPException as answer:
            return answer(environ, start_response)
        return self._app(environ, start_response)

    def auth_url(self, given: str | None) -> str | None:
        """Return the URL to send on.

        :param given: what the client sent
        :raises webob.exc.HTTPException: several clouds are served and the client named none, or one not allowed
        """
        conf = self._parts.conf
        if not self._auth_url:
            self._auth_url = self._parts.auth_pool.run(keystone.auth_uri, conf, False)
        if not conf.auth_password.multi_cloud:
            return self._auth_url
        if not given:
            raise webob.exc.HTTPBadRequest("Request missing required header X-Auth-Url")
        if given not in conf.auth_password.allowed_auth_uris:
            raise webob.exc.HTTPUnauthorized(f'Header X-Auth-Url "{given}" not an allowed endpoint')
        return given


class AuthUrl(ReferenceAuthUrl):
    """The filter: with one cloud, whose URL is known, there is nothing to find out."""

    def __init__(self, app: App, parts: Parts, configured: str | None) -> None:
        super().__init__(app, parts, configured)
        conf = parts.conf
        self._one_cloud = not conf.auth_password.multi_cloud
        #: whether the URL is known, which may also be that there is none
        self._known = bool(configured)
        if not configured and not conf.clients_keystone.auth_uri:
            self._auth_url = keystone.auth_uri(conf, False)  # asks nobody
            self._known = True

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if self._one_cloud and (self._known or self._auth_url):
            environ["HTTP_X_AUTH_URL"] = self._auth_url
            return self._app(environ, start_response)
        return super().__call__(environ, start_response)


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    parts = current()
    configured = {**global_conf, **local_conf}.get("auth_uri")
    return lambda app: AuthUrl(linked(app, parts), parts, configured)


def stock_filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build the reference for ``paste.filter_factory``."""
    parts = current()
    configured = {**global_conf, **local_conf}.get("auth_uri")
    return lambda app: ReferenceAuthUrl(linked(app, parts), parts, configured)

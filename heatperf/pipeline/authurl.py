"""Station authurl: X-Auth-Url, the Keystone that the engine will use for this caller.

Overwrites the client's header with the configured URL; with ``[auth_password] multi_cloud`` the client chooses among
the allowed ones. The URL is discovered at the first request that needs it and kept.
"""

from collections.abc import Iterable
from typing import Any

import webob.exc

from heatperf.pipeline import keystone
from heatperf.pipeline.links import relay
from heatperf.pipeline.parts import App, Filter, Parts, current


class AuthUrl:
    """The filter.

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
        return relay(self._app, environ, start_response)

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


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    parts = current()
    configured = {**global_conf, **local_conf}.get("auth_uri")
    return lambda app: AuthUrl(app, parts, configured)

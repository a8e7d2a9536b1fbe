"""Station authpassword: name and password of every request, checked at Keystone (flavor standalone).

In: X-Auth-User and X-Auth-Key, the project as first path segment, X-Auth-Url from authurl. Out: the identity headers
that authtoken would set. There is no cache; each request is a round trip in the pool "auth".

Upstream leaves identity headers that it does not set itself as the client sent them, OpenStack-System-Scope among them.
Here nobody gets a scope but by Keystone.
"""

from collections.abc import Iterable
from typing import Any

import webob.exc
from keystoneauth1 import exceptions
from keystoneauth1.identity import generic

from heatperf.context import CALLER
from heatperf.errors import heat
from heatperf.pipeline import keystone
from heatperf.pipeline.parts import App, Filter, Parts, current
from heatperf.pipeline.tokens import IDENTITY_KEYS

_REFUSED = (
    exceptions.Unauthorized,
    exceptions.Forbidden,
    exceptions.NotFound,
    exceptions.AuthorizationFailure,
)

#: What a client could say of itself; X-User-Domain-Id says where its user name is to be looked up.
_SPOOFED = (IDENTITY_KEYS | {"HTTP_OPENSTACK_SYSTEM_SCOPE", CALLER}) - {"HTTP_X_USER_DOMAIN_ID"}


class AuthPassword:
    """The filter."""

    def __init__(self, app: App, parts: Parts) -> None:
        self._app = app
        self._parts = parts
        self._session = keystone.keystone_session(parts.conf)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        for name in _SPOOFED:
            environ.pop(name, None)
        project_id = environ["PATH_INFO"].split("/")[1]
        try:
            if not project_id:
                raise exceptions.Unauthorized()
            access = self._parts.auth_pool.run(self._authenticate, environ, project_id)
        except _REFUSED:
            uri = environ.get("HTTP_X_AUTH_URL")
            refusal = webob.exc.HTTPUnauthorized(
                "Authentication required", [("WWW-Authenticate", f"Keystone uri='{uri}'")]
            )
            return refusal(environ, start_response)
        environ.update(
            HTTP_X_IDENTITY_STATUS="Confirmed",
            HTTP_X_PROJECT_ID=access.project_id,
            HTTP_X_PROJECT_NAME=access.project_name,
            HTTP_X_USER_ID=access.user_id,
            HTTP_X_USER_NAME=access.username,
            HTTP_X_ROLES=",".join(access.role_names),
            HTTP_X_SERVICE_CATALOG=access.service_catalog,
            HTTP_X_AUTH_TOKEN=access.auth_token,
            HTTP_X_USER_DOMAIN_ID=access.user_domain_id,
        )
        return self._app(environ, start_response)

    def _authenticate(self, environ: dict[str, Any], project_id: str) -> Any:
        """Return Keystone's answer; blocks.

        :raises heat.AuthorizationFailure: there is no password, or no Keystone to ask
        """
        password = environ.get("HTTP_X_AUTH_KEY")
        if not password:
            raise heat.AuthorizationFailure()
        auth_url = environ.get("HTTP_X_AUTH_URL")
        auth_url = auth_url.replace("v2.0", "v3") if auth_url else keystone.auth_uri(self._parts.conf, True)
        if not auth_url:
            raise heat.AuthorizationFailure()
        plugin = generic.Password(
            auth_url=auth_url,
            username=environ.get("HTTP_X_AUTH_USER"),
            password=password,
            project_id=project_id,
            user_domain_id=environ.get("HTTP_X_USER_DOMAIN_ID"),
        )
        return plugin.get_access(self._session)


def filter_factory(_global_conf: dict[str, str], **_local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    parts = current()
    return lambda app: AuthPassword(app, parts)

"""Station noauth: everybody is who they say. For tests and closed installations.

Upstream's: the project is the one of the header X-Auth-Project, whatever the path says, and the role is admin alone,
which the default policies of today refuse nearly everywhere. A configuration of an operator's own gets exactly that.

Development mode's: the project is the one in the path, and the roles are those of a project's administrator, so that a
client needs nothing but the endpoint, the default policies stay in force, and projects do not see each other's stacks.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import webob

from heatperf.errors import ConfigurationError
from heatperf.pipeline.parts import App, Filter, current

# What versionnegotiation takes for a version; in this pipeline it comes later.
_VERSION = re.compile(r"v\d")


class NoAuth:
    """The filter.

    :param token_info: content for keystone.token_info, or nothing
    """

    roles: ClassVar[str] = "admin"

    def __init__(self, app: App, token_info: Any = None) -> None:
        self._app = app
        self._token_info = token_info

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        user = environ.get("HTTP_X_AUTH_USER", "admin")
        project = self.project(environ)
        environ.update(
            HTTP_X_IDENTITY_STATUS="Confirmed",
            HTTP_X_PROJECT_ID=project,
            HTTP_X_PROJECT_NAME=project,
            HTTP_X_USER_ID=user,
            HTTP_X_USER_NAME=user,
            HTTP_X_ROLES=self.roles,
            HTTP_X_SERVICE_CATALOG={},
            HTTP_X_AUTH_USER=user,
            HTTP_X_AUTH_KEY="unset",
            HTTP_X_AUTH_URL="url",
        )
        if self._token_info:
            environ["keystone.token_info"] = self._token_info
        return self._app(environ, start_response)

    def project(self, environ: dict[str, Any]) -> str:
        """Return the project, id and name in one, that the caller works in."""
        return str(environ.get("HTTP_X_AUTH_PROJECT", "admin"))


class DevelopmentNoAuth(NoAuth):
    """The filter in development mode.

    An administrator of the deployment sees everybody's stacks in the list of his own; who wants to be one sends
    X-Is-Admin-Project: True.
    """

    # admin implies member, and member reader, in a Keystone that is set up as it recommends
    roles = "admin,member,reader"

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ.setdefault("HTTP_X_IS_ADMIN_PROJECT", "False")
        return super().__call__(environ, start_response)

    def project(self, environ: dict[str, Any]) -> str:
        """Return the project of the path ``[/VERSION]/PROJECT/...``; of the header where the path has none.

        A name beyond ASCII is decoded, where Routes leaves its bytes apart; so the controllers refuse it with 403, and
        links with a wrong project are never sent out.
        """
        try:
            segments = webob.Request(environ).path_info.split("/")[1:]
        except UnicodeDecodeError:  # refused further down
            segments = []
        if segments and _VERSION.match(segments[0]):
            del segments[0]
        return segments[0] if segments and segments[0] else super().project(environ)


def _token_info(path: str) -> Any:
    """Return what [noauth] token_response holds, nothing where the file does not exist.

    :raises ConfigurationError: it is not JSON
    """
    if not path or not Path(path).exists():
        return None
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the file cannot be used: {error}", "write a token response as JSON", path, "[noauth] token_response"
        ) from error


def filter_factory(_global_conf: dict[str, str], **_local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    parts = current()
    token_info = _token_info(parts.conf.noauth.token_response)
    kind = DevelopmentNoAuth if parts.development else NoAuth
    return lambda app: kind(app, token_info)

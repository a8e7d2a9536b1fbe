"""Station noauth: everybody is who they say, with role admin. For tests and closed installations."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from heatperf.errors import ConfigurationError
from heatperf.pipeline.parts import App, Filter, current


class NoAuth:
    """The filter.

    :param token_info: content for keystone.token_info, or nothing
    """

    def __init__(self, app: App, token_info: Any = None) -> None:
        self._app = app
        self._token_info = token_info

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        user = environ.get("HTTP_X_AUTH_USER", "admin")
        project = environ.get("HTTP_X_AUTH_PROJECT", "admin")
        environ.update(
            HTTP_X_IDENTITY_STATUS="Confirmed",
            HTTP_X_PROJECT_ID=project,
            HTTP_X_PROJECT_NAME=project,
            HTTP_X_USER_ID=user,
            HTTP_X_USER_NAME=user,
            HTTP_X_ROLES="admin",
            HTTP_X_SERVICE_CATALOG={},
            HTTP_X_AUTH_USER=user,
            HTTP_X_AUTH_KEY="unset",
            HTTP_X_AUTH_URL="url",
        )
        if self._token_info:
            environ["keystone.token_info"] = self._token_info
        return self._app(environ, start_response)


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
    token_info = _token_info(current().conf.noauth.token_response)
    return lambda app: NoAuth(app, token_info)

"""Station noauth: everybody is who they say. For tests and closed installations.

Upstream's: the project is the one of the header X-Auth-Project, whatever the path says, and the role is admin alone,
which the default policies of today refuse nearly everywhere. A configuration of an operator's own gets exactly that.

Development mode's: the project is the one in the path, and the roles are those of a project's administrator, so that a
client needs nothing but the endpoint, the default policies stay in force, and projects do not see each other's stacks.

Out, besides the identity headers: a Caller in ``environ["heatperf.caller"]``, the same for all requests that say the
same of themselves, unless they say what only few do. Runs on the loop.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import webob
from oslo_context import context as oslo_context

from heatperf.context import CALLER
from heatperf.errors import ConfigurationError
from heatperf.pipeline.parts import App, Filter, current
from heatperf.pipeline.tokens import ENTRY_OVERHEAD, INFINITE, Bounded, Entry, footprint

#: Further headers that the context takes over as the client sent them: a request with one of them gets no Caller.
_UNUSUAL = frozenset(
    name for names in oslo_context._ENVIRON_HEADERS.values() for name in names if name.startswith("HTTP_")
) | {"HTTP_X_SERVICE_ROLES"}
_UNUSUAL -= {"HTTP_X_AUTH_TOKEN", "HTTP_X_PROJECT_ID", "HTTP_X_PROJECT_NAME", "HTTP_X_USER_ID", "HTTP_X_USER_NAME"}
# No client can send these; a filter above may have found out about the token.
_UNUSUAL |= {"keystone.token_auth", "keystone.token_info"}

#: Bytes of memory for Callers: some hundred of them.
_CALLERS = 4 * 1024 * 1024


class NoAuth:
    """The filter.

    :param token_info: content for keystone.token_info, or nothing
    :param remember: what was made of earlier requests that say the same of themselves
    """

    roles: ClassVar[str] = "admin"

    def __init__(self, app: App, token_info: Any = None, remember: bool = True) -> None:
        self._app = app
        self._remember = remember
        self._token_info = token_info
        self._callers: Bounded[Entry] = Bounded(_CALLERS)
        self._entries = self._callers.entries

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        get = environ.get
        user = get("HTTP_X_AUTH_USER", "admin")
        project = self.project(environ)
        if self._remember and _UNUSUAL.isdisjoint(environ):
            key = user, project, get("HTTP_X_AUTH_TOKEN"), get("HTTP_X_IS_ADMIN_PROJECT")
            caller = self._entries.get(key)
            if caller is None:
                caller = self._new(key, user, project)
            caller.used = True
            environ.update(caller.environ)
            environ[CALLER] = caller
        else:
            environ.pop(CALLER, None)
            environ.update(self._said(user, project))
        environ["HTTP_X_SERVICE_CATALOG"] = {}
        return self._app(environ, start_response)

    def _said(self, user: str, project: str) -> dict[str, Any]:
        """Return what the environ gets."""
        said: dict[str, Any] = {
            "HTTP_X_IDENTITY_STATUS": "Confirmed",
            "HTTP_X_PROJECT_ID": project,
            "HTTP_X_PROJECT_NAME": project,
            "HTTP_X_USER_ID": user,
            "HTTP_X_USER_NAME": user,
            "HTTP_X_ROLES": self.roles,
            "HTTP_X_AUTH_USER": user,
            "HTTP_X_AUTH_KEY": "unset",
            "HTTP_X_AUTH_URL": "url",
        }
        if self._token_info:
            said["keystone.token_info"] = self._token_info
        return said

    def _new(self, key: tuple[Any, ...], user: str, project: str) -> Entry:
        said = self._said(user, project)
        entry = Entry(said, INFINITE, INFINITE, ENTRY_OVERHEAD + footprint(key))
        self._callers.put(key, entry, 0.0)
        return entry

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
        path = environ["PATH_INFO"]
        try:
            segments = (path if path.isascii() else webob.Request(environ).path_info).split("/", 3)[1:3]
        except UnicodeDecodeError:  # refused further down
            segments = []
        # what versionnegotiation takes for a version; in this pipeline it comes later
        if segments and segments[0][:1] == "v" and segments[0][1:2].isdecimal():
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
    return _factory(remember=True)


def stock_filter_factory(_global_conf: dict[str, str], **_local_conf: str) -> Filter:
    """Build the filter that treats every request as the first."""
    return _factory(remember=False)


def _factory(remember: bool) -> Filter:
    parts = current()
    token_info = _token_info(parts.conf.noauth.token_response)
    kind = DevelopmentNoAuth if parts.development else NoAuth
    return lambda app: kind(app, token_info, remember)

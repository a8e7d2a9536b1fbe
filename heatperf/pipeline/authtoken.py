"""Station authtoken: keystonemiddleware's AuthProtocol, with its waiting moved off the loop.

Everything runs on the loop but the two steps that wait: asking memcached (pool "tokens") and asking Keystone (pool
"auth"). They are apart so that tokens nobody knows, and a Keystone that is slow about them, never delay a token that is
cached; one cached in this process needs no thread at all. Options are keystonemiddleware's.
"""

from collections.abc import Iterable
from typing import Any

import webob.exc
from keystonemiddleware import auth_token

# The request class that AuthProtocol's methods expect; its own __call__ makes it by webob.dec.wsgify.
from keystonemiddleware.auth_token import _request

from heatperf.pipeline.parts import App, Filter, Parts, current


class _Protocol(auth_token.AuthProtocol):
    """AuthProtocol whose process_request may be called on the loop: only ``fetch_token`` waits, and it parks."""

    def __init__(self, app: App, parts: Parts, conf: dict[str, str]) -> None:
        super().__init__(app, conf)
        self._parts = parts
        # `cache` names a key of the environ that holds a memcached client of another filter's
        self._cached_elsewhere = bool(self._conf.get("memcached_servers") or self._conf.get("cache"))

    def fetch_token(self, token: str, allow_expired: bool = False) -> Any:
        """Return the token's data from the cache, or else from Keystone.

        :raises keystonemiddleware.auth_token._exceptions.InvalidToken: Keystone does not know it
        :raises webob.exc.HTTPServiceUnavailable: Keystone cannot be reached
        :raises Overloaded: too many requests wait for the same
        """
        look_up = self._token_cache.get
        data = self._parts.token_pool.run(look_up, token) if self._cached_elsewhere else look_up(token)
        if data:
            return data[0] if len(data) == 2 else data  # an older release cached pairs of data and expiry
        return self._parts.auth_pool.run(super().fetch_token, token, allow_expired)


class AuthToken:
    """The filter.

    :param conf: global and local keys of the paste section; they override [keystone_authtoken]
    """

    def __init__(self, app: App, parts: Parts, conf: dict[str, str]) -> None:
        self._app = app
        self._protocol = _Protocol(app, parts, conf)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = _request._AuthTokenRequest(environ)
        try:
            answer = self._protocol.process_request(request)
            if answer is None:
                answer = self._protocol.process_response(request.get_response(self._app))
        except webob.exc.HTTPException as refusal:
            answer = refusal
        return answer(environ, start_response)


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    parts = current()
    conf = {**global_conf, **local_conf}
    return lambda app: AuthToken(app, parts, conf)

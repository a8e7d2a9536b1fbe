"""Station authtoken: keystonemiddleware's AuthProtocol, with its waiting moved off the loop.

Validating a token may ask memcached and Keystone, so it runs in the pool "auth"; the stations below run on the loop,
and the answer's own part (WWW-Authenticate on 401) is done there too. Options are keystonemiddleware's.
"""

from collections.abc import Iterable
from typing import Any

import webob.exc
from keystonemiddleware import auth_token

# The request class that AuthProtocol's methods expect; its own __call__ makes it by webob.dec.wsgify.
from keystonemiddleware.auth_token import _request

from heatperf.pipeline.parts import App, Filter, Parts, current


class AuthToken:
    """The filter.

    :param conf: global and local keys of the paste section; they override [keystone_authtoken]
    """

    def __init__(self, app: App, parts: Parts, conf: dict[str, str]) -> None:
        self._app = app
        self._parts = parts
        self._protocol = auth_token.AuthProtocol(app, conf)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = _request._AuthTokenRequest(environ)
        try:
            answer = self._parts.auth_pool.run(self._protocol.process_request, request)
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

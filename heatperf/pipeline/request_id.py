"""Station request_id: an id for each request, for its log lines, its RPC messages and its answer.

In: perhaps the caller's own id in X-Openstack-Request-Id. Out: ``openstack.request_id`` (a new one) and
``openstack.global_request_id`` (the caller's, if it is one) in the environ; the header x-openstack-request-id in the
answer. Runs on the worker's loop.
"""

import os
import re
from collections.abc import Iterable
from typing import Any

import webob.exc
from oslo_middleware import request_id
from webob.compat import reraise

from heatperf.pipeline.heads import REWINDS, USUAL, Headers, StartResponse, through_webob
from heatperf.pipeline.parts import App, Filter

_HEADER = request_id.HTTP_RESP_HEADER_REQUEST_ID
_is_id = re.compile(request_id.ID_FORMAT).match
_INDIFFERENT = frozenset(("Content-Type", "Content-Length"))
#: Random digits for ids to come, 32 of them per id. Never shared by two processes: their ids would be the same.
_digits: list[str] = []
os.register_at_fork(after_in_child=_digits.clear)
_AT_ONCE = 32
#: The two bits that say "variant of RFC 9562", in place of two random ones.
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


def new_id() -> str:
    """Return ``req-`` and a random UUID (RFC 9562 5.4), as oslo.context makes it."""
    try:
        digits = _digits.pop()
    except IndexError:  # one call of the system for many ids
        supply = os.urandom(16 * _AT_ONCE).hex()
        _digits.extend(supply[start : start + 32] for start in range(0, len(supply), 32))
        return new_id()
    return f"req-{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


class RequestId:
    """The filter.

    :param stock: oslo.middleware's own, around ``app``; it gets the requests that are out of the ordinary
    """

    def __init__(self, app: App, stock: App) -> None:
        self._app = app
        self._stock = stock

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "HEAD" or REWINDS in environ:
            return self._stock(environ, start_response)
        given = environ.get("HTTP_X_OPENSTACK_REQUEST_ID")
        if given is not None and _is_id(given):
            environ["openstack.global_request_id"] = given
        own = environ["openstack.request_id"] = new_id()

        def respond(status: str, headers: Headers, exc_info: Any = None) -> Any:
            if exc_info is not None:
                reraise(exc_info)
            usual, missing = status in USUAL, True
            for name, _ in headers:
                if name not in _INDIFFERENT:
                    lowered = name.lower()
                    if lowered == _HEADER:
                        missing = False
                    elif lowered == "location":
                        usual = False
            if missing:
                headers = [*headers, (_HEADER, own)]  # the list may belong to somebody who uses it again
            if usual:
                return start_response(status, headers)
            return start_response(*through_webob(environ, status, headers))

        try:
            return self._app(environ, respond)
        except webob.exc.HTTPException as answer:
            return answer(environ, start_response)


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    stock = stock_filter_factory(global_conf, **local_conf)
    return lambda app: RequestId(app, stock(app))


def stock_filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build oslo.middleware's filter."""
    return request_id.RequestId.factory(global_conf, **local_conf)

"""What a filter built on WebOb does to every answer, whatever else it is for; and doing so only where it shows.

oslo.middleware and osprofiler turn the answer of what is below them into a ``webob.Response`` and that into an answer
again. Mostly nothing changes. What can: a status without a reason gets one, a relative Location becomes absolute, a
HEAD loses its body, ``exc_info`` and WebOb's HTTP exceptions end here. Runs on the worker's loop; raises what the
application raises.
"""

from collections.abc import Callable, Iterable
from typing import Any

import webob
import webob.exc
from webob.compat import reraise
from webob.util import status_reasons

from heatperf.pipeline.parts import App, Parts

Headers = list[tuple[str, str]]
StartResponse = Callable[..., Any]

#: Statuses that WebOb keeps as they are: those it would write itself.
USUAL = frozenset(f"{code} {reason}" for code, reason in status_reasons.items())
#: Headers that nobody here looks at, in the spelling of nearly every answer.
_INDIFFERENT = frozenset(("Content-Type", "Content-Length"))
#: Set by filters that read the body with WebOb: it is rewound before each call then, which is left to WebOb.
REWINDS = "webob.is_body_seekable"


def passed_on(environ: dict[str, Any], status: str, headers: Headers) -> tuple[str, Headers]:
    """Return status and headers as WebOb passes them on; the same objects where that changes nothing.

    :raises ValueError: the status is none
    """
    if status in USUAL:
        for name, _ in headers:
            if name not in _INDIFFERENT and name.lower() == "location":
                break
        else:
            return status, headers
    return through_webob(environ, status, headers)


def through_webob(environ: dict[str, Any], status: str, headers: Headers) -> tuple[str, Headers]:
    """Return status and headers as they come out of a ``webob.Response``: the reference for :func:`passed_on`."""
    head: list[Any] = []
    answer = webob.Response(status=status, headerlist=list(headers), app_iter=())
    answer(environ, lambda *given: head.extend(given))
    return head[0], head[1]


class PassThrough:
    """A stock filter that has nothing to do but what is said above.

    :param stock: the filter itself, around ``app``; it gets the requests that are out of the ordinary
    """

    def __init__(self, app: App, stock: App) -> None:
        self._app = app
        self._stock = stock

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "HEAD" or REWINDS in environ:
            return self._stock(environ, start_response)

        def respond(status: str, headers: Headers, exc_info: Any = None) -> Any:
            if exc_info is not None:
                reraise(exc_info)
            return start_response(*passed_on(environ, status, headers))

        try:
            return self._app(environ, respond)
        except webob.exc.HTTPException as answer:
            return answer(environ, start_response)


def passing(app: App, stock: App, parts: Parts) -> App:
    """Return ``app`` for a stock filter around it that has nothing to do: ``app`` itself where nothing would show."""
    return app if parts.known_only else PassThrough(app, stock)

"""Station cors: lets web pages of allowed origins use the API (Fetch Standard, "CORS protocol").

With ``oslo_config_project`` in its section (and oslo.middleware insists on that) the stock filter parses the default
configuration files by itself, whatever files the server was started with. Upstream behaves so, and so does this server;
only development mode, which reads no file that is not named, hands it the server's own configuration.

In: every request. Out: the answer of what is below; an OPTIONS that is not answered with 2xx becomes an empty 200, with
or without Origin, and with or without anything configured. Preflights and requests of allowed origins are answered
here; what an origin may not do is left to the stock filter, which notes the reason in its debug log. Runs on the
worker's loop.
"""

from collections.abc import Iterable
from typing import Any

import webob.exc
from oslo_middleware import cors
from webob.compat import reraise

from heatperf.pipeline.heads import REWINDS, Headers, StartResponse, passed_on, passing
from heatperf.pipeline.parts import App, Filter, Parts, current

_ORIGIN = "Access-Control-Allow-Origin"
_EMPTY: Headers = [("Content-Length", "0")]
_SIMPLE = frozenset(name.upper() for name in cors.CORS.simple_headers)


class Cors:
    """The filter.

    :param stock: oslo.middleware's own, around ``app``; it gets the requests that are out of the ordinary
    """

    def __init__(self, app: App, stock: cors.CORS, parts: Parts) -> None:
        self._app = app
        self._passing = passing(app, stock, parts)
        self._stock = stock
        self._origins = {name: _Origin(name, settings) for name, settings in stock.allowed_origins.items()}

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "OPTIONS":
            if self._origins and "HTTP_ORIGIN" in environ:
                return self._shared(environ, start_response)
            return self._passing(environ, start_response)
        added: Headers | None = []
        if self._origins and "HTTP_ORIGIN" in environ:
            origin = self._origin(environ)
            added = None if origin is None else origin.preflight(environ)
        if added is None or REWINDS in environ:
            return self._stock(environ, start_response)
        return self._options(environ, start_response, added)

    def _origin(self, environ: dict[str, Any]) -> "_Origin | None":
        return self._origins.get(environ["HTTP_ORIGIN"]) or self._origins.get("*")

    def _options(self, environ: dict[str, Any], start_response: StartResponse, added: Headers) -> Iterable[bytes]:
        """Answer an OPTIONS request; ``added`` are headers of an allowed preflight."""
        replaced = False

        def respond(status: str, headers: Headers, exc_info: Any = None) -> Any:
            nonlocal replaced
            if exc_info is not None:
                reraise(exc_info)
            status, headers = passed_on(environ, status, headers)
            if not _has(headers, _ORIGIN):
                if not status.startswith("2"):
                    replaced = True
                    status, headers = "200 OK", [*_EMPTY, *added]
                elif added:
                    headers = _with(headers, added)
            return start_response(status, headers)

        try:
            answer = self._app(environ, respond)
        except webob.exc.HTTPException as refusal:
            return refusal(environ, start_response)
        if not replaced:
            return answer
        close = getattr(answer, "close", None)
        if close is not None:
            close()
        return [b""]

    def _shared(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request of a web page with another origin."""
        origin = self._origin(environ)
        if origin is None or environ["REQUEST_METHOD"] == "HEAD" or REWINDS in environ:
            return self._stock(environ, start_response)

        def respond(status: str, headers: Headers, exc_info: Any = None) -> Any:
            if exc_info is not None:
                reraise(exc_info)
            status, headers = passed_on(environ, status, headers)
            if not _has(headers, _ORIGIN):
                varies = [value for name, value in headers if name.lower() == "vary"]
                headers = _with(headers, [("Vary", f"{varies[-1]},Origin" if varies else "Origin"), *origin.shared])
            return start_response(status, headers)

        try:
            return self._app(environ, respond)
        except webob.exc.HTTPException as answer:
            return answer(environ, start_response)


class _Origin:
    """What pages of one origin may do.

    :param name: the origin, or ``*``
    :param settings: as oslo.middleware holds them
    """

    def __init__(self, name: str, settings: cors.AllowedOrigin) -> None:
        credentials = [("Access-Control-Allow-Credentials", "true")] if settings["allow_credentials"] else []
        age = [("Access-Control-Max-Age", str(settings["max_age"]))] if settings["max_age"] else []
        exposed = settings["expose_headers"]
        self._methods = frozenset(settings["allow_methods"])
        self._headers = _SIMPLE.union(name.upper() for name in settings["allow_headers"])
        self._allowed: Headers = [("Vary", "Origin"), (_ORIGIN, name), *credentials, *age]
        #: for any answer but a preflight's, besides Vary
        self.shared: Headers = [(_ORIGIN, name), *credentials]
        if exposed:
            self.shared.append(("Access-Control-Expose-Headers", ",".join(exposed)))

    def preflight(self, environ: dict[str, Any]) -> Headers | None:
        """Return the headers that allow what a preflight asks for, or None where it may not be."""
        method = environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD")
        if method not in self._methods:
            return None
        words = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "").split(",")
        headers = [word for word in map(str.strip, words) if word]
        if not self._headers.issuperset(map(str.upper, headers)):
            return None
        added = [*self._allowed, ("Access-Control-Allow-Methods", method)]
        if headers:
            added.append(("Access-Control-Allow-Headers", ",".join(headers)))
        return added


def _has(headers: Headers, wanted: str) -> bool:
    wanted = wanted.lower()
    return any(name.lower() == wanted for name, _ in headers)


def _with(headers: Headers, added: Headers) -> Headers:
    """Return ``headers`` with those of the same names replaced by ``added``, at the end."""
    names = {name.lower() for name, _ in added}
    return [header for header in headers if header[0].lower() not in names] + added


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    parts = current()
    stock = stock_filter_factory(global_conf, **local_conf)
    return lambda app: Cors(app, stock(app), parts)


def stock_filter_factory(global_conf: dict[str, str], **local_conf: str) -> Any:
    """Build oslo.middleware's filter."""
    parts = current()
    if parts.development:
        return lambda app: cors.CORS(app, parts.conf)
    return cors.CORS.factory(global_conf, **local_conf)

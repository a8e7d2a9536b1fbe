"""Station http_proxy_to_wsgi: believes what proxies in front say of scheme, host and client.

Only with ``[oslo_middleware] enable_proxy_headers_parsing``; without it, there is nothing to do. In: Forwarded
(RFC 7239; its first element counts), or else X-Forwarded-Proto, -Host and -For, each taken as it stands; and
X-Forwarded-Prefix. Out: the environ, changed accordingly. Runs on the worker's loop.
"""

from collections.abc import Iterable
from typing import Any

from oslo_middleware import http_proxy_to_wsgi

from heatperf.pipeline.heads import REWINDS, PassThrough, StartResponse, passing
from heatperf.pipeline.parts import App, Filter, Parts, current

OPTION = "enable_proxy_headers_parsing"
_OLDER = (
    ("HTTP_X_FORWARDED_PROTO", "wsgi.url_scheme"),
    ("HTTP_X_FORWARDED_HOST", "HTTP_HOST"),
    ("HTTP_X_FORWARDED_FOR", "REMOTE_ADDR"),
)
_NEWER = {"proto": "wsgi.url_scheme", "host": "HTTP_HOST", "for": "REMOTE_ADDR"}


class HttpProxyToWsgi(PassThrough):
    """The filter, where it has something to do."""

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "HEAD" or REWINDS in environ:
            return self._stock(environ, start_response)
        apply(environ)
        return super().__call__(environ, start_response)


def apply(environ: dict[str, Any]) -> None:
    """Write what the proxy's headers say into the environ."""
    forwarded = environ.get("HTTP_FORWARDED")
    if forwarded:
        said: dict[str, str] = {}
        for pair in forwarded.split(",", 1)[0].split(";"):
            name, _, value = pair.partition("=")
            said[name.lower().strip()] = value.strip()
        for name, key in _NEWER.items():
            if said.get(name):
                environ[key] = said[name]
    else:
        for header, key in _OLDER:
            value = environ.get(header)
            if value:
                environ[key] = value
    prefix = environ.get("HTTP_X_FORWARDED_PREFIX")
    if prefix:
        environ["SCRIPT_NAME"] = prefix + environ["SCRIPT_NAME"]


def may_parse(conf: Any, section: dict[str, str]) -> bool:
    """Tell whether a section of this filter may have it believe proxies; in doubt True.

    :param section: global and local keys of the paste section
    """
    return OPTION in section or "oslo_config_project" in section or conf.oslo_middleware.enable_proxy_headers_parsing


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``; where it has nothing to do, there is none."""
    parts = current()
    stock = stock_filter_factory(global_conf, **local_conf)
    return lambda app: _build(app, stock(app), parts)


def _build(app: App, stock: Any, parts: Parts) -> App:
    if stock._conf_get(OPTION):
        return HttpProxyToWsgi(app, stock)
    return passing(app, stock, parts)


def stock_filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build oslo.middleware's filter."""
    return http_proxy_to_wsgi.HTTPProxyToWSGI.factory(global_conf, **local_conf)

"""Station urlmap: which application serves this path? Paste's URL map, known as egg:Paste#urlmap.

In: PATH_INFO. Out: the application with the longest prefix, its prefix moved from PATH_INFO to SCRIPT_NAME. A path that
is out of the ordinary (repeated slashes, no slash in front), and one that nobody serves, is Paste's to answer. Runs on
the worker's loop.
"""

from collections.abc import Iterable
from typing import Any

import paste.urlmap

from heatperf.pipeline.parts import App


class UrlMap:
    """The application.

    :param stock: Paste's map; all of its prefixes without a domain
    """

    def __init__(self, stock: paste.urlmap.URLMap) -> None:
        self._stock = stock
        #: (prefix, prefix and a slash, application), the longest first, as Paste sorts them; without the shortest
        self._below: list[tuple[str, str, App]] = []
        #: the application of the prefix "", which every path has
        self._root: App = stock
        for (_domain, prefix), app in stock.applications:
            if prefix:
                self._below.append((prefix, prefix + "/", app))
            else:
                self._root = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path[:1] != "/" or "//" in path:
            return self._stock(environ, start_response)
        for prefix, beginning, app in self._below:
            if path.startswith(beginning) or path == prefix:
                environ["SCRIPT_NAME"] += prefix
                environ["PATH_INFO"] = path[len(prefix) :]
                return app(environ, start_response)
        return self._root(environ, start_response)


def composite_factory(loader: Any, global_conf: dict[str, str], **local_conf: str) -> App:
    """Build the application for ``paste.composite_factory``."""
    stock = stock_composite_factory(loader, global_conf, **local_conf)
    domains = any(domain for (domain, _prefix), _app in stock.applications)
    return stock if domains else UrlMap(stock)


def stock_composite_factory(loader: Any, global_conf: dict[str, str], **local_conf: str) -> paste.urlmap.URLMap:
    """Build Paste's map."""
    return paste.urlmap.urlmap_factory(loader, global_conf, **local_conf)

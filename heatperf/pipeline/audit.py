"""Station audit: keystonemiddleware's, in native threads; requests that it ignores need none.

It sends its events by blocking calls. What its paste section names in ``ignore_req_list`` (methods) and
``ignore_path_list`` (paths) it passes on untouched, so these requests stay on the loop.
"""

from collections.abc import Iterable
from typing import Any

import oslo_messaging
from keystonemiddleware import audit

from heatperf.pipeline.heads import passing
from heatperf.pipeline.native import native_filter
from heatperf.pipeline.parts import App, Filter, Parts, current


class Audit:
    """The filter.

    :param audited: the middleware around ``app``, in native threads
    :param methods: in capitals
    :param paths: as in PATH_INFO
    """

    def __init__(self, app: App, audited: App, parts: Parts, methods: frozenset[str], paths: frozenset[str]) -> None:
        self._ignored = passing(app, audited, parts)
        self._audited = audited
        self._methods = methods
        self._paths = paths

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in self._methods or environ["PATH_INFO"] in self._paths:
            return self._ignored(environ, start_response)
        return self._audited(environ, start_response)


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    parts = current()
    make = stock_filter_factory(global_conf, **local_conf)
    conf = {**global_conf, **local_conf}
    methods = frozenset(word.upper().strip() for word in conf.get("ignore_req_list", "").split(",")) - {""}
    # a path beyond ASCII is text there and bytes in PATH_INFO; the middleware may find out in its thread
    paths = frozenset(word for word in conf.get("ignore_path_list", "").split(",") if word and word.isascii())
    if not methods and not paths:
        return make
    return lambda app: Audit(app, make(app), parts, methods, paths)


def stock_filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build keystonemiddleware's filter, in native threads."""
    # A filter with a configuration of its own does not know our declaration of control_exchange.
    oslo_messaging.set_transport_defaults("heat")
    return native_filter(audit.filter_factory(global_conf, **local_conf), current(), "audit")

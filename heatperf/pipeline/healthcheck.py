"""Station healthcheck as a filter: answers its path, passes everything else on.

oslo.middleware has dropped this form for the application behind a URL map, but files of older deployments put it first
in the pipeline. The check itself, its backends and its options are oslo.middleware's.
"""

from collections.abc import Iterable
from typing import Any

from oslo_middleware.healthcheck import Healthcheck

from heatperf.pipeline.parts import App, Filter, current


class HealthcheckFilter:
    """The filter.

    :param path: what it answers; the path below it never reaches the application
    :param conf: keys of the paste section; they override [healthcheck]
    """

    def __init__(self, app: App, path: str, conf: dict[str, str]) -> None:
        self._app = app
        self._path = path
        # a request it will not answer (its source, or a proxy) it hands to the application itself
        self._check = Healthcheck(app, conf)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ.get("SCRIPT_NAME", "") + environ["PATH_INFO"] == self._path:
            return self._check(environ, start_response)
        return self._app(environ, start_response)


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    conf = {**global_conf, **local_conf}
    path = conf.get("path") or current().conf.healthcheck.path
    return lambda app: HealthcheckFilter(app, path, conf)

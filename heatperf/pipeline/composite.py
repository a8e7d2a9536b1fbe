"""The two composite factories and the application factory that api-paste.ini names.

``pipeline_factory`` chooses one of its pipelines by [paste_deploy] flavor; ``app_factory`` and ``filter_factory`` are
the generic ones whose ``heat.app_factory`` and ``heat.filter_factory`` keys name what to build.
"""

from typing import Any

from heatperf.api.controller import Services
from heatperf.api.router import Router
from heatperf.errors import ConfigurationError
from heatperf.pipeline import urlmap
from heatperf.pipeline.known import implementation, resolve
from heatperf.pipeline.parts import App, Filter, current


def pipeline_factory(loader: Any, _global_conf: dict[str, str], **local_conf: str) -> App:
    """Build the pipeline of the configured flavor, ``default`` where none is.

    :raises ConfigurationError: the section has no pipeline of that name
    """
    flavor = current().conf.paste_deploy.flavor or "default"
    if flavor not in local_conf:
        raise ConfigurationError(
            f"there is no pipeline for flavor {flavor!r}",
            remedy=f"choose among {', '.join(sorted(local_conf))}",
            option="[paste_deploy] flavor",
        )
    names = local_conf[flavor].split()
    filters = [loader.get_filter(name) for name in names[:-1]]
    app = loader.get_app(names[-1])
    for wrap in reversed(filters):
        app = wrap(app)
    return app


def root_app_factory(loader: Any, global_conf: dict[str, str], **local_conf: str) -> App:
    """Build a URL map, the older spelling of ``use = egg:Paste#urlmap``."""
    make = urlmap.stock_composite_factory if "urlmap" in current().stock else urlmap.composite_factory
    return make(loader, global_conf, **local_conf)


def app_factory(_global_conf: dict[str, str], **local_conf: str) -> App:
    """Build what ``heat.app_factory`` names, with (conf, \\*\\*local_conf)."""
    return resolve(_named(local_conf, "heat.app_factory"))(current().conf, **local_conf)


def filter_factory(_global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build what ``heat.filter_factory`` names, with (app, conf, \\*\\*local_conf)."""
    parts = current()
    make = implementation(resolve(_named(local_conf, "heat.filter_factory")), parts.stock)
    conf = parts.conf
    return lambda app: make(app, conf, **local_conf)


def _named(local_conf: dict[str, str], key: str) -> str:
    """Return what a section of the generic factories builds.

    :raises ConfigurationError: it does not say
    """
    if key not in local_conf:
        raise ConfigurationError(f"{key} is missing", remedy=f"add {key} = MODULE:NAME")
    return local_conf[key].strip()


def api(conf: Any, **_local_conf: str) -> App:
    """Build the REST API (upstream's heat.api.openstack.v1:API)."""
    parts = current()
    router = Router(Services(conf, parts.engine, parts.policy, parts.development, parts.helpers))
    parts.startables.append(router)
    return router

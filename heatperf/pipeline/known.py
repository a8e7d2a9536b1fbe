"""The stations this server knows: under which names paste files ask for them, and which implementation they get.

A station of a kind named in KINDS has two. The lean one is for every day. The stock one is the library's own, or for
the stations of Heat, which are not in this environment, our plain rendering of them with WebOb (the reference that the
lean one falls back on). Both live in one module: ``NAME`` builds the first and ``stock_NAME`` the second. Runs before
the fork.
"""

import importlib
import sys
from collections.abc import Iterable
from typing import Any

from heatperf.config.options import LEAN_STATIONS
from heatperf.errors import ConfigurationError

#: Upstream's name -> ours. The names are part of every installation's api-paste.ini.
HEAT_NAMES: dict[str, str] = {
    "heat.api.openstack.v1:API": "heatperf.pipeline.composite:api",
    "heat.api.openstack:faultwrap_filter": "heatperf.pipeline.faultwrap:factory",
    "heat.api.openstack:version_negotiation_filter": "heatperf.pipeline.versionnegotiation:factory",
    "heat.api:pipeline_factory": "heatperf.pipeline.composite:pipeline_factory",
    "heat.api:root_app_factory": "heatperf.pipeline.composite:root_app_factory",
    "heat.common.auth_password:filter_factory": "heatperf.pipeline.authpassword:filter_factory",
    "heat.common.auth_url:filter_factory": "heatperf.pipeline.authurl:filter_factory",
    "heat.common.context:ContextMiddleware_filter_factory": "heatperf.pipeline.context:filter_factory",
    "heat.common.custom_backend_auth:filter_factory": "heatperf.pipeline.custombackendauth:filter_factory",
    "heat.common.noauth:filter_factory": "heatperf.pipeline.noauth:filter_factory",
    "heat.common.wsgi:app_factory": "heatperf.pipeline.composite:app_factory",
    "heat.common.wsgi:filter_factory": "heatperf.pipeline.composite:filter_factory",
}

#: Stock factories (by the class or function they are, whatever name led to them) that ours stand in for.
REPLACED: dict[str, str] = {
    "keystonemiddleware.audit:filter_factory": "heatperf.pipeline.audit:filter_factory",
    "keystonemiddleware.auth_token:filter_factory": "heatperf.pipeline.authtoken:filter_factory",
    "osprofiler.web:WsgiMiddleware.factory": "heatperf.pipeline.osprofiler:factory",
    "oslo_middleware.cors:CORS.factory": "heatperf.pipeline.cors:filter_factory",
    "oslo_middleware.healthcheck:Healthcheck.factory": "heatperf.pipeline.healthcheck:filter_factory",
    "oslo_middleware.http_proxy_to_wsgi:HTTPProxyToWSGI.factory": "heatperf.pipeline.http_proxy_to_wsgi:filter_factory",
    "oslo_middleware.request_id:RequestId.factory": "heatperf.pipeline.request_id:filter_factory",
    "paste.urlmap:urlmap_factory": "heatperf.pipeline.urlmap:composite_factory",
}

#: Stock factories that never block, so their filters run on the loop as they are.
INLINE = frozenset(
    (
        "oslo_middleware.catch_errors:CatchErrors.factory",
        "oslo_middleware.healthcheck:Healthcheck.app_factory",
        "oslo_middleware.sizelimit:RequestBodySizeLimiter.factory",
    )
)

#: What [heatperf] stock_filters may name: the modules with two implementations.
KINDS = LEAN_STATIONS

_CFN = ("heat.api.cfn", "heat.api.aws", "heat.api.cloudwatch")


def resolve(name: str) -> Any:
    """Return what a ``module:attribute`` (or dotted) factory name stands for.

    :raises ConfigurationError: it belongs to the CloudFormation API, or to a part of openstack-heat that is not
        installed
    :raises ImportError: it cannot be imported
    """
    name = name.replace(":", ".") if name.count(":") > 1 else name
    if ":" not in name:
        name = ":".join(name.rsplit(".", 1))
    if name in HEAT_NAMES:
        name = HEAT_NAMES[name]
    elif name.startswith(_CFN):
        raise ConfigurationError(
            f"{name} is part of heat-api-cfn, which is not served",
            remedy="leave it out of this pipeline, or run upstream's heat-api-cfn for it",
        )
    module, _, attribute = name.partition(":")
    try:
        value = importlib.import_module(module)
    except ImportError as error:
        if module.split(".")[0] == "heat" and (error.name or "").split(".")[0] == "heat":
            raise ConfigurationError(
                f"the factory {name} is not one of this server's",
                remedy="install openstack-heat into the same environment, or correct the name",
            ) from error
        raise
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError as error:
            raise ImportError(f"{module} has no {attribute}") from error
    return value


def identity(factory: Any) -> str:
    """Return ``module:name`` of a factory, for a class method that of the class it is called on.

    One that only says so has another name: functools.wraps dresses an operator's factory as the one it wraps, and what
    it does in addition, such as to let fewer people in, must not get lost.
    """
    owner = getattr(factory, "__self__", None)
    if isinstance(owner, type):
        module, name = owner.__module__, f"{owner.__qualname__}.{factory.__name__}"
    else:
        module = getattr(factory, "__module__", "?")
        name = getattr(factory, "__qualname__", type(factory).__qualname__)
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found == factory else f"something that calls itself {module}:{name}"


def kind_of(factory: Any) -> str | None:
    """Return the kind of station that a factory of ours builds, or None where there is but one implementation."""
    module = factory.__module__
    kind = module.rpartition(".")[2]
    if kind not in KINDS or not module.startswith("heatperf.pipeline."):
        return None
    return kind if _stock(factory) is not None else None


def implementation(factory: Any, stock: frozenset[str]) -> Any:
    """Return a factory of ours, or that of the stock implementation where ``stock`` names its kind."""
    return _stock(factory) if kind_of(factory) in stock else factory


def _stock(factory: Any) -> Any:
    return getattr(importlib.import_module(factory.__module__), f"stock_{factory.__name__}", None)


def stock_kinds(names: Iterable[str]) -> frozenset[str]:
    """Return what [heatperf] stock_filters means.

    :raises ConfigurationError: it names what has no two implementations
    """
    asked = frozenset(names)
    unknown = sorted(asked.difference(KINDS, ("all",)))
    if unknown:
        raise ConfigurationError(
            f"there is no lean station {', '.join(map(repr, unknown))}",
            remedy=f"choose among {', '.join(KINDS)}, or all",
            option="[heatperf] stock_filters",
        )
    return frozenset(KINDS) if "all" in asked else asked

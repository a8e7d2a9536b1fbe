"""Load api-paste.ini: upstream's factory names resolve to ours, everything else is loaded as it is.

In: the parsed configuration, policy and engine client. Out: a Pipeline, whose ``wsgi`` is the application. Raised:
ConfigurationError, with upstream's text for a file that cannot be found or used. Runs before the fork; what a station
needs in the worker is made by Pipeline.start.
"""

import configparser
import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paste.deploy import loadwsgi

from heatperf.errors import ConfigurationError
from heatperf.pipeline.native import NativeApp, native_filter
from heatperf.pipeline.parts import App, Parts, Station, loading

LOG = logging.getLogger(__name__)

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

#: Stock factories (by the class or function they are, whatever name led to them) that ours stand in for, and how.
REPLACED: dict[str, tuple[str, str]] = {
    "keystonemiddleware.auth_token:filter_factory": (
        "heatperf.pipeline.authtoken:filter_factory",
        "stock, waiting for memcached and Keystone in native threads",
    ),
    "osprofiler.web:WsgiMiddleware.factory": (
        "heatperf.pipeline.osprofiler:factory",
        "stock, in native threads while [profiler] is on",
    ),
    "oslo_middleware.cors:CORS.factory": ("heatperf.pipeline.cors:filter_factory", "stock"),
    "oslo_middleware.healthcheck:Healthcheck.factory": ("heatperf.pipeline.healthcheck:filter_factory", "stock"),
}

#: Stock factories that never block, so their filters run on the loop as they are.
INLINE = frozenset(
    (
        "oslo_middleware.catch_errors:CatchErrors.factory",
        "oslo_middleware.healthcheck:Healthcheck.app_factory",
        "oslo_middleware.http_proxy_to_wsgi:HTTPProxyToWSGI.factory",
        "oslo_middleware.request_id:RequestId.factory",
        "oslo_middleware.sizelimit:RequestBodySizeLimiter.factory",
    )
)

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
    """Return ``module:name`` of a factory, for a class method that of the class it is called on."""
    owner = getattr(factory, "__self__", None)
    if isinstance(owner, type):
        return f"{owner.__module__}:{owner.__qualname__}.{factory.__name__}"
    return f"{getattr(factory, '__module__', '?')}:{getattr(factory, '__qualname__', type(factory).__qualname__)}"


@contextmanager
def _naming(section: str, factory: str) -> Iterator[None]:
    """Have what is raised inside name the section of the file and the factory at fault.

    :raises ConfigurationError: instead of anything but itself
    """
    try:
        yield
    except ConfigurationError as error:
        if error.option is None:
            raise ConfigurationError(error.message, error.remedy, error.file, f"[{section}]") from error
        raise
    except Exception as error:  # whatever an operator's factory raises
        LOG.debug("A factory failed", exc_info=True)
        kind = "cannot be imported" if isinstance(error, (ImportError, AttributeError)) else "failed"
        raise ConfigurationError(
            f"{factory or 'its factory'} {kind}: {error!r}",
            remedy="correct the section or what it names",
            option=f"[{section}]",
        ) from error


class _Loader(loadwsgi.ConfigLoader):
    """PasteDeploy's loader, with our resolution of names and our choice of how a station runs."""

    def __init__(self, filename: str, parts: Parts) -> None:
        super().__init__(filename)
        self._parts = parts

    def get_context(self, object_type: Any, name: Any = None, global_conf: Any = None) -> Any:
        if not self.absolute_name(name):
            return super().get_context(object_type, name, global_conf)
        scheme, _, rest = name.partition(":")
        if scheme == "config":  # another file: it gets the same treatment
            path, _, section = rest.partition("#")
            loader = _Loader(os.path.join(os.path.dirname(self.filename), path), self._parts)
            if global_conf:
                loader.update_defaults(global_conf, overwrite=False)
            return loader.get_context(object_type, section or "main", global_conf)
        if scheme == "call" and rest in HEAT_NAMES:
            name = f"call:{HEAT_NAMES[rest]}"
        context = loadwsgi.loadcontext(
            object_type, name, relative_to=os.path.dirname(self.filename), global_conf=global_conf
        )
        # `call:` leaves open what kind of factory it names; the section that uses it says so
        return context if context.protocol is None else self._adopt(context, object_type, name)

    def _context_from_use(
        self, object_type: Any, local_conf: dict[str, str], global_conf: Any, global_additions: Any, section: str
    ) -> Any:
        open_kind = local_conf["use"].startswith("call:")
        context = super()._context_from_use(object_type, local_conf, global_conf, global_additions, section)
        return self._adopt(context, object_type, section) if open_kind else context

    def _context_from_explicit(
        self, object_type: Any, local_conf: dict[str, str], global_conf: Any, global_addition: Any, section: str
    ) -> Any:
        for protocol in (option for options in object_type.egg_protocols for option in options):
            if protocol in local_conf and local_conf[protocol].startswith("heat."):
                # PasteDeploy imports by name; give it one that it can import, ours or upstream's
                resolve(local_conf[protocol])
                local_conf[protocol] = HEAT_NAMES.get(local_conf[protocol], local_conf[protocol])
        with _naming(section, ", ".join(value for name, value in local_conf.items() if name.startswith("paste."))):
            context = super()._context_from_explicit(object_type, local_conf, global_conf, global_addition, section)
        return self._adopt(context, object_type, section)

    def _adopt(self, context: Any, object_type: Any, name: str) -> Any:
        """Decide how the station runs, and note it for the log at start."""
        if object_type is not loadwsgi.FILTER and object_type is not loadwsgi.APP:
            return context
        factory = identity(context.object)
        is_filter = object_type is loadwsgi.FILTER
        if context.protocol in ("paste.composite_factory", "paste.composit_factory"):
            return context
        if factory in REPLACED:
            target, how = REPLACED[factory]
            context.object = resolve(target)
        elif factory in ("heatperf.pipeline.composite:filter_factory", "heatperf.pipeline.composite:app_factory"):
            return self._adopt_generic(context, is_filter, name)
        elif factory.startswith("heatperf."):
            how = "own"
        elif factory in INLINE:
            how = "stock"
        else:
            how = self._make_native(context, is_filter, name)
        return self._noted(context, is_filter, name, factory, how)

    def _adopt_generic(self, context: Any, is_filter: bool, name: str) -> Any:
        """A section of the generic factories: what its ``heat.*_factory`` key names decides."""
        target = context.local_conf.get("heat.filter_factory" if is_filter else "heat.app_factory", "").strip()
        known = target in HEAT_NAMES
        how = "own" if known else self._make_native(context, is_filter, name)
        return self._noted(context, is_filter, name, target, how)

    def _noted(self, context: Any, is_filter: bool, section: str, factory: str, how: str) -> Any:
        """Enter the station into the log's list, and have what its factory raises name section and factory."""
        self._parts.stations.append(Station(section.rpartition(":")[2], factory, how, is_filter))
        make = context.object

        def named(*args: Any, **kwargs: Any) -> Any:
            with _naming(section, factory):
                made = make(*args, **kwargs)
            if context.protocol != "paste.filter_factory":
                return made

            def build(app: App) -> App:
                with _naming(section, factory):
                    return made(app)

            return build

        context.object = named
        return context

    def _make_native(self, context: Any, is_filter: bool, section: str) -> str:
        """Wrap the context's factory so that what it makes runs in native threads."""
        stock, parts, name = context.object, self._parts, section.rpartition(":")[2]
        if not is_filter:
            context.object = lambda global_conf, **local: NativeApp(stock(global_conf, **local), parts, name)
        elif context.protocol == "paste.filter_app_factory":
            context.object = lambda app, global_conf, **local: native_filter(
                lambda inner: stock(inner, global_conf, **local), parts, name
            )(app)
        else:
            context.object = lambda global_conf, **local: native_filter(stock(global_conf, **local), parts, name)
        return f"not known here, in native threads: at most {parts.conf.heatperf.filter_concurrency} requests at once"


class Pipeline:
    """A loaded pipeline: the worker's application.

    ``wsgi`` is the WSGI application; ``start`` and ``stop`` frame its life in one worker.
    """

    def __init__(self, wsgi: App, parts: Parts) -> None:
        self.wsgi = wsgi
        self.parts = parts

    def start(self, loop: Any) -> None:
        """Make pools and connections: called after the fork, on the loop's thread."""
        self.parts.start(loop)

    def stop(self) -> None:
        """Release connections: called after the drain."""
        self.parts.stop()


def load_paste_app(parts: Parts, app_name: str | None = None) -> Pipeline:
    """Load the pipeline that [paste_deploy] asks for.

    The application's name is ``app_name`` (default: the program's, heat-api) with the flavor appended, or without it
    where the file has no such section.

    :raises ConfigurationError: the file is missing, cannot be parsed, or names what cannot be loaded
    """
    conf = parts.conf
    name = app_name or conf.prog
    flavored = f"{name}-{conf.paste_deploy.flavor}" if conf.paste_deploy.flavor else name
    if name != "heat-api":
        raise ConfigurationError(f"{name} is not served", remedy="this server is heat-api's; run upstream's for others")
    found = conf.find_file(conf.paste_deploy.api_paste_config)
    if found is None:
        raise ConfigurationError(
            f"Unable to locate config file [{conf.paste_deploy.api_paste_config}]",
            remedy="copy one beside heat.conf, or give its absolute path and see that this user may read it",
        )
    path = os.path.abspath(found)
    try:
        with loading(parts):
            wsgi = _load(path, flavored, name, parts)
    except (LookupError, ImportError) as error:
        raise ConfigurationError(
            f"Unable to load {flavored} from configuration file {path}.\nGot: {error!r}"
        ) from error
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the file cannot be used: {error}", file=path) from error
    except ConfigurationError as error:
        if error.file is None:
            raise ConfigurationError(error.message, error.remedy, path, error.option) from error
        raise
    if conf.debug:
        conf.log_opt_values(logging.getLogger(flavored), logging.DEBUG)
    # PasteDeploy may build the application first; the log has the order of a request's way
    for station in sorted(parts.stations, key=lambda station: not station.is_filter):
        LOG.info("Pipeline station %s: %s (%s)", station.name, station.how, station.factory)
    return Pipeline(wsgi, parts)


def _load(path: str, flavored: str, name: str, parts: Parts) -> App:
    """Load the section of the flavored name, or of the plain name where the file has none of the first.

    A file whose flavored section is broken is refused: its plain one may ask for less authentication.
    """
    loader = _Loader(path, parts)
    sections = loader.parser.sections()
    if flavored == name or any(section.endswith(f":{flavored}") for section in sections):
        return loader.get_app(flavored)
    if f"pipeline:{name}" in sections:
        LOG.warning(
            "%s has no section for %s; [pipeline:%s] serves, whatever [paste_deploy] flavor says", path, flavored, name
        )
    # today's files have one composite for all flavors, whose factory looks at the flavor itself
    return loader.get_app(name)

"""Load api-paste.ini: factory names that are known (known.py) resolve to ours, everything else is loaded as it is.

In: the parsed configuration, policy and engine client. Out: a Pipeline, whose ``wsgi`` is the application. Raised:
ConfigurationError, with upstream's text for a file that cannot be found or used. Runs before the fork; what a station
needs in the worker is made by Pipeline.start.
"""

import configparser
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paste.deploy import loadwsgi

from heatperf.context import part
from heatperf.errors import ConfigurationError
from heatperf.pipeline import http_proxy_to_wsgi
from heatperf.pipeline.known import (
    HEAT_NAMES,
    INLINE,
    REPLACED,
    identity,
    implementation,
    kind_of,
    resolve,
    stock_kinds,
)
from heatperf.pipeline.native import NativeApp, native_filter
from heatperf.pipeline.parts import App, Parts, Station, loading

LOG = logging.getLogger(__name__)


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
        if open_kind:
            context = self._adopt(context, object_type, section)
        self._look_for_proxies(context)  # again: this section may have switched it on
        return context

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
        if context.protocol in ("paste.composite_factory", "paste.composit_factory") and factory not in REPLACED:
            if not factory.startswith("heatperf."):
                self._make_apart(context)
            return context
        if factory in ("heatperf.pipeline.composite:filter_factory", "heatperf.pipeline.composite:app_factory"):
            return self._adopt_generic(context, is_filter, name)
        if factory in REPLACED:
            context.believes_proxies = factory.startswith("oslo_middleware.http_proxy_to_wsgi:")
            self._look_for_proxies(context)
            how = self._choose(context, resolve(REPLACED[factory]), "stock")
        elif factory.startswith("heatperf."):
            how = self._choose(context, context.object, "own")
        elif factory in INLINE:
            how = "stock"
            # the healthcheck answers for itself; what else there is could raise WebOb's HTTP exceptions
            self._parts.known_only &= not is_filter
        else:
            how = self._make_native(context, is_filter, name)
        return self._noted(context, is_filter, name, factory, how)

    def _adopt_generic(self, context: Any, is_filter: bool, name: str) -> Any:
        """A section of the generic factories: what its ``heat.*_factory`` key names decides."""
        target = context.local_conf.get("heat.filter_factory" if is_filter else "heat.app_factory", "").strip()
        if target in HEAT_NAMES:
            how = how_it_runs(kind_of(resolve(target)), "own", self._parts)  # composite.py builds it
        else:
            how = self._make_native(context, is_filter, name)
        return self._noted(context, is_filter, name, target, how)

    def _choose(self, context: Any, ours: Any, otherwise: str) -> str:
        """Have the context build a station of ours, lean or stock; return how it runs.

        :param otherwise: what it is called where there is but one implementation
        """
        context.object = implementation(ours, self._parts.stock)
        return how_it_runs(kind_of(ours), otherwise, self._parts)

    def _look_for_proxies(self, context: Any) -> None:
        """Note whether a section may have http_proxy_to_wsgi change the URL scheme."""
        if getattr(context, "believes_proxies", False):
            section = {**context.global_conf, **context.local_conf}
            self._parts.known_only &= not http_proxy_to_wsgi.may_parse(self._parts.conf, section)

    def _noted(self, context: Any, is_filter: bool, section: str, factory: str, how: str) -> Any:
        """Enter the station into the log's list, and have what its factory raises name section and factory."""
        station = Station(section.rpartition(":")[2], factory, how, is_filter)
        self._parts.stations.append(station)
        make = context.object

        def named(*args: Any, **kwargs: Any) -> Any:
            with _naming(section, factory):
                made = make(*args, **kwargs)
            if context.protocol != "paste.filter_factory":
                return made

            def build(app: App) -> App:
                with _naming(section, factory):
                    built: App = made(app)
                if built is app:
                    station.how = "lean, nothing to do: left out"
                return built

            return build

        context.object = named
        return context

    def _make_apart(self, context: Any) -> None:
        """Prepare for a composite that is not known: it may build anything, and put code between our stations.

        So the contexts below it are made of the whole environ each time, for that code may have changed it.
        """
        self._parts.known_only = False
        self._parts.stock |= {"context"}
        make = context.object

        def composed(*args: Any, **kwargs: Any) -> App:
            app = make(*args, **kwargs)

            def apart(environ: dict[str, Any], start_response: Any) -> Any:
                part(environ)
                return app(environ, start_response)

            return apart

        context.object = composed

    def _make_native(self, context: Any, is_filter: bool, section: str) -> str:
        """Wrap the context's factory so that what it makes runs in native threads."""
        self._parts.known_only = False
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


def how_it_runs(kind: str | None, otherwise: str, parts: Parts) -> str:
    """Return how a station of ours runs, for the log.

    :param kind: one of those with two implementations, or None
    :param otherwise: what it is called without a second implementation
    """
    settings = parts.conf.heatperf
    if kind == "osprofiler" and parts.conf.profiler.enabled:
        return (
            f"stock, in native threads while [profiler] is on: at most {settings.filter_concurrency} requests at once"
        )
    how = otherwise if kind is None else "stock" if kind in parts.stock else "lean"
    if kind == "audit":
        ignored = "" if kind in parts.stock else " but for what it ignores"
        return f"{how}, in native threads{ignored}: at most {settings.filter_concurrency} requests at once"
    if kind == "authtoken":
        return (
            f"{how}, waiting for memcached and Keystone in native threads: at most {settings.auth_concurrency} requests"
            " at once for each"
        )
    return how


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
    parts.stock = stock_kinds(conf.heatperf.stock_filters)
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

"""From the table of routes to a WSGI application.

In: a WSGI environ whose version segment is already gone. Out: the answer of the action it names; 404 (WebOb's own
body) when no route fits. Runs on the worker's loop.

Matching is ``routes.Mapper``'s, the reference; for the usual methods its answers come from the compiled table (see
compiled_routes), equal by a test. Answers that are always the same (404, OPTIONS) are WebOb's, kept from the last time.
"""

from collections.abc import Callable, Iterable
from typing import Any

import routes
import webob
import webob.exc

from heatperf.api.actions import ActionController
from heatperf.api.compiled_routes import METHODS, CompiledRoutes, Entry, Target
from heatperf.api.controller import Controller, Services
from heatperf.api.dispatch import ApiRequest, call_action, ordinary_params
from heatperf.api.events import EventController
from heatperf.api.operations import BuildInfoController, ServiceController
from heatperf.api.resources import ResourceController
from heatperf.api.routes import ROUTES, Group
from heatperf.api.software import SoftwareConfigController, SoftwareDeploymentController
from heatperf.api.stack_parts import StackPartsController
from heatperf.api.stacks import StackController
from heatperf.api.templates import TemplateController

#: Controller names of the table of routes.
CONTROLLERS: dict[str, type[Controller]] = {
    "actions": ActionController,
    "build_info": BuildInfoController,
    "events": EventController,
    "resources": ResourceController,
    "services": ServiceController,
    "software_configs": SoftwareConfigController,
    "software_deployments": SoftwareDeploymentController,
    "stack_parts": StackPartsController,
    "stacks": StackController,
    "templates": TemplateController,
}

_METHODS = ("HEAD", "GET", "POST", "PUT", "PATCH", "DELETE")

# Headers of kept answers: clients choose what they accept, so there is an end to it.
_KEPT = 256
_LONGEST_ACCEPT = 256  # characters


def _options(_request: Any, allowed_methods: str, **_arguments: Any) -> Any:
    raise webob.exc.HTTPNoContent(headers=[("Allow", allowed_methods)])


def _reject(_request: Any, allowed_methods: str, **_arguments: Any) -> Any:
    raise webob.exc.HTTPMethodNotAllowed(headers=[("Allow", allowed_methods)])


class Router:
    """The API's WSGI application.

    :param services: what controllers work with
    """

    def __init__(self, services: Services) -> None:
        self.services = services
        self._body_limit = services.max_json_body_size
        self._heavy = services.heavy if services.takes_encoded else None
        controllers = {name: kind(services) for name, kind in CONTROLLERS.items()}
        entries = [entry for group in ROUTES for entry in _entries(group, controllers)]
        self._mapper = routes.Mapper()
        for entry in entries:
            arguments = [entry.path] if entry.name is None else [entry.name, entry.path]
            self._mapper.connect(*arguments, **entry.constants, conditions={"method": entry.condition})
        self._mapper.create_regs([])  # or the first request would pay for it
        self._compiled = CompiledRoutes(entries)
        self._not_found: dict[str | None, _Kept] = {}
        self._allowed: dict[str, _Kept] = {}

    def start(self, loop: Any) -> None:
        """Called once per worker, after the fork."""
        self.services.start(loop)

    def match(self, environ: dict[str, Any]) -> dict[str, Any] | None:
        """Return the route's arguments and action for a WSGI environ as routes.Mapper does, or None."""
        method = overriding_method(environ)
        if method is not None:
            environ = {**environ, "REQUEST_METHOD": method}
        return self._mapper.match(environ=environ)

    def find(self, environ: dict[str, Any]) -> tuple[Target, dict[str, Any]] | None:
        """Return the route and the path's variables for an ordinary request, or None where no route fits.

        :raises LookupError: this is no ordinary request, ``match`` has to decide
        """
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if method not in METHODS or "\n" in path or "_method" in environ.get("QUERY_STRING", ""):
            raise LookupError(method)
        if method == "POST" and environ.get("CONTENT_TYPE") != "application/json" and _is_form(environ):
            raise LookupError(method)
        return self._compiled.find(method, path)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            found = self.find(environ)
        except LookupError:
            return self._by_mapper(environ, start_response)
        if found is None:
            return self._answer_not_found(environ, start_response)
        target, arguments = found
        action = target.action
        if target.constants:
            arguments.update(target.constants)
        # what RoutesMiddleware leaves behind, for filters that look at it
        environ["wsgiorg.routing_args"] = ((), arguments)
        if action is _options and not environ.get("CONTENT_LENGTH") and ordinary_params(environ) is not None:
            return self._answer_options(arguments["allowed_methods"], environ, start_response)
        answer = call_action(ApiRequest(environ), action, arguments, self._body_limit, self._heavy)
        return answer(environ, start_response)

    def _by_mapper(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        matched = self.match(environ)
        if matched is None:
            return webob.exc.HTTPNotFound()(environ, start_response)
        arguments = dict(matched)
        action = arguments.pop("action")
        del arguments["controller"]
        arguments.pop("format", None)
        environ["wsgiorg.routing_args"] = ((), arguments)
        answer = call_action(ApiRequest(environ), action, arguments, self._body_limit, self._heavy)
        return answer(environ, start_response)

    def _answer_not_found(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer 404; only Accept decides how its text is written."""
        accept = environ.get("HTTP_ACCEPT")
        kept = self._not_found.get(accept)
        if kept is None or environ["REQUEST_METHOD"] == "HEAD":
            if environ["REQUEST_METHOD"] == "HEAD" or (accept and len(accept) > _LONGEST_ACCEPT):
                return webob.exc.HTTPNotFound()(environ, start_response)
            kept = _Kept(webob.exc.HTTPNotFound(), environ)
            if len(self._not_found) < _KEPT:
                self._not_found[accept] = kept
        return kept(start_response)

    def _answer_options(
        self, allowed: str, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        kept = self._allowed.get(allowed)
        if kept is None:
            kept = self._allowed[allowed] = _Kept(webob.exc.HTTPNoContent(headers=[("Allow", allowed)]), environ)
        return kept(start_response)


class _Kept:
    """An answer of WebOb's, to be given again.

    :param answer: the WSGI application that makes it
    :param environ: a request that it is an answer to
    """

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, answer: Any, environ: dict[str, Any]) -> None:
        def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> None:
            self._status, self._headers = status, list(headers)

        self._status, self._headers = "", []
        self._body = b"".join(answer(environ, start_response))

    def __call__(self, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response(self._status, self._headers.copy())
        return [self._body]


def _entries(group: Group, controllers: dict[str, Controller]) -> Iterable[Entry]:
    """Return the routes of a group in their order of matching."""
    served: dict[str, list[str]] = {}
    for route in group.routes:
        path = group.prefix + route.path
        action = getattr(controllers[route.controller], route.action)
        # text, not a list, as upstream has it: Routes then matches by substring, so a method like "GE" is a GET
        methods = ",".join(route.methods)
        yield Entry(route.name, path, methods, {"controller": route.controller, "action": action})
        served.setdefault(path, []).extend(route.methods)
    if not group.rejects:
        return
    for path, methods_of_path in served.items():
        allowed = ",".join(methods_of_path)
        missing: list[str] | str = [method for method in _METHODS if method not in methods_of_path]
        for action, condition in ((_reject, missing), (_options, "OPTIONS")):
            constants = {"controller": "default", "action": action, "allowed_methods": allowed}
            yield Entry(None, path, condition, constants)


def overriding_method(environ: dict[str, Any]) -> str | None:
    """Return the method that ``?_method=`` or a form's ``_method`` asks for, in capitals, or None.

    A habit of Routes' middleware that upstream has never switched off.
    """
    method: str | None = None
    try:
        if "_method" in environ.get("QUERY_STRING", ""):
            method = webob.Request(environ).GET.get("_method")
        elif environ["REQUEST_METHOD"] == "POST" and _is_form(environ):
            method = webob.Request(environ).POST.get("_method")
    except UnicodeDecodeError:
        return None
    return method.upper() if method else None


def _is_form(environ: dict[str, Any]) -> bool:
    content_type = environ.get("CONTENT_TYPE", "").lower().partition(";")[0]
    return content_type in ("application/x-www-form-urlencoded", "multipart/form-data")

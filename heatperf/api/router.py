"""From the table of routes to a WSGI application.

In: a WSGI environ whose version segment is already gone. Out: the answer of the action it names; 404 (WebOb's own
body) when no route fits. Matching is ``routes.Mapper``'s, the reference. Runs on the worker's loop.
"""

from collections.abc import Callable, Iterable
from typing import Any

import routes
import webob.exc

from heatperf.api.actions import ActionController
from heatperf.api.controller import Controller, Services
from heatperf.api.dispatch import ApiRequest, call_action
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
        self._body_limit = services.conf.max_json_body_size
        controllers = {name: kind(services) for name, kind in CONTROLLERS.items()}
        self._mapper = routes.Mapper()
        for group in ROUTES:
            self._connect(group, controllers)
        self._mapper.create_regs([])  # or the first request would pay for it

    def start(self, loop: Any) -> None:
        """Called once per worker, after the fork."""
        self.services.start(loop)

    def _connect(self, group: Group, controllers: dict[str, Controller]) -> None:
        served: dict[str, list[str]] = {}
        for route in group.routes:
            path = group.prefix + route.path
            action = getattr(controllers[route.controller], route.action)
            # text, not a list, as upstream has it: Routes then matches by substring, so a method like "GE" is a GET
            self._mapper.connect(
                route.name,
                path,
                controller=route.controller,
                action=action,
                conditions={"method": ",".join(route.methods)},
            )
            served.setdefault(path, []).extend(route.methods)
        if not group.rejects:
            return
        for path, methods in served.items():
            allowed = ",".join(methods)
            missing: list[str] | str = [method for method in _METHODS if method not in methods]
            for action, condition in ((_reject, missing), (_options, "OPTIONS")):
                self._mapper.connect(
                    path,
                    controller="default",
                    action=action,
                    allowed_methods=allowed,
                    conditions={"method": condition},
                )

    def match(self, environ: dict[str, Any]) -> dict[str, Any] | None:
        """Return the route's arguments and action for a WSGI environ, or None."""
        method = _overriding_method(environ)
        if method is not None:
            environ = {**environ, "REQUEST_METHOD": method}
        return self._mapper.match(environ=environ)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        matched = self.match(environ)
        if matched is None:
            return webob.exc.HTTPNotFound()(environ, start_response)
        arguments = dict(matched)
        action = arguments.pop("action")
        del arguments["controller"]
        arguments.pop("format", None)
        # what RoutesMiddleware leaves behind, for filters that look at it
        environ["wsgiorg.routing_args"] = ((), arguments)
        answer = call_action(ApiRequest(environ), action, arguments, self._body_limit)
        return answer(environ, start_response)


def _overriding_method(environ: dict[str, Any]) -> str | None:
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

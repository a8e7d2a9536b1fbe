"""What every controller shares: its collaborators, and the checks between the router and an action.

An action is a method ``(self, request, **arguments)``; ``arguments`` are the path's variables and ``body`` if the
request had one. It returns data for the answer, or raises a webob.exc answer. The decorators check in upstream's
order: project in the path, policy, and only then whether the arguments fit.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

import webob.exc

from heatperf.api import fetch, views
from heatperf.api.heavy import Heavy
from heatperf.api.identity import Identity
from heatperf.errors import heat
from heatperf.helper.client import Helpers
from heatperf.rpc.raw import RawReply

Action = Callable[..., Any]


class Services:
    """What controllers need from the rest of the worker.

    :param conf: parsed configuration
    :param engine: EngineClient
    :param policy: policy.enforcer.Policy
    :param development: no template_url leads into private networks
    :param helpers: processes for heavy work; None to do without
    """

    def __init__(
        self, conf: Any, engine: Any, policy: Any, development: bool = False, helpers: Helpers | None = None
    ) -> None:
        # read once: looking an option up by name costs as much as all the rest of a small request
        self._pools = conf.heatperf
        #: bytes
        self.max_template_size: int = conf.max_template_size
        self.max_json_body_size: int = conf.max_json_body_size
        #: seconds
        self.template_fetch_timeout: float = conf.template_fetch_timeout
        self.revision: str = conf.revision.heat_revision
        self.engine = engine
        self.policy = policy
        #: downloads a template_url
        self.fetch = fetch.fetch_public if development else fetch.fetch
        #: pool of native threads for template_url downloads; set when the worker starts
        self.fetch_pool: Any = None
        #: for what would hold up the loop
        self.heavy = Heavy(helpers)
        #: whether arguments of a call may be Encoded
        self.takes_encoded: bool = getattr(getattr(engine, "transport", None), "takes_encoded", False)

    def start(self, loop: Any) -> None:
        """Make the worker's own parts: called after the fork."""
        settings = self._pools
        self.fetch_pool = loop.pool("fetch", settings.fetch_concurrency, settings.fetch_concurrency * 4)
        self.heavy.start(loop)


class Controller:
    """Base of the API's controllers; ``scope`` is the first half of its policy rules' names."""

    scope: ClassVar[str] = ""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.engine = services.engine

    def render(self, kind: str, replies: Any, given: dict[str, Any]) -> Any:
        """Render a listing, beside the loop if it is large.

        :param kind: a key of views.LISTINGS, ``given`` its arguments after the replies
        :param replies: the engine's; RawReply where the transport has left it as it came
        """
        if isinstance(replies, RawReply):
            found = self.services.heavy.render(kind, replies.body, given)
            if found is not None:
                return found
            raw = replies
            return self.services.heavy.beside(lambda: views.LISTINGS[kind](raw.result(), **given))
        return views.LISTINGS[kind](replies, **given)

    def enforce(self, request: Any, action: str) -> None:
        """Hold the caller against the policy rule ``scope:action``.

        :raises heat.Forbidden: the rule says no
        """
        rule = f"{self.scope}:{action}"
        if not self.services.policy.allowed(request.context, rule, {"project_id": request.context.project_id}):
            raise heat.Forbidden(action=rule)


def _same_project(request: Any, tenant_id: str) -> bool:
    context = request.context
    return context.project_id == tenant_id or bool(context.is_admin and context.project_id)


def policed(action: Action) -> Action:
    """Let only callers of the project in the path (or an administrator) through, and only if the policy agrees."""

    @wraps(action)
    def checked(self: Controller, request: Any, tenant_id: str, **arguments: Any) -> Any:
        if not _same_project(request, tenant_id):
            raise webob.exc.HTTPForbidden()
        self.enforce(request, action.__name__)
        return action(self, request, **arguments)

    return checked


def in_project(action: Action) -> Action:
    """Let only callers of the project in the path (or an administrator) through; the action asks the policy itself."""

    @wraps(action)
    def checked(self: Controller, request: Any, tenant_id: str, **arguments: Any) -> Any:
        if request.context.project_id != tenant_id and not request.context.is_admin:
            raise webob.exc.HTTPForbidden()
        return action(self, request, **arguments)

    return checked


def with_identity(action: Action) -> Action:
    """Give the action one stack identity in place of the path's stack_name and stack_id.

    The project is the caller's, not the path's: an administrator is redirected to paths of other projects.
    """

    @wraps(action)
    def identified(self: Controller, request: Any, stack_name: str, stack_id: str, **arguments: Any) -> Any:
        identity = Identity(request.context.project_id, stack_name, stack_id)
        return action(self, request, identity.to_wire(), **arguments)

    return identified


def takes_encoded(action: Action) -> Action:
    """The action makes its body a StackBody, so template and files of a large one may come as Encoded."""
    action.takes_encoded = True  # type: ignore[attr-defined]
    return action


def on_stack(action: Action) -> Action:
    """``policed`` and ``with_identity``: what nearly every action on one stack needs."""
    return policed(with_identity(action))

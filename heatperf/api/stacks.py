"""Stacks: listings, creation, lookup, update, deletion, abandon and export."""

from typing import Any
from urllib.parse import urlencode

import webob.exc

from heatperf.api import views
from heatperf.api.controller import Controller, in_project, on_stack, policed, takes_encoded, with_identity
from heatperf.api.identity import Identity
from heatperf.api.instantiation import StackBody
from heatperf.api.params import MIXED, MULTI, SINGLE, bad_request, boolean, flag, integer, select, tags
from heatperf.context import admin_context

#: Filters of a listing: the older short names first, then those of the engine's own fields.
_FILTERS = dict.fromkeys(
    (
        "id",
        "status",
        "name",
        "action",
        "tenant",
        "username",
        "owner_id",
        "stack_name",
        "stack_action",
        "stack_status",
        "stack_status_reason",
        "disable_rollback",
        "timeout_mins",
        "stack_owner",
        "parent",
        "stack_user_project_id",
    ),
    MIXED,
)
_PAGING = {"limit": SINGLE, "marker": SINGLE, "sort_dir": SINGLE, "sort_keys": MULTI}
_FLAGS = ("show_deleted", "show_nested", "show_hidden")
_TAGS = ("tags", "tags_any", "not_tags", "not_tags_any")
_LISTING = {**_PAGING, **dict.fromkeys((*_FLAGS, *_TAGS), SINGLE)}


def _asked(given: Any) -> tuple[dict[str, Any], dict[str, Any] | None, bool]:
    """What a listing is asked for: arguments of list_stacks but for the filters; these; whether to count.

    :raises webob.exc.HTTPBadRequest: by a word that is none
    """
    params = select(given, _LISTING)
    filters = select(given, _FILTERS) or None
    with bad_request():
        for flag in ("show_deleted", "show_nested"):
            if flag in params:
                params[flag] = boolean(flag, params[flag])
        if "limit" in params:
            params["limit"] = integer("limit", params["limit"])
        if "show_hidden" in params:
            params["show_hidden"] = boolean("show_hidden", params["show_hidden"])
        for name in _TAGS:
            if name in params:
                params[name] = tags(params[name])
        with_count = given.get("with_count")
        counted = bool(with_count) and boolean("with_count", with_count)
    return params, filters, counted


class StackController(Controller):
    """Actions on stacks."""

    scope = "stacks"

    @policed
    def index(self, request: Any) -> Any:
        """List stacks of the project; ``global_tenant=true`` lists every project's."""
        if flag(request.params, "global_tenant"):
            return self.global_index(request, tenant_id=request.context.project_id)
        return self._list(request, request.context)

    @policed
    def global_index(self, request: Any) -> Any:
        """List stacks of all projects."""
        return self._list(request, admin_context())

    def _list(self, request: Any, context: Any) -> Any:
        params, filters, counted = _asked(request.params) if request.params else ({}, None, False)
        raw_above = self.services.heavy.raw_above
        replies = self.engine.call(context, "list_stacks", raw_above=raw_above, filters=filters, **params)
        count = None
        if counted:
            narrowed = {name: params[name] for name in (*_FLAGS, *_TAGS) if name in params}
            count = self.engine.call(context, "count_stacks", filters=filters, **narrowed)
        given = {**views.page_of(request), "count": count, "with_project": context.is_admin}
        return self.render("stacks", replies, given)

    @policed
    def detail(self, request: Any) -> Any:
        """List stacks of the project with every field."""
        replies = self.engine.call(request.context, "list_stacks")
        return {"stacks": [views.stack(request.base_url, reply) for reply in replies]}

    @policed
    @takes_encoded
    def preview(self, request: Any, body: Any) -> Any:
        """Show what creating a stack would give."""
        return {"stack": views.stack(request.base_url, self._instantiate(request, "preview_stack", body))}

    @policed
    @takes_encoded
    def create(self, request: Any, body: Any) -> Any:
        """Create a stack; the answer is 201 with its Location."""
        identity = self._instantiate(request, "create_stack", body)
        result = {"stack": views.stack(request.base_url, {"stack_identity": identity})}
        request.answer_status = 201
        request.answer_headers = {"Location": result["stack"]["links"][0]["href"]}
        return result

    def _instantiate(self, request: Any, method: str, body: Any) -> Any:
        data = StackBody(self.services, body)
        extra = data.arguments(updating=False)
        return self.engine.call(request.context, method, stack_name=data.stack_name(), **data.engine_arguments(extra))

    @policed
    def lookup(self, request: Any, stack_name: str, path: str = "", body: Any = None) -> Any:
        """Redirect a name, id or ARN to the stack's own URL, whatever the method."""
        try:
            identity = Identity.from_arn(stack_name).to_wire()
        except ValueError:
            identity = self.engine.call(request.context, "identify_stack", stack_name=stack_name)
        location = views.stack_url(request.base_url, identity)
        if path:
            location = f"{location}/{path}"
        if request.params:
            location += "?" + urlencode(request.params, True)
        raise webob.exc.HTTPFound(location=location)

    @on_stack
    def show(self, request: Any, identity: Any) -> Any:
        """Show a stack; ``resolve_outputs=false`` spares the engine resolving its outputs."""
        resolve = flag(request.params, "resolve_outputs", default=True)
        replies = self.engine.call(request.context, "show_stack", stack_identity=identity, resolve_outputs=resolve)
        if not replies:
            raise webob.exc.HTTPInternalServerError()
        return {"stack": views.stack(request.base_url, replies[0])}

    @on_stack
    def template(self, request: Any, identity: Any) -> Any:
        """Show a stack's template."""
        return self.engine.call(request.context, "get_template", stack_identity=identity)

    @on_stack
    def environment(self, request: Any, identity: Any) -> Any:
        """Show a stack's environment."""
        return self.engine.call(request.context, "get_environment", stack_identity=identity)

    @on_stack
    def files(self, request: Any, identity: Any) -> Any:
        """Show the files a stack was created with."""
        return self.engine.call(request.context, "get_files", stack_identity=identity)

    @on_stack
    @takes_encoded
    def update(self, request: Any, identity: Any, body: Any) -> Any:
        """Replace a stack's template and parameters."""
        self._change(request, "update_stack", identity, StackBody(self.services, body))
        raise webob.exc.HTTPAccepted()

    @in_project
    @with_identity
    @takes_encoded
    def update_patch(self, request: Any, identity: Any, body: Any) -> Any:
        """Change parts of a stack, keeping the rest.

        Upstream means to check the milder rule ``stacks:update_no_change`` for an empty change, but compares with a
        value that is always None, so ``stacks:update_patch`` is what decides, after the body has been read.
        """
        data = StackBody(self.services, body, patch=True)
        if data.template() is None:
            data.environment()
        self.enforce(request, "update_patch")
        self._change(request, "update_stack", identity, data)
        raise webob.exc.HTTPAccepted()

    @on_stack
    @takes_encoded
    def preview_update(self, request: Any, identity: Any, body: Any) -> Any:
        """Show what an update would change."""
        data = StackBody(self.services, body)
        return {"resource_changes": self._change(request, "preview_update_stack", identity, data)}

    @on_stack
    @takes_encoded
    def preview_update_patch(self, request: Any, identity: Any, body: Any) -> Any:
        """Show what a PATCH would change."""
        data = StackBody(self.services, body, patch=True)
        return {"resource_changes": self._change(request, "preview_update_stack", identity, data)}

    def _change(self, request: Any, method: str, identity: Any, data: StackBody) -> Any:
        extra = data.arguments(updating=True)
        if method == "preview_update_stack":
            nested = select(request.params, {"show_nested": SINGLE}).get("show_nested")
            if nested is not None:
                with bad_request():
                    extra["show_nested"] = boolean("show_nested", nested)
        return self.engine.call(request.context, method, stack_identity=identity, **data.engine_arguments(extra))

    @on_stack
    def delete(self, request: Any, identity: Any) -> Any:
        """Delete a stack."""
        self.engine.call(request.context, "delete_stack", stack_identity=identity)
        raise webob.exc.HTTPNoContent()

    @on_stack
    def abandon(self, request: Any, identity: Any) -> Any:
        """Forget a stack and leave its resources where they are."""
        return self.engine.call(request.context, "abandon_stack", stack_identity=identity)

    @on_stack
    def export(self, request: Any, identity: Any) -> Any:
        """Show everything that abandon would return, keeping the stack."""
        return self.engine.call(request.context, "export_stack", stack_identity=identity)

"""Resources of a stack: listing, details, metadata, signals, health."""

from typing import Any

import webob.exc

from heatperf.api import views
from heatperf.api.controller import Controller, on_stack
from heatperf.api.params import MIXED, MULTI, bad_request, boolean, flag, integer, select

_FILTERS = dict.fromkeys(("type", "status", "name", "action", "id", "physical_resource_id"), MIXED)


class ResourceController(Controller):
    """Actions on resources."""

    scope = "resource"

    @on_stack
    def index(self, request: Any, identity: Any) -> Any:
        """List resources, down to ``nested_depth``."""
        params = request.params
        unknown = set(params) - set(_FILTERS) - {"nested_depth", "with_detail"}
        if unknown:
            raise webob.exc.HTTPBadRequest(f"Invalid filter parameters {list(unknown)}")
        with bad_request():
            depth = integer("nested_depth", params["nested_depth"]) if "nested_depth" in params else 0
        detailed = flag(params, "with_detail")
        replies = self.engine.call(
            request.context,
            "list_stack_resources",
            raw_above=self.services.heavy.raw_above,
            stack_identity=identity,
            nested_depth=depth,
            with_detail=detailed,
            filters=select(params, _FILTERS),
        )
        return self.render("resources", replies, {"base": request.base_url})

    @on_stack
    def show(self, request: Any, identity: Any, resource_name: str) -> Any:
        """Show a resource, with the attributes named by ``with_attr``."""
        reply = self.engine.call(
            request.context,
            "describe_stack_resource",
            stack_identity=identity,
            resource_name=resource_name,
            with_attr=select(request.params, {"with_attr": MULTI}).get("with_attr"),
        )
        return {"resource": views.resource(request.base_url, reply)}

    @on_stack
    def metadata(self, request: Any, identity: Any, resource_name: str) -> Any:
        """Show a resource's metadata."""
        reply = self.engine.call(
            request.context, "describe_stack_resource", stack_identity=identity, resource_name=resource_name
        )
        return {"metadata": reply["metadata"]}

    @on_stack
    def signal(self, request: Any, identity: Any, resource_name: str, body: Any = None) -> None:
        """Send a signal to a resource."""
        self.engine.call(
            request.context,
            "resource_signal",
            stack_identity=identity,
            resource_name=resource_name,
            details=body,
        )

    @on_stack
    def mark_unhealthy(self, request: Any, identity: Any, resource_name: str, body: Any) -> None:
        """Mark a resource healthy or unhealthy, so that the next update replaces it."""
        unknown = set(body) - {"mark_unhealthy", "resource_status_reason"}
        if unknown:
            raise webob.exc.HTTPBadRequest(f"Invalid keys in resource mark unhealthy {unknown}")
        if "mark_unhealthy" not in body:
            raise webob.exc.HTTPBadRequest("Missing mandatory (mark_unhealthy) key from mark unhealthy request")
        with bad_request():
            unhealthy = boolean("mark_unhealthy", body["mark_unhealthy"])
        self.engine.call(
            request.context,
            "resource_mark_unhealthy",
            stack_identity=identity,
            resource_name=resource_name,
            mark_unhealthy=unhealthy,
            resource_status_reason=body.get("resource_status_reason", ""),
        )

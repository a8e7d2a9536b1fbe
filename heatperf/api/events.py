"""Events of a stack or of one of its resources."""

from typing import Any

import webob.exc

from heatperf.api import views
from heatperf.api.controller import Controller, on_stack
from heatperf.api.params import MIXED, MULTI, SINGLE, bad_request, integer, select

_PAGING = {"limit": SINGLE, "marker": SINGLE, "sort_dir": SINGLE, "sort_keys": MULTI, "nested_depth": SINGLE}
_FILTERS = dict.fromkeys(("resource_status", "resource_action", "resource_name", "resource_type"), MIXED)


class EventController(Controller):
    """Actions on events."""

    scope = "events"

    @on_stack
    def index(self, request: Any, identity: Any, resource_name: str | None = None) -> Any:
        """List events, oldest first unless sorted otherwise."""
        params = select(request.params, _PAGING)
        filters: dict[str, Any] | None = select(request.params, _FILTERS)
        with bad_request():
            for name in ("limit", "nested_depth"):
                if name in params:
                    params[name] = integer(name, params[name])
        if resource_name is not None:
            filters = {**(filters or {}), "resource_name": resource_name}
        replies = self.engine.call(
            request.context,
            "list_events",
            raw_above=self.services.heavy.raw_above,
            stack_identity=identity,
            filters=filters or None,
            **params,
        )
        result = self.render("events", replies, {"base": request.base_url})
        if resource_name is not None and result == {"events": []}:
            raise webob.exc.HTTPNotFound(f"No events found for resource {resource_name}")
        return result

    @on_stack
    def show(self, request: Any, identity: Any, resource_name: str, event_id: str) -> Any:
        """Show an event."""
        replies = self.engine.call(
            request.context,
            "list_events",
            stack_identity=identity,
            filters={"resource_name": resource_name, "uuid": event_id},
        )
        events = [views.event(request.base_url, reply, summary=False) for reply in replies]
        if not events:
            raise webob.exc.HTTPNotFound(f"No event {event_id} found")
        return {"event": events[0]}

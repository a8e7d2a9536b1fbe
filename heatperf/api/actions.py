"""Actions on a stack: suspend, resume, check, cancel. One route; the body's only key names the action."""

from typing import Any

import webob.exc

from heatperf.api.controller import Controller, on_stack


class ActionController(Controller):
    """Actions, each with a policy rule of its own."""

    scope = "actions"

    def action(self, request: Any, tenant_id: str, stack_name: str, stack_id: str, body: Any = None) -> None:
        """Do the one action that the body names."""
        body = body or {}
        if len(body) < 1:
            raise webob.exc.HTTPBadRequest("No action specified")
        if len(body) > 1:
            raise webob.exc.HTTPBadRequest("Multiple actions specified")
        name = next(iter(body))
        known = {
            "suspend": self.suspend,
            "resume": self.resume,
            "check": self.check,
            "cancel_update": self.cancel_update,
            "cancel_without_rollback": self.cancel_without_rollback,
        }
        if name not in known:
            raise webob.exc.HTTPBadRequest(f"Invalid action {name} specified")
        known[name](request, tenant_id=tenant_id, stack_name=stack_name, stack_id=stack_id)

    @on_stack
    def suspend(self, request: Any, identity: Any) -> None:
        """Suspend the stack's resources."""
        self.engine.call(request.context, "stack_suspend", stack_identity=identity)

    @on_stack
    def resume(self, request: Any, identity: Any) -> None:
        """Resume the stack's resources."""
        self.engine.call(request.context, "stack_resume", stack_identity=identity)

    @on_stack
    def check(self, request: Any, identity: Any) -> None:
        """Compare the stack with what really exists."""
        self.engine.call(request.context, "stack_check", stack_identity=identity)

    @on_stack
    def cancel_update(self, request: Any, identity: Any) -> None:
        """Stop an update and roll back."""
        self._cancel(request, identity, rollback=True)

    @on_stack
    def cancel_without_rollback(self, request: Any, identity: Any) -> None:
        """Stop a create or update where it is."""
        self._cancel(request, identity, rollback=False)

    def _cancel(self, request: Any, identity: Any, rollback: bool) -> None:
        self.engine.call(
            request.context, "stack_cancel_update", stack_identity=identity, cancel_with_rollback=rollback
        )

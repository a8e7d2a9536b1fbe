"""Snapshots and outputs of one stack. Their policy rules belong to the scope of stacks."""

from typing import Any

import webob.exc

from heatperf.api.controller import Controller, on_stack


class StackPartsController(Controller):
    """Actions on a stack's snapshots and outputs."""

    scope = "stacks"

    @on_stack
    def snapshot(self, request: Any, identity: Any, body: Any) -> Any:
        """Take a snapshot."""
        return self.engine.call(
            request.context, "stack_snapshot", stack_identity=identity, name=body.get("name")
        )

    @on_stack
    def show_snapshot(self, request: Any, identity: Any, snapshot_id: str) -> Any:
        """Show a snapshot."""
        reply = self.engine.call(
            request.context, "show_snapshot", stack_identity=identity, snapshot_id=snapshot_id
        )
        return {"snapshot": reply}

    @on_stack
    def delete_snapshot(self, request: Any, identity: Any, snapshot_id: str) -> Any:
        """Delete a snapshot."""
        self.engine.call(request.context, "delete_snapshot", stack_identity=identity, snapshot_id=snapshot_id)
        raise webob.exc.HTTPNoContent()

    @on_stack
    def list_snapshots(self, request: Any, identity: Any) -> Any:
        """List snapshots."""
        return {"snapshots": self.engine.call(request.context, "stack_list_snapshots", stack_identity=identity)}

    @on_stack
    def restore_snapshot(self, request: Any, identity: Any, snapshot_id: str) -> Any:
        """Bring a stack back to a snapshot."""
        self.engine.call(request.context, "stack_restore", stack_identity=identity, snapshot_id=snapshot_id)
        raise webob.exc.HTTPAccepted()

    @on_stack
    def list_outputs(self, request: Any, identity: Any) -> Any:
        """List outputs, without their values."""
        return {"outputs": self.engine.call(request.context, "list_outputs", stack_identity=identity)}

    @on_stack
    def show_output(self, request: Any, identity: Any, output_key: str) -> Any:
        """Show an output's value."""
        reply = self.engine.call(
            request.context, "show_output", stack_identity=identity, output_key=output_key
        )
        return {"output": reply}

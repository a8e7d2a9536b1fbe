"""Software configurations and deployments."""

from typing import Any

import webob.exc

from heatperf.api.controller import Controller, policed
from heatperf.api.params import SINGLE, bad_request, flag, integer, select
from heatperf.context import admin_context


def _deleted(reply: Any) -> None:
    """Answer a deletion: the engine returns nothing, or a mapping with the reason why not."""
    if reply is not None:
        raise webob.exc.HTTPBadRequest(reply["Error"])
    raise webob.exc.HTTPNoContent()


class SoftwareConfigController(Controller):
    """Actions on software configurations."""

    scope = "software_configs"

    @policed
    def index(self, request: Any) -> Any:
        """List configurations of the project; ``global_tenant=true`` lists every project's."""
        if flag(request.params, "global_tenant"):
            return self.global_index(request, tenant_id=request.context.project_id)
        return self._list(request, request.context)

    @policed
    def global_index(self, request: Any) -> Any:
        """List configurations of all projects."""
        return self._list(request, admin_context())

    def _list(self, request: Any, context: Any) -> Any:
        params = select(request.params, {"limit": SINGLE, "marker": SINGLE})
        if "limit" in params:
            with bad_request():
                params["limit"] = integer("limit", params["limit"])
        return {"software_configs": self.engine.call(context, "list_software_configs", **params)}

    @policed
    def show(self, request: Any, config_id: str) -> Any:
        """Show a configuration."""
        reply = self.engine.call(request.context, "show_software_config", config_id=config_id)
        return {"software_config": reply}

    @policed
    def create(self, request: Any, body: Any) -> Any:
        """Create a configuration."""
        reply = self.engine.call(
            request.context,
            "create_software_config",
            group=body.get("group"),
            name=body.get("name"),
            config=body.get("config"),
            inputs=body.get("inputs") or [],
            outputs=body.get("outputs") or [],
            options=body.get("options") or {},
        )
        return {"software_config": reply}

    @policed
    def delete(self, request: Any, config_id: str) -> None:
        """Delete a configuration."""
        _deleted(self.engine.call(request.context, "delete_software_config", config_id=config_id))


class SoftwareDeploymentController(Controller):
    """Actions on software deployments."""

    scope = "software_deployments"

    @policed
    def index(self, request: Any) -> Any:
        """List deployments, optionally of one server."""
        params = select(request.params, {"server_id": SINGLE})
        reply = self.engine.call(request.context, "list_software_deployments", **params)
        return {"software_deployments": reply}

    @policed
    def metadata(self, request: Any, server_id: str) -> Any:
        """Show the deployments of a server as its agents read them."""
        reply = self.engine.call(request.context, "metadata_software_deployments", server_id=server_id)
        return {"metadata": reply}

    @policed
    def show(self, request: Any, deployment_id: str) -> Any:
        """Show a deployment."""
        reply = self.engine.call(request.context, "show_software_deployment", deployment_id=deployment_id)
        return {"software_deployment": reply}

    @policed
    def create(self, request: Any, body: Any) -> Any:
        """Create a deployment; fields left out are sent as null, as upstream does."""
        fields = ("config_id", "server_id", "action", "status", "status_reason", "stack_user_project_id")
        reply = self.engine.call(
            request.context,
            "create_software_deployment",
            input_values=body.get("input_values") or {},
            **{name: body.get(name) for name in fields},
        )
        return {"software_deployment": reply}

    @policed
    def update(self, request: Any, deployment_id: str, body: Any) -> Any:
        """Change a deployment; only fields with a value are sent."""
        fields = ("config_id", "input_values", "output_values", "action", "status", "status_reason")
        reply = self.engine.call(
            request.context,
            "update_software_deployment",
            deployment_id=deployment_id,
            **{name: body.get(name) for name in fields if body.get(name) is not None},
        )
        return {"software_deployment": reply}

    @policed
    def delete(self, request: Any, deployment_id: str) -> None:
        """Delete a deployment."""
        _deleted(self.engine.call(request.context, "delete_software_deployment", deployment_id=deployment_id))

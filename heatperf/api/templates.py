"""Template validation, and what templates may hold: resource types, versions, functions.

Their policy rules belong to the scope of stacks.
"""

from typing import Any

import webob.exc

from heatperf.api.controller import Controller, policed, takes_encoded
from heatperf.api.instantiation import StackBody
from heatperf.api.params import SINGLE, bad_request, boolean, flag, select, template_type


class TemplateController(Controller):
    """Actions on templates and resource types."""

    scope = "stacks"

    @policed
    @takes_encoded
    def validate_template(self, request: Any, body: Any) -> Any:
        """Check a template and describe its parameters."""
        data = StackBody(self.services, body)
        params = select(request.params, {"show_nested": SINGLE, "ignore_errors": SINGLE})
        nested = False
        if "show_nested" in params:
            with bad_request():
                nested = boolean("show_nested", params["show_nested"])
        ignorable = params["ignore_errors"].split(",") if "ignore_errors" in params else None
        result = self.engine.call(
            request.context,
            "validate_template",
            **data.engine_arguments(),
            show_nested=nested,
            ignorable_errors=ignorable,
        )
        if "Error" in result:
            raise webob.exc.HTTPBadRequest(result["Error"])
        return result

    @policed
    def list_resource_types(self, request: Any) -> Any:
        """List resource types, by support status, name and version."""
        params = request.params
        reply = self.engine.call(
            request.context,
            "list_resource_types",
            support_status=params.get("support_status"),
            type_name=params.get("name"),
            heat_version=params.get("version"),
            with_description=flag(params, "with_description"),
        )
        return {"resource_types": reply}

    @policed
    def list_template_versions(self, request: Any) -> Any:
        """List template versions."""
        return {"template_versions": self.engine.call(request.context, "list_template_versions")}

    @policed
    def list_template_functions(self, request: Any, template_version: str) -> Any:
        """List the functions of a template version."""
        reply = self.engine.call(
            request.context,
            "list_template_functions",
            template_version=template_version,
            with_condition=flag(request.params, "with_condition_func"),
        )
        return {"template_functions": reply}

    @policed
    def resource_schema(self, request: Any, type_name: str, with_description: Any = False) -> Any:
        """Show the schema of a resource type."""
        with bad_request():
            described = boolean("with_description", with_description)
        return self.engine.call(
            request.context, "resource_schema", type_name=type_name, with_description=described
        )

    @policed
    def generate_template(self, request: Any, type_name: str) -> Any:
        """Make a template of one resource type, in ``cfn`` (default) or ``hot`` form."""
        kind = "cfn"
        if "template_type" in request.params:
            with bad_request("Template type is not supported: "):
                kind = template_type(request.params["template_type"])
        return self.engine.call(
            request.context, "generate_template", type_name=type_name, template_type=kind
        )

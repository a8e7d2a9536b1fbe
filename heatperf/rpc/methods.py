"""The engine's RPC methods that the REST API uses, with the version each one is pinned to.

A literal table, so that a reader compares it with upstream's engine in one look. ``arguments`` lists what goes on the
wire in every message of the method; a caller that leaves one out sends the default given here, as upstream's client
does. Facts: RPC API 1.36, unchanged from Stein to 2026.
"""

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

#: Topic (queue and routing key) the engines listen on, and the version sent where a method pins none.
TOPIC = "engine"
BASE_VERSION = "1.0"


class _Required:
    """Marks an argument that has no default."""

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required()


@dataclass(frozen=True)
class Method:
    """One engine method: RPC version pin and arguments with their defaults."""

    version: str = BASE_VERSION
    arguments: MappingProxyType[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    _required: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        required = tuple(name for name, default in self.arguments.items() if default is REQUIRED)
        object.__setattr__(self, "_required", required)

    def message(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments for the wire.

        :raises TypeError: an argument is unknown or missing (as a Python call would)
        """
        message = {**self.arguments, **given}
        if len(message) > len(self.arguments):
            unknown = given.keys() - self.arguments.keys()
            raise TypeError(f"{name}() got an unexpected argument {min(unknown)!r}")
        for key in self._required:
            if message[key] is REQUIRED:
                raise TypeError(f"{name}() misses argument {key!r}")
        return message


def _method(version: str = BASE_VERSION, /, *required: str, **defaults: Any) -> Method:
    return Method(version, MappingProxyType({**dict.fromkeys(required, REQUIRED), **defaults}))


_STACK = "stack_identity"
_FILTERS: dict[str, Any] = {
    "filters": None,
    "show_deleted": False,
    "show_nested": False,
    "show_hidden": False,
    "tags": None,
    "tags_any": None,
    "not_tags": None,
    "not_tags_any": None,
}
_FILES: dict[str, Any] = {"environment_files": None, "files_container": None}
_TEMPLATE = ("template", "params", "files", "args")

METHODS: dict[str, Method] = {
    # stacks
    "identify_stack": _method("1.0", "stack_name"),
    "list_stacks": _method("1.33", limit=None, sort_keys=None, marker=None, sort_dir=None, **_FILTERS),
    "count_stacks": _method("1.33", **_FILTERS),
    "show_stack": _method("1.20", _STACK, resolve_outputs=True),
    "preview_stack": _method("1.36", "stack_name", *_TEMPLATE, **_FILES),
    "create_stack": _method(
        "1.36",
        "stack_name",
        *_TEMPLATE,
        **_FILES,
        owner_id=None,
        nested_depth=0,
        user_creds_id=None,
        stack_user_project_id=None,
        parent_resource_name=None,
        template_id=None,
    ),
    "update_stack": _method("1.36", _STACK, *_TEMPLATE, **_FILES, template_id=None),
    "preview_update_stack": _method("1.36", _STACK, *_TEMPLATE, **_FILES),
    "validate_template": _method(
        "1.36", "template", params=None, files=None, **_FILES, show_nested=False, ignorable_errors=None
    ),
    "get_template": _method("1.0", _STACK),
    "get_environment": _method("1.28", _STACK),
    "get_files": _method("1.32", _STACK),
    "delete_stack": _method("1.0", _STACK),
    "abandon_stack": _method("1.0", _STACK),
    "export_stack": _method("1.22", _STACK),
    "list_outputs": _method("1.19", _STACK),
    "show_output": _method("1.19", _STACK, "output_key"),
    # actions
    "stack_suspend": _method("1.0", _STACK),
    "stack_resume": _method("1.0", _STACK),
    "stack_check": _method("1.0", _STACK),
    "stack_cancel_update": _method("1.14", _STACK, cancel_with_rollback=True),
    # snapshots
    "stack_snapshot": _method("1.0", _STACK, "name"),
    "show_snapshot": _method("1.0", _STACK, "snapshot_id"),
    "delete_snapshot": _method("1.0", _STACK, "snapshot_id"),
    "stack_list_snapshots": _method("1.0", _STACK),
    "stack_restore": _method("1.0", _STACK, "snapshot_id"),
    # resources and events
    "list_stack_resources": _method("1.25", _STACK, nested_depth=0, with_detail=False, filters=None),
    "describe_stack_resource": _method("1.2", _STACK, "resource_name", with_attr=False),
    "resource_signal": _method("1.3", _STACK, "resource_name", "details", sync_call=False),
    "resource_mark_unhealthy": _method("1.26", _STACK, "resource_name", "mark_unhealthy", resource_status_reason=None),
    "list_events": _method(
        "1.31",
        _STACK,
        filters=None,
        limit=None,
        marker=None,
        sort_keys=None,
        sort_dir=None,
        nested_depth=None,
    ),
    # templates and types
    "list_resource_types": _method(
        "1.30", support_status=None, type_name=None, heat_version=None, with_description=False
    ),
    "resource_schema": _method("1.30", "type_name", with_description=False),
    "generate_template": _method("1.9", "type_name", template_type="cfn"),
    "list_template_versions": _method("1.11"),
    "list_template_functions": _method("1.35", "template_version", with_condition=False),
    # software configuration
    "list_software_configs": _method("1.33", limit=None, marker=None),
    "show_software_config": _method("1.0", "config_id"),
    "create_software_config": _method("1.0", "group", "name", "config", "inputs", "outputs", "options"),
    "delete_software_config": _method("1.0", "config_id"),
    "list_software_deployments": _method("1.0", server_id=None),
    "metadata_software_deployments": _method("1.0", "server_id"),
    "show_software_deployment": _method("1.0", "deployment_id"),
    "create_software_deployment": _method(
        "1.0",
        "server_id",
        config_id=None,
        deployment_id=None,
        input_values={},
        action="INIT",
        status="COMPLETE",
        status_reason="",
        stack_user_project_id=None,
    ),
    "update_software_deployment": _method(
        "1.5",
        "deployment_id",
        config_id=None,
        input_values=None,
        output_values=None,
        action=None,
        status=None,
        status_reason=None,
        updated_at=None,
    ),
    "delete_software_deployment": _method("1.0", "deployment_id"),
    "check_software_deployment": _method("1.27", "deployment_id", "timeout"),
    "signal_software_deployment": _method("1.6", "deployment_id", "details", updated_at=None),
    # engine
    "get_revision": _method("1.0"),
    "list_services": _method("1.4"),
    "authenticated_to_backend": _method("1.0"),
    # the rest of the engine's contract, for other front doors and maintenance
    "find_physical_resource": _method("1.0", "physical_resource_id"),
    "describe_stack_resources": _method("1.0", _STACK, "resource_name"),
    "migrate_convergence_1": _method("1.34", "stack_id"),
}

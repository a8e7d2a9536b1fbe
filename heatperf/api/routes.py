"""Every route of the Heat v1 API, in one table.

The order is the order of matching: the first route whose path and method fit wins. Paths are Routes patterns below
``/v1``. For each path the router adds an OPTIONS answer (204) and a 405 for the methods nobody serves, except where a
group says it has none.
"""

from dataclasses import dataclass

GET, POST, PUT, PATCH, DELETE = "GET", "POST", "PUT", "PATCH", "DELETE"
ANY = (GET, POST, PUT, PATCH, DELETE)


@dataclass(frozen=True)
class Route:
    """One route: name (as upstream calls it), methods, path, and the controller's action."""

    name: str
    methods: tuple[str, ...]
    path: str
    controller: str
    action: str


@dataclass(frozen=True)
class Group:
    """Routes that share a path prefix and their 405 and OPTIONS answers."""

    prefix: str
    routes: tuple[Route, ...]
    rejects: bool = True


def _route(name: str, methods: str | tuple[str, ...], path: str, target: str) -> Route:
    controller, action = target.split(".")
    return Route(name, (methods,) if isinstance(methods, str) else methods, path, controller, action)


_STACK = "/stacks/{stack_name}/{stack_id}"
_SNAPSHOT = _STACK + "/snapshots/{snapshot_id}"
_RESOURCE = "/resources/{resource_name}"

ROUTES: tuple[Group, ...] = (
    Group(
        "/{tenant_id}",
        (
            # templates and what they may hold
            _route("template_validate", POST, "/validate", "templates.validate_template"),
            _route("resource_types", GET, "/resource_types", "templates.list_resource_types"),
            _route("resource_schema", GET, "/resource_types/{type_name}", "templates.resource_schema"),
            _route("generate_template", GET, "/resource_types/{type_name}/template", "templates.generate_template"),
            _route("template_versions", GET, "/template_versions", "templates.list_template_versions"),
            _route(
                "template_functions",
                GET,
                "/template_versions/{template_version}/functions",
                "templates.list_template_functions",
            ),
            # the collection
            _route("stack_index", GET, "/stacks", "stacks.index"),
            _route("stack_create", POST, "/stacks", "stacks.create"),
            _route("stack_preview", POST, "/stacks/preview", "stacks.preview"),
            _route("stack_detail", GET, "/stacks/detail", "stacks.detail"),
            # by name, id or ARN: redirects. \x3A is a colon, which Routes would read as its old variable syntax
            _route("stack_lookup", ANY, "/stacks/{stack_name}", "stacks.lookup"),
            _route("stack_lookup", ANY, r"/stacks/{stack_name:arn\x3A.*}", "stacks.lookup"),
            _route(
                "stack_lookup_subpath",
                GET,
                "/stacks/{stack_name}/{path:resources|events|template|actions|environment|files}",
                "stacks.lookup",
            ),
            _route(
                "stack_lookup_subpath_post",
                POST,
                "/stacks/{stack_name}/{path:resources|events|template|actions}",
                "stacks.lookup",
            ),
            # one stack
            _route("stack_show", GET, _STACK, "stacks.show"),
            _route("stack_template", GET, _STACK + "/template", "stacks.template"),
            _route("stack_environment", GET, _STACK + "/environment", "stacks.environment"),
            _route("stack_files", GET, _STACK + "/files", "stacks.files"),
            _route("stack_update", PUT, _STACK, "stacks.update"),
            _route("stack_update_patch", PATCH, _STACK, "stacks.update_patch"),
            _route("preview_stack_update", PUT, _STACK + "/preview", "stacks.preview_update"),
            _route("preview_stack_update_patch", PATCH, _STACK + "/preview", "stacks.preview_update_patch"),
            _route("stack_delete", DELETE, _STACK, "stacks.delete"),
            _route("stack_abandon", DELETE, _STACK + "/abandon", "stacks.abandon"),
            _route("stack_export", GET, _STACK + "/export", "stacks.export"),
            # snapshots and outputs
            _route("stack_snapshot", POST, _STACK + "/snapshots", "stack_parts.snapshot"),
            _route("stack_snapshot_show", GET, _SNAPSHOT, "stack_parts.show_snapshot"),
            _route("stack_snapshot_delete", DELETE, _SNAPSHOT, "stack_parts.delete_snapshot"),
            _route("stack_list_snapshots", GET, _STACK + "/snapshots", "stack_parts.list_snapshots"),
            _route("stack_snapshot_restore", POST, _SNAPSHOT + "/restore", "stack_parts.restore_snapshot"),
            _route("stack_output_list", GET, _STACK + "/outputs", "stack_parts.list_outputs"),
            _route("stack_output_show", GET, _STACK + "/outputs/{output_key}", "stack_parts.show_output"),
        ),
    ),
    Group(
        "/{tenant_id}" + _STACK,
        (
            _route("resource_index", GET, "/resources", "resources.index"),
            _route("resource_show", GET, _RESOURCE, "resources.show"),
            _route("resource_metadata_show", GET, _RESOURCE + "/metadata", "resources.metadata"),
            _route("resource_signal", POST, _RESOURCE + "/signal", "resources.signal"),
            _route("resource_mark_unhealthy", PATCH, _RESOURCE, "resources.mark_unhealthy"),
        ),
    ),
    Group(
        "/{tenant_id}" + _STACK,
        (
            _route("event_index_stack", GET, "/events", "events.index"),
            _route("event_index_resource", GET, _RESOURCE + "/events", "events.index"),
            _route("event_show", GET, _RESOURCE + "/events/{event_id}", "events.show"),
        ),
    ),
    Group("/{tenant_id}" + _STACK, (_route("action_stack", POST, "/actions", "actions.action"),)),
    Group("/{tenant_id}", (_route("build_info", GET, "/build_info", "build_info.build_info"),)),
    Group(
        "/{tenant_id}/software_configs",
        (
            _route("software_config_index", GET, "", "software_configs.index"),
            _route("software_config_create", POST, "", "software_configs.create"),
            _route("software_config_show", GET, "/{config_id}", "software_configs.show"),
            _route("software_config_delete", DELETE, "/{config_id}", "software_configs.delete"),
        ),
    ),
    Group(
        "/{tenant_id}/software_deployments",
        (
            _route("software_deployment_index", GET, "", "software_deployments.index"),
            _route("software_deployment_metadata", GET, "/metadata/{server_id}", "software_deployments.metadata"),
            _route("software_deployment_create", POST, "", "software_deployments.create"),
            _route("software_deployment_show", GET, "/{deployment_id}", "software_deployments.show"),
            _route("software_deployment_update", PUT, "/{deployment_id}", "software_deployments.update"),
            _route("software_deployment_delete", DELETE, "/{deployment_id}", "software_deployments.delete"),
        ),
    ),
    # upstream registers this one without its helper, so other methods are 404 and OPTIONS too
    Group("/{tenant_id}/services", (_route("service_index", GET, "", "services.index"),), rejects=False),
)

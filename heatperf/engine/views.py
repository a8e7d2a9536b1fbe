"""What answers contain: records and resolved values into the dictionaries that cross RPC.

Comes in: records and what the caller resolved. Goes out: plain dictionaries with upstream's names and formats
(openstack-heat 27: heat/engine/api.py, heat/rpc/api.py). Raises: nothing. Pure code, any thread.
"""

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from heatperf.engine import records


def isotime(at: datetime.datetime | None) -> str | None:
    """A time in UTC as answers show it: whole seconds, ``Z``."""
    return None if at is None else at.strftime("%Y-%m-%dT%H:%M:%SZ")


def stack_identity(stack: records.Stack) -> dict[str, str]:
    """Identity of a stack."""
    return {"tenant": stack.tenant, "stack_name": stack.name, "stack_id": stack.id, "path": ""}


def resource_identity(stack: records.Stack, name: str) -> dict[str, str]:
    """Identity of a resource."""
    return {**stack_identity(stack), "path": f"/resources/{name}"}


def format_stack(
    stack: records.Stack,
    *,
    parameters: Mapping[str, str],
    description: str,
    outputs: list[dict[str, Any]] | None,
    preview: bool = False,
) -> dict[str, Any]:
    """A stack in full.

    :param outputs: None leaves the outputs out
    :param preview: the stack was never stored: no state
    """
    answer: dict[str, Any] = {
        "stack_name": stack.name,
        "stack_identity": stack_identity(stack),
        "creation_time": isotime(stack.created_at),
        "updated_time": isotime(stack.updated_at),
        "deletion_time": isotime(stack.deleted_at),
        "notification_topics": [],
        "parameters": dict(parameters),
        "description": description,
        "template_description": description,
        "capabilities": [],
        "disable_rollback": stack.disable_rollback,
        "timeout_mins": stack.timeout,
        "stack_owner": stack.username,
        "parent": stack.owner_id,
        "stack_user_project_id": stack.stack_user_project_id,
        "tags": list(stack.tags),
    }
    if not preview:
        answer["stack_action"] = stack.action or ""
        answer["stack_status"] = stack.status or ""
        answer["stack_status_reason"] = stack.status_reason
    if outputs is not None:
        answer["outputs"] = outputs
    return answer


def format_listed_stack(stack: records.Stack) -> dict[str, Any]:
    """A stack as lists show it."""
    return {
        "stack_identity": stack_identity(stack),
        "stack_name": stack.name,
        "description": "",
        "stack_action": stack.action,
        "stack_status": stack.status,
        "stack_status_reason": stack.status_reason,
        "creation_time": isotime(stack.created_at),
        "updated_time": isotime(stack.updated_at),
        "deletion_time": isotime(stack.deleted_at),
        "stack_owner": stack.username,
        "parent": stack.owner_id,
        "stack_user_project_id": stack.stack_user_project_id,
        # lists know absent tags as null, where a shown stack has an empty list
        "tags": list(stack.tags) or None,
    }


def format_resource(
    stack: records.Stack,
    resource: records.Resource,
    *,
    required_by: Iterable[str],
    detail: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A resource.

    :param detail: description, metadata, attributes and properties, as far as the caller wants them shown
    """
    answer: dict[str, Any] = {
        "updated_time": isotime(resource.updated_at or resource.created_at),
        "creation_time": isotime(resource.created_at),
        "resource_name": resource.name,
        "physical_resource_id": resource.physical_id or "",
        "resource_action": resource.action,
        "resource_status": resource.status,
        "resource_status_reason": resource.status_reason,
        "resource_type": resource.type,
        "resource_identity": resource_identity(stack, resource.name),
        "stack_identity": stack_identity(stack),
        "stack_name": stack.name,
        "required_by": list(required_by),
    }
    if stack.parent_resource_name:
        answer["parent_resource"] = stack.parent_resource_name
    return {**answer, **(detail or {})}


def format_event(
    event: records.Event, stack: records.Stack, *, root: records.Stack | None = None, with_properties: bool = False
) -> dict[str, Any]:
    """An event; ``root``: given where the question was for a tree of stacks."""
    answer: dict[str, Any] = {
        "event_identity": {
            **stack_identity(stack),
            "path": f"/resources/{event.resource_name}/events/{event.uuid}",
        },
        "stack_identity": stack_identity(stack),
        "stack_name": stack.name,
        "event_time": isotime(event.created_at),
        "resource_name": event.resource_name,
        "physical_resource_id": event.physical_resource_id,
        "resource_action": event.resource_action,
        "resource_status": event.resource_status,
        "resource_status_reason": event.resource_status_reason,
        "resource_type": event.resource_type,
    }
    if root is not None:
        answer["root_stack_id"] = stack_identity(root)
    if with_properties:
        answer["resource_properties"] = event.resource_properties or {}
    return answer


def format_snapshot(snapshot: records.Snapshot) -> dict[str, Any]:
    """A snapshot."""
    return {
        "id": snapshot.id,
        "name": snapshot.name,
        "action": snapshot.action,
        "status": snapshot.status,
        "status_reason": snapshot.status_reason,
        "data": snapshot.data,
        "creation_time": isotime(snapshot.created_at),
    }


def format_config(config: records.SoftwareConfig, *, detail: bool = True, with_project: bool = False) -> dict[str, Any]:
    """A software config."""
    answer: dict[str, Any] = {
        "id": config.id,
        "name": config.name,
        "group": config.group,
        "creation_time": isotime(config.created_at),
    }
    if detail:
        answer.update({key: config.config[key] for key in ("config", "inputs", "outputs", "options")})
    if with_project:
        answer["project"] = config.tenant
    return answer


def format_deployment(deployment: records.SoftwareDeployment) -> dict[str, Any]:
    """A software deployment."""
    answer: dict[str, Any] = {
        "id": deployment.id,
        "server_id": deployment.server_id,
        "input_values": deployment.input_values,
        "output_values": deployment.output_values,
        "action": deployment.action,
        "status": deployment.status,
        "status_reason": deployment.status_reason,
        "config_id": deployment.config_id,
        "creation_time": isotime(deployment.created_at),
    }
    if deployment.updated_at:
        answer["updated_time"] = isotime(deployment.updated_at)
    return answer

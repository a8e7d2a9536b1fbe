"""What clients see of stacks, resources and events: the engine's replies with links, ids and joined statuses.

In: the request (links are relative to its URL) and one mapping of an RPC reply. Out: plain data for codec.encode.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import webob.exc

from heatperf.api.identity import Identity, identity_of

_STACK_SUMMARY = frozenset(
    (
        "stack_identity",
        "stack_name",
        "description",
        "stack_status",
        "stack_status_reason",
        "creation_time",
        "deletion_time",
        "updated_time",
        "stack_owner",
        "parent",
        "stack_user_project_id",
        "tags",
    )
)
_EVENT_SUMMARY = frozenset(
    (
        "event_identity",
        "event_time",
        "resource_name",
        "resource_status",
        "resource_status_reason",
        "physical_resource_id",
    )
)
# parts of a reply that only serve to build links and statuses
_RESOURCE_INTERNAL = frozenset(
    ("stack_identity", "stack_name", "resource_action", "nested_stack_id", "metadata", "resource_identity")
)
_EVENT_INTERNAL = frozenset(("stack_identity", "stack_name", "resource_action", "event_identity"))


def url_of(request: Any, identity: Identity) -> str:
    """Return the absolute URL of what ``identity`` names, in the API the client called."""
    return request.relative_url(identity.url_path(), True)


def stack_url(request: Any, value: Any) -> str:
    """Return the URL of a stack identity that came over RPC.

    :raises webob.exc.HTTPInternalServerError: the identity is not one
    """
    try:
        identity = identity_of(value)
    except ValueError as error:
        raise webob.exc.HTTPInternalServerError("Invalid Stack address") from error
    return url_of(request, identity)  # a name without UTF-8 (a lone surrogate) ends here, as 400


def link(request: Any, identity: Identity, relation: str) -> dict[str, str]:
    """Return one entry of a ``links`` list."""
    return {"href": url_of(request, identity), "rel": relation}


def _joined(reply: Mapping[str, Any], action: str, status: str) -> str:
    # engines keep action and status apart, the API has always shown them as one word: CREATE_COMPLETE
    return "_".join((reply[action], status)) if action in reply else status


def stack(request: Any, reply: Mapping[str, Any], summary: bool = False, with_project: bool = False) -> dict[str, Any]:
    """Render one stack.

    :param summary: only the fields of a listing
    :param with_project: add the owning project's id (listings by an administrator)
    """
    result: dict[str, Any] = {}
    for key, value in reply.items():
        if summary and key not in _STACK_SUMMARY:
            continue
        if key == "stack_identity":
            result["id"] = value["stack_id"]
            result["links"] = [{"href": stack_url(request, value), "rel": "self"}]
            if with_project:
                result["project"] = value["tenant"]
        elif key == "stack_status":
            result[key] = _joined(reply, "stack_action", value)
        elif key != "stack_action":
            result[key] = value
    return result


def stacks(request: Any, replies: list[Any], count: int | None, with_project: bool) -> dict[str, Any]:
    """Render a page of stacks, with a link to the next page when this one is full."""
    items = [stack(request, reply, summary=True, with_project=with_project) for reply in replies]
    result: dict[str, Any] = {"stacks": items}
    try:
        limit = int(request.params.get("limit") or 0)
    except ValueError:
        limit = 0
    if limit > 0 and limit == len(items):
        query = request.params.copy()
        query["marker"] = items[-1]["id"]
        result["links"] = [{"rel": "next", "href": f"{request.path_url}?{urlencode(query)}"}]
    if count is not None:
        result["count"] = count
    return result


def resource(request: Any, reply: Mapping[str, Any]) -> dict[str, Any]:
    """Render one resource."""
    result: dict[str, Any] = {}
    for key, value in reply.items():
        if key == "resource_identity":
            identity = identity_of(value)
            result["links"] = [link(request, identity, "self"), link(request, identity.stack(), "stack")]
            nested = reply.get("nested_stack_id")
            if nested:
                result["links"].append(link(request, identity_of(nested), "nested"))
        elif key in _RESOURCE_INTERNAL:
            continue
        elif key == "resource_status":
            result[key] = _joined(reply, "resource_action", value)
        else:
            _copy_with_logical_id(result, key, value)
    return result


def event(request: Any, reply: Mapping[str, Any], summary: bool) -> dict[str, Any]:
    """Render one event.

    :param summary: only the fields of a listing
    """
    result: dict[str, Any] = {}
    for key, value in reply.items():
        if summary and key not in _EVENT_SUMMARY:
            continue
        if key == "event_identity":
            identity = identity_of(value)
            owner = identity.resource()
            result["id"] = identity.last()
            result["links"] = [
                link(request, identity, "self"),
                link(request, owner, "resource"),
                link(request, owner.stack(), "stack"),
            ]
        elif key in _EVENT_INTERNAL:
            continue
        elif key == "resource_status":
            result[key] = _joined(reply, "resource_action", value)
        else:
            _copy_with_logical_id(result, key, value)
    root = reply.get("root_stack_id")
    if root:
        result["links"].append(link(request, identity_of(root), "root_stack"))
    return result


def _copy_with_logical_id(result: dict[str, Any], key: str, value: Any) -> None:
    if key == "resource_name":
        result["logical_resource_id"] = value
    result[key] = value

"""What clients see of stacks, resources and events: the engine's replies with links, ids and joined statuses.

In: the URL of the API as the client called it (links begin with it) and one mapping of an RPC reply. Out: plain data
for codec.encode. Nothing here knows the request, so that large listings may be rendered elsewhere.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import webob.exc

from heatperf.api import links
from heatperf.api.identity import Identity, identity_of

# fields of a listing that are shown as they are; identity and status are there too, in another form
_STACK_SUMMARY = frozenset(
    (
        "stack_name",
        "description",
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


def stack_url(base: str, value: Any) -> str:
    """Return the URL of a stack identity that came over RPC.

    :raises webob.exc.HTTPInternalServerError: the identity is not one
    """
    url = links.plain_url(base, value)
    if url is not None:
        return url
    try:
        identity = identity_of(value)
    except ValueError as error:
        raise webob.exc.HTTPInternalServerError("Invalid Stack address") from error
    return links.url_of(base, identity)  # a name without UTF-8 (a lone surrogate) ends here, as 400


def link(base: str, identity: Identity, relation: str) -> dict[str, str]:
    """Return one entry of a ``links`` list."""
    return {"href": links.url_of(base, identity), "rel": relation}


def _joined(reply: Mapping[str, Any], action: str, status: str) -> str:
    # engines keep action and status apart, the API has always shown them as one word: CREATE_COMPLETE
    return "_".join((reply[action], status)) if action in reply else status


def stack(base: str, reply: Mapping[str, Any], summary: bool = False, with_project: bool = False) -> dict[str, Any]:
    """Render one stack.

    :param base: ApiRequest.base_url
    :param summary: only the fields of a listing
    :param with_project: add the owning project's id (listings by an administrator)
    """
    result: dict[str, Any] = {}
    for key, value in reply.items():
        if key in _STACK_SUMMARY:
            result[key] = value
        elif key == "stack_identity":
            result["id"] = value["stack_id"]
            result["links"] = [{"href": stack_url(base, value), "rel": "self"}]
            if with_project:
                result["project"] = value["tenant"]
        elif key == "stack_status":
            result[key] = _joined(reply, "stack_action", value)
        elif not summary and key != "stack_action":
            result[key] = value
    return result


def stacks(base: str, replies: list[Any], with_project: bool) -> list[dict[str, Any]]:
    """Render the stacks of a listing."""
    return [stack(base, reply, True, with_project) for reply in replies]


def page_of(request: Any) -> dict[str, Any]:
    """Return what ``stack_page`` wants to know of the request, as plain data."""
    if not request.params:
        return {"base": request.base_url, "url": "", "limit": 0, "query": []}
    limit = 0
    with suppress(ValueError):
        limit = int(request.params.get("limit") or 0)
    query = [(name, value) for name, value in request.params.items() if name != "marker"] if limit > 0 else []
    return {"base": request.base_url, "url": request.path_url if limit > 0 else "", "limit": limit, "query": query}


def stack_page(
    replies: list[Any], base: str, url: str, limit: int, query: Iterable[Any], count: int | None, with_project: bool
) -> dict[str, Any]:
    """Render a page of stacks, with a link to the next page when this one is full.

    :param url: of the listing, without its query
    :param limit: stacks of a page; 0 or less: there are no pages
    :param query: pairs, without the marker
    """
    items = stacks(base, replies, with_project)
    return {"stacks": items, **page_end(items[-1] if items else {}, len(items), url, limit, query, count)}


def page_end(
    last: Mapping[str, Any], size: int, url: str, limit: int, query: Iterable[Any], count: int | None
) -> dict[str, Any]:
    """Render what follows the stacks of a page; see ``stack_page``.

    :param last: of the stacks
    :param size: how many they are
    """
    result: dict[str, Any] = {}
    if limit > 0 and limit == size:
        pairs = [(name, value) for name, value in query]
        result["links"] = [{"rel": "next", "href": f"{url}?{urlencode([*pairs, ('marker', last['id'])])}"}]
    if count is not None:
        result["count"] = count
    return result


def resource_list(replies: list[Any], base: str) -> dict[str, Any]:
    """Render the resources of a listing."""
    return {"resources": [resource(base, reply) for reply in replies]}


def event_list(replies: list[Any], base: str) -> dict[str, Any]:
    """Render the events of a listing."""
    return {"events": [event(base, reply, summary=True) for reply in replies]}


def resource(base: str, reply: Mapping[str, Any]) -> dict[str, Any]:
    """Render one resource.

    :param base: ApiRequest.base_url
    """
    result: dict[str, Any] = {}
    for key, value in reply.items():
        if key == "resource_identity":
            identity = identity_of(value)
            result["links"] = [link(base, identity, "self"), link(base, identity.stack(), "stack")]
            nested = reply.get("nested_stack_id")
            if nested:
                result["links"].append(link(base, identity_of(nested), "nested"))
        elif key in _RESOURCE_INTERNAL:
            continue
        elif key == "resource_status":
            result[key] = _joined(reply, "resource_action", value)
        else:
            _copy_with_logical_id(result, key, value)
    return result


def event(base: str, reply: Mapping[str, Any], summary: bool) -> dict[str, Any]:
    """Render one event.

    :param base: ApiRequest.base_url
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
                link(base, identity, "self"),
                link(base, owner, "resource"),
                link(base, owner.stack(), "stack"),
            ]
        elif key in _EVENT_INTERNAL:
            continue
        elif key == "resource_status":
            result[key] = _joined(reply, "resource_action", value)
        else:
            _copy_with_logical_id(result, key, value)
    root = reply.get("root_stack_id")
    if root:
        result["links"].append(link(base, identity_of(root), "root_stack"))
    return result


def _copy_with_logical_id(result: dict[str, Any], key: str, value: Any) -> None:
    if key == "resource_name":
        result["logical_resource_id"] = value
    result[key] = value


#: Listings that may become large: the replies in, and plain arguments; what the client gets out.
LISTINGS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "stacks": stack_page,
    "resources": resource_list,
    "events": event_list,
}

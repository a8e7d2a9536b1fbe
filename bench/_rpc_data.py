"""What travels in the RPC benchmarks: arguments, a caller, replies, templates of a size. Data only, the same each time.

Standard library only: Heat's own client imports it in Heat's environment. Replies have the shape of the real engine's:
the same keys, values as long as those of stacks in a cloud.
"""

import functools
import json
from typing import Any

USER, PROJECT = "a1" * 16, "b2" * 16
STACK_NAME = "bench"
_TIME = "2026-03-01T10:11:12Z"


def _id(number: int) -> str:
    return f"c8a19429-7fde-47ea-a42f-{number:012d}"


def identity(project: str, number: int = 0, name: str = STACK_NAME) -> dict[str, str]:
    """Of a stack."""
    return {"tenant": project, "stack_name": name, "stack_id": _id(number), "path": ""}


def row(project: str, number: int) -> dict[str, Any]:
    """Of a listing."""
    name = f"{STACK_NAME}-{number:05d}"
    return {
        "stack_identity": identity(project, number, name),
        "stack_name": name,
        "description": "",
        "stack_action": "CREATE",
        "stack_status": "COMPLETE",
        "stack_status_reason": "Stack CREATE completed successfully",
        "creation_time": _TIME,
        "updated_time": None,
        "deletion_time": None,
        "stack_owner": "demo",
        "parent": None,
        "stack_user_project_id": "d0" * 16,
        "tags": None,
    }


def stack(project: str) -> dict[str, Any]:
    """Of show_stack."""
    return {
        "stack_name": STACK_NAME,
        "stack_identity": identity(project),
        "creation_time": _TIME,
        "updated_time": None,
        "deletion_time": None,
        "notification_topics": [],
        "parameters": {"OS::stack_id": _id(0), "OS::project_id": project, "OS::stack_name": STACK_NAME, "flavor": "m1"},
        "description": "A stack that is only talked about",
        "template_description": "A stack that is only talked about",
        "capabilities": [],
        "disable_rollback": True,
        "timeout_mins": None,
        "stack_owner": "demo",
        "parent": None,
        "stack_user_project_id": "d0" * 16,
        "tags": None,
        "stack_action": "CREATE",
        "stack_status": "COMPLETE",
        "stack_status_reason": "Stack CREATE completed successfully",
        "outputs": [
            {"output_key": "address", "description": "Where it is", "output_value": ["192.0.2.1", "192.0.2.2"]},
            {"output_key": "name", "description": "No description given", "output_value": STACK_NAME},
        ],
    }


def replies(project: str, rows: int) -> dict[str, Any]:
    """method -> result of it.

    :param rows: of list_stacks
    """
    return {
        "list_stacks": [row(project, number) for number in range(rows)],
        "show_stack": [stack(project)],
        "create_stack": identity(project),
        "get_revision": "unknown",
        "delete_stack": None,
    }


def template(size: int, spread: bool = True) -> dict[str, Any]:
    """A template whose JSON has about ``size`` bytes.

    :param spread: over resources, as people write them; otherwise one resource, and the rest is a parameter's default:
        an engine then has little to do for it
    """
    made: dict[str, Any] = {"heat_template_version": "2021-04-16", "description": "Made by a benchmark"}
    if not spread:
        made["resources"] = {"one": {"type": "OS::Heat::None"}}
        words: list[str] = ["0123456789" * 4] * max(0, (size - 250) // 44)
        made["parameters"] = {"words": {"type": "json", "default": words}}
        return made
    made["resources"] = resources = {}
    length = len(json.dumps(made))
    while length < size:
        name = f"resource_{len(resources):05d}"
        resources[name] = one = {
            "type": "OS::Heat::Value",
            "properties": {"type": "string", "value": {"list_join": ["-", [name, {"get_param": "OS::stack_name"}]]}},
        }
        length += len(json.dumps(one)) + len(name) + 6
    return made


def create_body(size: int, name: str = STACK_NAME, spread: bool = True) -> str:
    """Body of POST /stacks as python-heatclient sends it, with a template of about ``size`` bytes."""
    return json.dumps(
        {
            "stack_name": name,
            "template": template(size, spread),
            "parameters": {},
            "files": {},
            "environment": {},
            "disable_rollback": True,
            "timeout_mins": 60,
        }
    )


SMALL: dict[str, Any] = {
    "limit": None,
    "sort_keys": None,
    "marker": None,
    "sort_dir": None,
    "filters": None,
    "show_deleted": False,
    "show_nested": False,
    "show_hidden": False,
    "tags": None,
    "tags_any": None,
    "not_tags": None,
    "not_tags_any": None,
}
BIG_BYTES = 55_000


@functools.cache
def payload(which: str) -> tuple[str, dict[str, Any], str]:
    """:param which: small or big
    :returns: method, arguments and version; the arguments are all that goes on the wire
    """
    if which == "small":
        return "list_stacks", SMALL, "1.33"
    arguments: dict[str, Any] = {
        "stack_name": STACK_NAME,
        "template": template(BIG_BYTES),
        "params": {"parameters": {}, "resource_registry": {}},
        "files": {},
        "args": {"disable_rollback": True, "timeout_mins": 60},
        "environment_files": None,
        "files_container": None,
        "owner_id": None,
        "nested_depth": 0,
        "user_creds_id": None,
        "stack_user_project_id": None,
        "parent_resource_name": None,
        "template_id": None,
    }
    return "create_stack", arguments, "1.36"


@functools.cache
def token_info() -> dict[str, Any]:
    """What Keystone says of a token, with a short catalog: about 1 kB of JSON."""
    endpoints = [
        {"interface": "public", "region": "RegionOne", "url": f"http://192.0.2.1:{port}/"} for port in range(4)
    ]
    return {
        "token": {
            "user": {"id": USER, "name": "demo", "domain": {"id": "default", "name": "Default"}},
            "project": {"id": PROJECT, "name": "demo", "domain": {"id": "default", "name": "Default"}},
            "roles": [{"id": "e3" * 16, "name": "member"}, {"id": "f4" * 16, "name": "reader"}],
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "catalog": [{"type": "orchestration", "name": "heat", "endpoints": endpoints}],
        }
    }


#: Of a RequestContext, Heat's or ours.
CALLER: dict[str, Any] = {
    "user_id": USER,
    "project_id": PROJECT,
    "user_domain_id": "default",
    "project_domain_id": "default",
    "roles": ["member", "reader"],
    "auth_token": "g" * 180,
    "auth_url": "http://192.0.2.1:5000/v3",
    "request_id": "req-01234567-89ab-4def-8123-456789abcdef",
    "is_admin": False,
}

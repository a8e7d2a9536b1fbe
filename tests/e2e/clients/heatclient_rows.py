"""python-heatclient as a library: every call that its managers offer.

    python heatclient_rows.py TEMPLATES [core]

In: the folder of templates, the user in OS_* variables; with ``core`` only what is worth repeating in front of every
engine. Out: see rows.py. Runs in .peers/client; the stacks get names of their own and are deleted.
"""

import json
import os
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heatclient import client as heat_client
from heatclient import exc
from heatclient.common import base, template_utils
from keystoneauth1 import session
from keystoneauth1.identity import v3
from rows import Counted, check, equal, refused, row, run, wait_for

TEMPLATES = Path(sys.argv[1])
CORE = "core" in sys.argv[2:]
MANAGERS = (
    *("stacks", "resources", "resource_types", "events", "actions", "build_info"),
    *("software_deployments", "software_configs", "services", "template_versions"),
)
# The engine lets a resource that is being updated come to its end before it rolls back: long enough to be caught at it.
SLOW = {"greeting": "Slow", "update_wait": 4}
called: set[str] = set()
offered: set[str] = set()


def connect() -> Any:
    """The client, its managers replaced by counting ones."""
    auth = v3.Password(
        auth_url=os.environ["OS_AUTH_URL"],
        username=os.environ["OS_USERNAME"],
        password=os.environ["OS_PASSWORD"],
        project_name=os.environ["OS_PROJECT_NAME"],
        user_domain_name="Default",
        project_domain_name="Default",
    )
    client = heat_client.Client(
        "1", session=session.Session(auth), service_type="orchestration", region_name=os.environ["OS_REGION_NAME"]
    )
    for name in MANAGERS:
        manager = getattr(client, name)
        inherited = set(dir(base.BaseManager))
        offered.update(
            f"{name}.{method}"
            for method in dir(manager)
            if method[0] != "_" and method not in inherited and callable(getattr(manager, method))
            if method not in ("resource_class", "client")
        )
        setattr(client, name, Counted(manager, f"{name}.", called))
    return client


heat = connect()


def fields(template: str = "parent.yaml", environment: str | None = "environment.yaml") -> dict[str, Any]:
    """What the library makes of a template and an environment on disk: their contents and the files they name."""
    files, content = template_utils.get_template_contents(str(TEMPLATES / template))
    made: dict[str, Any] = {"template": content, "files": dict(files)}
    if environment:
        tracked: list[str] = []
        more, merged = template_utils.process_multiple_environments_and_files(
            [str(TEMPLATES / environment)], env_list_tracker=tracked
        )
        made |= {"environment": merged, "environment_files": tracked, "files": {**files, **more}}
    return made


def small(value: str = "one", hooks: str = "", **properties: object) -> dict[str, Any]:
    """A template with one resource that does what the properties say, and the environment of a breakpoint."""
    resource = {"type": "OS::Heat::TestResource", "properties": {"value": value, **properties}}
    body: dict[str, Any] = {"template": {"heat_template_version": "2021-04-16", "resources": {"work": resource}}}
    if hooks:
        body["environment"] = {"resource_registry": {"resources": {"work": {"hooks": hooks}}}}
    return body


def reach(stack: str, status: str) -> Any:
    """Wait for a status of the stack and return it as shown then."""

    def there() -> Any:
        found = heat.stacks.get(stack)
        if found.stack_status.endswith("FAILED") and found.stack_status != status:
            raise AssertionError(f"{found.stack_status}: {found.stack_status_reason}")
        return found if found.stack_status == status else None

    return wait_for(there, status)


def create(stack: str, body: dict[str, Any], status: str = "CREATE_COMPLETE") -> str:
    """Create a stack, wait for it, return its id."""
    made = str(heat.stacks.create(stack_name=stack, **body)["stack"]["id"])
    reach(made, status)
    return made


def gone(get: Callable[[], Any]) -> None:
    """Wait until what is asked for is not found any more."""

    def over() -> bool:
        try:
            get()
        except exc.HTTPNotFound:
            return True
        return False

    wait_for(over, "the end of it")


def remove(stack: str) -> None:
    """Delete a stack by its name (by its id it could still be shown) and wait until it is gone."""
    heat.stacks.delete(stack)
    gone(lambda: heat.stacks.get(stack))


def outputs(shown: Any) -> dict[str, Any]:
    """The outputs of a stack by name."""
    return {output["output_key"]: output["output_value"] for output in shown.outputs}


def lifecycle() -> None:
    """A stack with nested templates from its creation to its end."""
    name = f"nested-{uuid.uuid4().hex[:6]}"
    with row("preview of a stack that does not exist yet"):
        preview = heat.stacks.preview(stack_name=name, **fields())
        check("work" in {part["resource_name"] for part in preview.resources if isinstance(part, dict)})
    with row("create with a file, nested templates and an environment; tags"):
        stack = create(name, {**fields(), "tags": "red,blue"})
        shown = heat.stacks.get(name)
        equal(outputs(shown), {"text": "Grüße from a file\n", "said": "Hello", "mood": "cheerful"})
        equal(sorted(shown.tags), ["blue", "red"])
        check(not hasattr(heat.stacks.get(name, resolve_outputs=False), "outputs"), "outputs that were not asked for")
    with row("list: filters, tags, sorting, paging"):
        check(stack in [one.id for one in heat.stacks.list(filters={"name": name})])
        check(stack in [one.id for one in heat.stacks.list(tags="red,blue", sort_keys="created_at", sort_dir="desc")])
        check(stack not in [one.id for one in heat.stacks.list(not_tags="red")])
        check(stack in [one.id for one in heat.stacks.list(limit=50)])
    with row("template, environment, files of the stack"):
        equal(sorted(heat.stacks.template(name)["resources"]), ["child", "named", "text", "work"])
        equal(heat.stacks.environment(name)["parameters"]["mood"], "cheerful")
        files = {path.rpartition("/")[2] for path in heat.stacks.files(name)}
        check({"environment.yaml", "greeting.txt", "child.yaml"} <= files, files)
    with row("outputs: list, show"):
        listed = {output["output_key"] for output in heat.stacks.output_list(name)["outputs"]}
        equal(listed, {"text", "said", "mood"})
        equal(heat.stacks.output_show(name, "said")["output"]["output_value"], "Hello")
    resources_and_events(name, stack)
    updates(name, stack)
    if not CORE:
        actions(name)
    with row("delete"):
        remove(name)
        equal(heat.stacks.get(stack).stack_status, "DELETE_COMPLETE")


def resources_and_events(name: str, stack: str) -> None:
    """Of the nested stack: what it consists of and what happened."""
    with row("resources: list with nested depth and filter, show, attributes, metadata"):
        everything = {(one.stack_name == name, one.resource_name) for one in heat.resources.list(name, nested_depth=2)}
        check({(True, "work"), (False, "inner")} <= everything, everything)
        equal([one.resource_name for one in heat.resources.list(name, filters={"type": "OS::Heat::Value"})], ["text"])
        work = heat.resources.get(name, "work", with_attr="output")
        equal((work.resource_status, work.attributes["output"]), ("CREATE_COMPLETE", "Hello"))
        equal(heat.resources.metadata(name, "work"), {"colour": "green"})
    with row("events: nested depth, paging, of one resource, show"):
        flat = heat.events.list(name, sort_dir="asc")
        nested = heat.events.list(name, nested_depth=2)
        check(len(nested) > len(flat), (len(nested), len(flat)))
        check("inner" in {event.resource_name for event in nested})
        paged, marker = [], None
        while page := heat.events.list(name, limit=3, **({"marker": marker} if marker else {})):
            check(len(page) <= 3, len(page))
            paged += [event.id for event in page]
            marker = paged[-1]
        equal(sorted(paged), sorted(event.id for event in flat))
        of_work = heat.events.list(name, resource_name="work")
        equal({event.resource_status for event in of_work}, {"CREATE_IN_PROGRESS", "CREATE_COMPLETE"})
        equal(heat.events.get(name, "work", of_work[0].id).id, of_work[0].id)


def updates(name: str, stack: str) -> None:
    """PUT, PATCH and what they would do."""
    with row("dry run of an update, as PUT, as PATCH, with nested stacks"):
        put = {**fields(), "parameters": {"greeting": "Welcome"}}
        # Values are computed, so only what has the parameter as a property counts as changed.
        changes = heat.stacks.preview_update(stack, **put)["resource_changes"]
        check("work" in [one["resource_name"] for one in changes["updated"] + changes["replaced"]], changes)
        patch = heat.stacks.preview_update(stack, existing=True, show_nested=True, parameters={"greeting": "Welcome"})
        check("inner" in [one["resource_name"] for part in patch["resource_changes"].values() for one in part], patch)
        equal(outputs(heat.stacks.get(stack))["said"], "Hello")
    with row("update with PUT"):
        heat.stacks.update(stack, **put)
        equal(outputs(reach(stack, "UPDATE_COMPLETE"))["said"], "Welcome")
    if CORE:
        return
    with row("update with PATCH: what is not given stays"):
        before = heat.stacks.get(stack).updated_time
        heat.stacks.update(stack, existing=True, parameters={"mood": "curious"})
        wait_for(lambda: heat.stacks.get(stack).updated_time != before, "the update")
        now = outputs(reach(stack, "UPDATE_COMPLETE"))
        equal((now["said"], now["mood"]), ("Welcome", "curious"))


def actions(name: str) -> None:
    """What is done to a stack as a whole."""
    for action in ("suspend", "resume", "check"):
        with row(action):
            getattr(heat.actions, action)(name)
            reach(name, f"{action.upper()}_COMPLETE")
    with row("cancel an update, rolling back"):
        heat.stacks.update(name, existing=True, parameters=SLOW)
        reach(name, "UPDATE_IN_PROGRESS")
        wait_for(lambda: heat.resources.get(name, "work").resource_status == "UPDATE_IN_PROGRESS", "the slow resource")
        heat.actions.cancel_update(name)
        equal(outputs(reach(name, "ROLLBACK_COMPLETE"))["said"], "Welcome")


def snapshots() -> None:
    """Snapshots of a small stack."""
    name = f"snapshot-{uuid.uuid4().hex[:6]}"
    stack = create(name, small())
    with row("snapshots: create, list, show"):
        made = heat.stacks.snapshot(stack, name="first")
        wait_for(lambda: heat.stacks.snapshot_show(stack, made["id"])["snapshot"]["status"] == "COMPLETE", "snapshot")
        equal([one["name"] for one in heat.stacks.snapshot_list(stack)["snapshots"]], ["first"])
    with row("snapshots: restore"):
        heat.stacks.update(stack, **small("two"))
        wait_for(lambda: heat.resources.get(stack, "work", ["output"]).attributes["output"] == "two", "the update")
        reach(stack, "UPDATE_COMPLETE")
        heat.stacks.restore(stack, made["id"])
        reach(stack, "RESTORE_COMPLETE")
        equal(heat.resources.get(stack, "work", ["output"]).attributes["output"], "one")
    with row("snapshots: delete"):
        heat.stacks.snapshot_delete(stack, made["id"])
        gone(lambda: heat.stacks.snapshot_show(stack, made["id"]))
    remove(name)


def signals() -> None:
    """A stack waits for a signal; a resource is marked unhealthy and repaired."""
    name = f"signal-{uuid.uuid4().hex[:6]}"
    handle = {"type": "OS::Heat::WaitConditionHandle", "properties": {"signal_transport": "HEAT_SIGNAL"}}
    condition = {
        "type": "OS::Heat::WaitCondition",
        "properties": {"handle": {"get_resource": "handle"}, "timeout": 120, "count": 1},
    }
    template = {"heat_template_version": "2021-04-16", "resources": {"handle": handle, "condition": condition}}
    heat.stacks.create(stack_name=name, template=template)
    with row("signal with data"):
        wait_for(lambda: heat.resources.list(name, filters={"name": "condition", "status": "IN_PROGRESS"}), "the wait")
        heat.resources.signal(name, "handle", data={"data": "it works", "id": "me"})
        reach(name, "CREATE_COMPLETE")
        equal(heat.resources.get(name, "condition", ["data"]).attributes["data"], '{"me": "it works"}')
    with row("mark unhealthy"):
        heat.resources.mark_unhealthy(name, "condition", True, "it looks pale")
        shown = heat.resources.get(name, "condition")
        equal((shown.resource_status, shown.resource_status_reason), ("CHECK_FAILED", "it looks pale"))
    remove(name)


def hooks() -> None:
    """A breakpoint before a resource is created."""
    name = f"hook-{uuid.uuid4().hex[:6]}"
    heat.stacks.create(stack_name=name, **small(hooks="pre-create"))
    with row("breakpoint: the resource waits, is shown to, and goes on when cleared"):

        def waits() -> bool:
            said = [event.resource_status_reason for event in heat.events.list(name)]
            return any("paused until Hook pre-create is cleared" in reason for reason in said)

        wait_for(waits, "the breakpoint")
        equal(heat.stacks.get(name).stack_status, "CREATE_IN_PROGRESS")
        heat.resources.signal(name, "work", data={"unset_hook": "pre-create"})
        reach(name, "CREATE_COMPLETE")
    remove(name)


def abandoned() -> None:
    """Stacks leave Heat and come back; one is stopped half-way."""
    name = f"abandon-{uuid.uuid4().hex[:6]}"
    stack = create(name, small())
    with row("export"):
        exported = heat.stacks.export(name)
        equal((exported["name"], sorted(exported["resources"])), (name, ["work"]))
    with row("abandon"):
        left = heat.stacks.abandon(f"{name}/{stack}")
        equal(left["resources"]["work"]["resource_data"], exported["resources"]["work"]["resource_data"])
        gone(lambda: heat.stacks.get(name))
    with row("adopt"):
        adopted = heat.stacks.create(stack_name=name, adopt_stack_data=json.dumps(left), template=left["template"])
        reach(adopted["stack"]["id"], "ADOPT_COMPLETE")
        physical = heat.resources.get(name, "work").physical_resource_id
        equal(physical, exported["resources"]["work"]["resource_id"])
    remove(name)
    with row("cancel a creation, leaving it as it is"):
        heat.stacks.create(stack_name=name, **small(wait_secs=4))
        wait_for(lambda: heat.resources.list(name, filters={"status": "IN_PROGRESS"}), "the slow resource")
        heat.actions.cancel_without_rollback(name)
        equal(reach(name, "CREATE_FAILED").stack_status_reason, "Stack CREATE cancelled")
    remove(name)


def catalogue() -> None:
    """What the service knows, independent of any stack."""
    with row("resource types: list with filters, schema, template"):
        known = heat.resource_types.list(filters={"name": "OS::Heat::.*"}, with_description=True)
        check({"OS::Heat::Value", "OS::Heat::Stack"} <= {one.resource_type for one in known}, len(known))
        schema = heat.resource_types.get("OS::Heat::RandomString", with_description=True)
        equal(schema["properties"]["length"]["constraints"][0]["range"], {"min": 1, "max": 512})
        made = heat.resource_types.generate_template("OS::Heat::RandomString", "hot")
        equal(made["heat_template_version"], "2016-10-14")
        check("Resources" in heat.resources.generate_template("OS::Heat::RandomString"))
    with row("template versions and functions"):
        versions = {one.version for one in heat.template_versions.list()}
        check("heat_template_version.2021-04-16" in versions, versions)
        functions = heat.template_versions.get("heat_template_version.2021-04-16", with_condition_func=True)
        check({"get_file", "contains"} <= {one.functions for one in functions}, functions)
    with row("validate: a template that is right, with nested ones, and one that is not"):
        valid = heat.stacks.validate(**fields(), show_nested=True)
        equal(valid["Parameters"]["greeting"]["Default"], "Hello")
        equal(sorted(valid["NestedParameters"]), ["child", "named"])
        wrong = {"heat_template_version": "2021-04-16", "resources": {"a": {"type": "OS::Nope"}}}
        error = refused(exc.HTTPBadRequest, lambda: heat.stacks.validate(template=wrong))
        check("The Resource Type (OS::Nope) could not be found" in str(error), error)
    with row("build info"):
        check(heat.build_info.build_info()["engine"])
    with row("services are not for ordinary users"):
        refused(exc.HTTPForbidden, heat.services.list)


def software() -> None:
    """Configs, and deployments to a server that is only a name."""
    with row("software configs: create, list, show"):
        config = heat.software_configs.create(
            name="greet", group="script", config="#!/bin/sh\necho grüß", inputs=[{"name": "who", "type": "String"}]
        )
        check(config.id in [one.id for one in heat.software_configs.list(limit=500)])
        equal(heat.software_configs.get(config.id).config, "#!/bin/sh\necho grüß")
    server = str(uuid.uuid4())
    with row("software deployments: create, list, show, update, metadata"):
        made = heat.software_deployments.create(
            server_id=server,
            config_id=config.id,
            action="CREATE",
            status="IN_PROGRESS",
            stack_user_project_id="",
            input_values={"who": "me"},
        )
        equal([one.id for one in heat.software_deployments.list(server_id=server)], [made.id])
        heat.software_deployments.update(made.id, status="COMPLETE", output_values={"deploy_stdout": "grüß me"})
        shown = heat.software_deployments.get(made.id)
        equal((shown.status, shown.output_values), ("COMPLETE", {"deploy_stdout": "grüß me"}))
        equal([one["name"] for one in heat.software_deployments.metadata(server_id=server)], ["greet"])
    with row("software deployments and configs: delete"):
        heat.software_deployments.delete(made.id)
        refused(exc.HTTPNotFound, lambda: heat.software_deployments.get(made.id))
        heat.software_configs.delete(config.id)
        refused(exc.HTTPNotFound, lambda: heat.software_configs.get(config.id))


SCENARIOS: list[Callable[[], None]] = [lifecycle, catalogue, software]
if not CORE:
    SCENARIOS += [snapshots, signals, hooks, abandoned]

if __name__ == "__main__":
    run(SCENARIOS, offered, called)

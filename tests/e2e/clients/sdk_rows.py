"""openstacksdk's orchestration proxy: every call that it offers.

    python sdk_rows.py TEMPLATES [core]

In: the folder of templates, the user in OS_* variables; with ``core`` only what is worth repeating often. Out: see
rows.py. Runs in .peers/client; the stacks get names of their own and are deleted.
"""

import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openstack
from openstack import exceptions
from rows import Counted, check, equal, refused, row, run, wait_for

TEMPLATES = Path(sys.argv[1])
CORE = "core" in sys.argv[2:]
called: set[str] = set()
PROXY = openstack.connect(load_yaml_config=False, load_envvars=True).orchestration
OFFERED = {name for name, value in vars(type(PROXY)).items() if name[0] != "_" and callable(value)}
heat: Any = Counted(PROXY, "", called)


def fields() -> dict[str, Any]:
    """What the SDK makes of the template and environment on disk."""
    made: dict[str, Any] = heat.read_env_and_templates(
        template_file=str(TEMPLATES / "parent.yaml"), environment_files=[str(TEMPLATES / "environment.yaml")]
    )
    return made


def reach(stack: Any, status: str) -> Any:
    """Wait for a status of the stack."""
    return heat.wait_for_status(stack, status, failures=[], interval=0.3, wait=60)


def existing(stack: Any) -> Any:
    """The SDK's object for a stack that exists, of which only name and id are known yet."""
    return type(stack).existing(id=stack.id, name=stack.name, connection=PROXY._get_connection())


def outputs(stack: Any) -> dict[str, Any]:
    """The outputs of a stack by name."""
    return {output["output_key"]: output["output_value"] for output in heat.get_stack(stack).outputs}


def lifecycle() -> None:
    """A stack with nested templates from its creation to its end."""
    name = f"sdk-{uuid.uuid4().hex[:6]}"
    with row("preview of a stack that does not exist yet"):
        preview = heat.create_stack(preview=True, name=name, **fields())
        equal(preview.parameters["mood"], "cheerful")
        equal(heat.find_stack(name), None)
    with row("create with a file, nested templates and an environment; find, list"):
        stack = heat.create_stack(name=name, tags="red,blue", **fields())
        reach(heat.get_stack(stack.id), "CREATE_COMPLETE")
        equal(outputs(stack), {"text": "Grüße from a file\n", "said": "Hello", "mood": "cheerful"})
        stack = heat.find_stack(name, ignore_missing=False)
        check(stack.id in [one.id for one in heat.stacks(tags=["red", "blue"])])
        check(stack.id not in [one.id for one in heat.stacks(not_tags=["red"])])
        refused(exceptions.NotFoundException, lambda: heat.find_stack("absent", ignore_missing=False))
        # get_stack(resolve_outputs=False) of this release does not hand its argument on.
        equal(existing(stack).fetch(PROXY, resolve_outputs=False).outputs, None)
    with row("template, environment, files, export of the stack"):
        equal(sorted(heat.get_stack_template(stack).resources), ["child", "named", "text", "work"])
        equal(heat.get_stack_environment(name).parameters["mood"], "cheerful")
        check("greeting.txt" in {path.rpartition("/")[2] for path in heat.get_stack_files(stack)})
        equal(heat.export_stack(stack)["name"], name)
    with row("resources and events: nested depth, paging, of one resource"):
        equal({one.name for one in heat.resources(stack)}, {"child", "named", "text", "work"})
        equal({one.name for one in heat.resources(name)}, {one.name for one in heat.resources(stack)})
        everything = {event.id for event in heat.stack_events(stack)}
        equal({event.id for event in heat.stack_events(stack, limit=3)}, everything)
        check(len(list(heat.stack_events(stack, nested_depth=2))) > len(everything))
        equal(len(list(heat.stack_events(stack.id, resource_name="work"))), 2)
    with row("dry run of an update"):
        changed = {**fields(), "parameters": {"greeting": "Welcome"}}
        # update_stack(preview=True) of this release updates: it hands its argument on in the wrong place.
        draft = existing(stack)
        draft._update(**changed)
        draft.commit(PROXY, preview=True)
        equal(outputs(stack)["said"], "Hello")
    with row("update"):
        heat.update_stack(stack, **changed)
        reach(heat.get_stack(stack), "UPDATE_COMPLETE")
        equal(outputs(stack)["said"], "Welcome")
    for action in () if CORE else ("suspend", "resume", "check"):
        with row(action):
            getattr(heat, f"{action}_stack")(stack.id if action == "check" else stack)
            reach(heat.get_stack(stack), f"{action.upper()}_COMPLETE")
    with row("delete"):
        heat.delete_stack(name, ignore_missing=False)
        heat.wait_for_delete(heat.get_stack(stack.id) if heat.find_stack(name) else stack, interval=0.3, wait=60)
        wait_for(lambda: heat.find_stack(name) is None, "the end of the name")


def abandoned() -> None:
    """A stack leaves Heat."""
    name = f"sdk-{uuid.uuid4().hex[:6]}"
    template = {"heat_template_version": "2021-04-16", "resources": {"work": {"type": "OS::Heat::TestResource"}}}
    stack = heat.create_stack(name=name, template=template)
    reach(heat.get_stack(stack.id), "CREATE_COMPLETE")
    with row("abandon"):
        left = heat.abandon_stack(heat.get_stack(stack.id))
        equal((left["name"], list(left["resources"])), (name, ["work"]))
        wait_for(lambda: heat.find_stack(name) is None, "the end of the stack")


def templates() -> None:
    """Templates that are right and one that is not."""
    with row("validate"):
        files, content = heat.get_template_contents(template_file=str(TEMPLATES / "child.yaml"))
        equal((list(heat.validate_template(content).parameters), files), (["greeting"], {}))
        wrong = {"heat_template_version": "2021-04-16", "resources": {"a": {"type": "OS::Nope"}}}
        error = refused(exceptions.BadRequestException, lambda: heat.validate_template(wrong))
        check("The Resource Type (OS::Nope) could not be found" in str(error), error)


def software() -> None:
    """Configs, and deployments to a server that is only a name."""
    with row("software configs: create, list, show"):
        config = heat.create_software_config(name="greet", group="script", config="echo grüß")
        check(config.id in [one.id for one in heat.software_configs()])
        equal(heat.get_software_config(config.id).config, "echo grüß")
    with row("software deployments: create, list, show, update"):
        server = str(uuid.uuid4())
        made = heat.create_software_deployment(
            server_id=server, config_id=config.id, action="CREATE", status="IN_PROGRESS", stack_user_project_id=""
        )
        equal([one.id for one in heat.software_deployments(server_id=server)], [made.id])
        heat.update_software_deployment(made.id, status="COMPLETE", output_values={"deploy_stdout": "grüß"})
        shown = heat.get_software_deployment(made.id)
        equal((shown.status, shown.output_values), ("COMPLETE", {"deploy_stdout": "grüß"}))
    with row("software deployments and configs: delete"):
        heat.delete_software_deployment(made.id, ignore_missing=False)
        heat.delete_software_config(config.id, ignore_missing=False)
        refused(exceptions.NotFoundException, lambda: heat.get_software_config(config.id))


SCENARIOS: list[Callable[[], None]] = [lifecycle, templates, software]
if not CORE:
    SCENARIOS.append(abandoned)

if __name__ == "__main__":
    run(SCENARIOS, OFFERED, called)

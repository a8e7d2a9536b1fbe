"""openstackclient: every command that its orchestration plugin offers, with the options that change what the API gets.

Each scenario has a stack of its own. Commands count as run when they ended well; the last test compares them with what
the client lists in its help.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from client_table import Table
from stack import Cloud, CommandFailed, OpenStackClient, wait_until
from stack.api import ApiServer

CLIENT = "openstackclient"
TEMPLATE = """\
heat_template_version: 2021-04-16
parameters:
  value: {type: string, default: one}
  update: {type: number, default: 0}
resources:
  work:
    type: OS::Heat::TestResource
    properties:
      value: {get_param: value}
      fail: FAIL
      action_wait_secs: {update: {get_param: update}}
outputs:
  value: {value: {get_attr: [work, output]}}
"""
WAITING = """\
heat_template_version: 2021-04-16
resources:
  handle: {type: OS::Heat::WaitConditionHandle, properties: {signal_transport: HEAT_SIGNAL}}
  condition: {type: OS::Heat::WaitCondition, properties: {handle: {get_resource: handle}, timeout: 120}}
outputs:
  data: {value: {get_attr: [condition, data]}}
"""
succeeded: set[str] = set()


class Commands:
    """The client; notes each command that ended well."""

    def __init__(self, client: OpenStackClient) -> None:
        self.client = client

    def __call__(self, command: str, *arguments: str | Path) -> str:
        said = self.client(*command.split(), *arguments)
        succeeded.add(command)
        return said

    def json(self, command: str, *arguments: str | Path) -> Any:
        said = self.client.json(*command.split(), *arguments)
        succeeded.add(command)
        return said

    def reach(self, stack: str, status: str) -> Any:
        """Wait for a status of the stack and return it as shown then."""

        def there() -> Any:
            shown = self.json("stack show", stack)
            return shown if shown["stack_status"] == status else None

        return wait_until(there, 60, f"reach {status}")


@pytest.fixture
def run(cloud: Cloud, api: ApiServer, tmp_path: Path) -> Commands:
    """The client as an ordinary user."""
    return Commands(OpenStackClient(cloud.keystone.user, tmp_path))


@pytest.fixture
def name(run: Commands) -> Iterator[str]:
    """The name of the test's stack, which is deleted when it is still there."""
    name = f"cli-{uuid.uuid4().hex[:6]}"
    yield name
    if name in {stack["Stack Name"] for stack in run.json("stack list")}:
        run("stack delete", "-y", "--wait", name)


@pytest.fixture
def small(tmp_path: Path) -> Callable[[bool], Path]:
    """A template with one resource, which fails if wanted."""

    def write(fail: bool = False) -> Path:
        path = tmp_path / "small.yaml"
        path.write_text(TEMPLATE.replace("FAIL", str(fail).lower()))
        return path

    return write


def values(outputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Outputs by name."""
    return {output["output_key"]: output["output_value"] for output in outputs}


def test_a_nested_stack(run: Commands, name: str, table: Table, nested: Path) -> None:
    source = ("-t", nested / "parent.yaml", "-e", nested / "environment.yaml")
    with table.row(CLIENT, "stack create --dry-run"):
        preview = run.json("stack create", "--dry-run", *source, name)
        assert preview["stack_name"] == name
    with table.row(CLIENT, "stack create: file, nested templates, environment, tags, parameter, timeout"):
        made = run.json(
            "stack create", "--wait", "--poll", "1", "--tags", "red,blue", "--timeout", "5",
            "--parameter", "greeting=Good day", *source, name,
        )  # fmt: skip
        assert made["stack_status"] == "CREATE_COMPLETE"
    with table.row(CLIENT, "stack show"):
        shown = run.json("stack show", name)
        assert values(shown["outputs"]) == {"text": "Grüße from a file\n", "said": "Good day", "mood": "cheerful"}
        assert sorted(shown["tags"]) == ["blue", "red"]
        assert shown["timeout_mins"] == 5
    with table.row(CLIENT, "stack list: property, tags, nested, sort, limit"):
        for query in (
            ["--property", f"name={name}"],
            ["--tags", "red,blue"],
            ["--sort", "creation_time:desc", "--limit", "9"],
        ):
            assert made["id"] in {stack["ID"] for stack in run.json("stack list", *query)}
        parents = {stack["ID"]: stack["Parent"] for stack in run.json("stack list", "--nested")}
        assert list(parents.values()).count(made["id"]) == 2
    with table.row(CLIENT, "stack template show, environment show, file list"):
        assert sorted(run.json("stack template show", name)["resources"]) == ["child", "named", "text", "work"]
        assert run.json("stack environment show", name)["parameters"] == {"greeting": "Good day", "mood": "cheerful"}
        assert "greeting.txt" in run("stack file list", name)
    with table.row(CLIENT, "stack output list, show"):
        assert {output["output_key"] for output in run.json("stack output list", name)} == {"text", "said", "mood"}
        assert run.json("stack output show", name, "said")["output_value"] == "Good day"
    with table.row(CLIENT, "stack resource list: nested depth, filter; show; metadata"):
        found = {one["resource_name"] for one in run.json("stack resource list", "--nested-depth", "2", name)}
        assert found == {"child", "named", "text", "work", "inner"}
        only = run.json("stack resource list", "--filter", "type=OS::Heat::TestResource", name)
        assert [one["resource_name"] for one in only] == ["work"]
        assert run.json("stack resource show", name, "work")["attributes"] == {"output": "Good day"}
        assert run.json("stack resource metadata", name, "work") == {"colour": "green"}
    events(run, name, table)
    updates(run, name, table, nested)
    with table.row(CLIENT, "stack delete --wait"):
        run("stack delete", "-y", "--wait", name)
        assert made["id"] in {stack["ID"] for stack in run.json("stack list", "--deleted", "--limit", "500")}


def events(run: Commands, name: str, table: Table) -> None:
    """Of the nested stack."""
    with table.row(CLIENT, "stack event list: nested depth, paging, filter, of one resource; show"):
        flat = run.json("stack event list", "--sort", "event_time:asc", name)
        everything = run.json("stack event list", "--nested-depth", "2", name)
        assert len(everything) > len(flat)
        page = run.json("stack event list", "--limit", "2", name)
        rest = run.json("stack event list", "--marker", page[-1]["id"], name)
        assert {event["id"] for event in [*page, *rest]} == {event["id"] for event in flat}
        assert len(page) == 2
        done = run.json("stack event list", "--filter", "resource_status=COMPLETE", name)
        assert {event["resource_status"] for event in done} == {"CREATE_COMPLETE"}
        work = run.json("stack event list", "--resource", "work", name)
        assert {event["resource_status"] for event in work} == {"CREATE_IN_PROGRESS", "CREATE_COMPLETE"}
        assert run.json("stack event show", name, "work", work[0]["id"])["resource_name"] == "work"


def updates(run: Commands, name: str, table: Table, nested: Path) -> None:
    """Of the nested stack."""
    source = ("-t", nested / "parent.yaml", "-e", nested / "environment.yaml")
    with table.row(CLIENT, "stack update --dry-run, --show-nested, --existing"):
        greeting = ("--parameter", "greeting=Welcome")
        changes = run.json("stack update", "--dry-run", *source, *greeting, name)
        assert "work" in {one["resource_name"] for one in [*changes["updated"], *changes["replaced"]]}
        changes = run.json("stack update", "--dry-run", "--show-nested", "--existing", *greeting, name)
        assert "inner" in {one["resource_name"] for part in changes.values() for one in part}
    with table.row(CLIENT, "stack update --wait (PUT)"):
        run.json("stack update", "--wait", *source, "--parameter", "greeting=Welcome", name)
        assert values(run.json("stack show", name)["outputs"])["said"] == "Welcome"
    with table.row(CLIENT, "stack update --existing (PATCH): parameters that are not given stay; clear parameter"):
        run.json("stack update", "--wait", "--existing", "--parameter", "mood=curious", name)
        now = values(run.json("stack show", name)["outputs"])
        assert (now["said"], now["mood"]) == ("Welcome", "curious")
        run.json("stack update", "--wait", "--existing", "--clear-parameter", "greeting", name)
        assert values(run.json("stack show", name)["outputs"])["said"] == "Hello"


def test_actions_and_snapshots(run: Commands, name: str, table: Table, small: Callable[..., Path]) -> None:
    run("stack create", "--wait", "--poll", "1", "-t", small(), name)
    for action in ("suspend", "resume", "check"):
        with table.row(CLIENT, f"stack {action}"):
            run(f"stack {action}", name)
            run.reach(name, f"{action.upper()}_COMPLETE")
    with table.row(CLIENT, "stack snapshot create, list, show"):
        made = run.json("stack snapshot create", "--name", "first", name)
        run.reach(name, "SNAPSHOT_COMPLETE")
        assert [one["name"] for one in run.json("stack snapshot list", name)] == ["first"]
        assert run.json("stack snapshot show", name, made["ID"])["snapshot"]["status"] == "COMPLETE"
    with table.row(CLIENT, "stack snapshot restore"):
        run("stack update", "--wait", "--existing", "--parameter", "value=two", name)
        assert run.json("stack output show", name, "value")["output_value"] == "two"
        run("stack snapshot restore", name, made["ID"])
        run.reach(name, "RESTORE_COMPLETE")
        assert run.json("stack output show", name, "value")["output_value"] == "one"
    with table.row(CLIENT, "stack snapshot delete"):
        run("stack snapshot delete", "-y", name, made["ID"])
        wait_until(lambda: run.json("stack snapshot list", name) == [], 30, "delete the snapshot")
    with table.row(CLIENT, "stack cancel: an update goes back"):
        run("stack update", "--existing", "--parameter", "value=two", "--parameter", "update=6", name)
        run("stack cancel", name)
        run.reach(name, "ROLLBACK_COMPLETE")
        assert run.json("stack output show", name, "value")["output_value"] == "one"


def test_leaving_and_coming_back(
    run: Commands, name: str, table: Table, small: Callable[..., Path], tmp_path: Path
) -> None:
    run("stack create", "--wait", "--poll", "1", "-t", small(), name)
    with table.row(CLIENT, "stack export"):
        exported = run.json("stack export", name)
        assert (exported["name"], list(exported["resources"])) == (name, ["work"])
    with table.row(CLIENT, "stack abandon --output-file"):
        left = tmp_path / "left.json"
        run("stack abandon", "--output-file", left, name)
        kept = json.loads(left.read_text())["resources"]["work"]
        assert kept["resource_id"] == exported["resources"]["work"]["resource_id"]
        wait_until(lambda: name not in {one["Stack Name"] for one in run.json("stack list")}, 30, "abandon the stack")
    with table.row(CLIENT, "stack adopt"):
        run("stack adopt", "--adopt-file", left, name)
        run.reach(name, "ADOPT_COMPLETE")
        shown = run.json("stack resource show", name, "work")
        assert shown["physical_resource_id"] == kept["resource_id"]


def test_signals_and_health(run: Commands, name: str, table: Table, tmp_path: Path) -> None:
    template = tmp_path / "waiting.yaml"
    template.write_text(WAITING)
    run("stack create", "-t", template, name)
    with table.row(CLIENT, "stack resource signal --data"):
        waits = ["--filter", "name=condition", "--filter", "status=IN_PROGRESS"]
        wait_until(lambda: run.json("stack resource list", *waits, name), 60, "wait for the signal")
        run("stack resource signal", "--data", '{"data": "it works", "id": "me"}', name, "handle")
        shown = run.reach(name, "CREATE_COMPLETE")
        assert json.loads(values(shown["outputs"])["data"]) == {"me": "it works"}
    with table.row(CLIENT, "stack resource mark unhealthy"):
        run("stack resource mark unhealthy", name, "condition", "it looks pale")
        shown = run.json("stack resource show", name, "condition")
        assert (shown["resource_status"], shown["resource_status_reason"]) == ("CHECK_FAILED", "it looks pale")


def test_breakpoints(run: Commands, name: str, table: Table, small: Callable[..., Path]) -> None:
    run("stack create", "--pre-create", "work", "-t", small(), name)
    with table.row(CLIENT, "stack create --pre-create, stack hook poll"):
        pending = wait_until(lambda: run.json("stack hook poll", name), 60, "come to the breakpoint")
        assert [one["Resource Name"] for one in pending] == ["work"]
        assert "pre-create" in pending[0]["Resource Status Reason"]
        assert run.json("stack show", name)["stack_status"] == "CREATE_IN_PROGRESS"
    with table.row(CLIENT, "stack hook clear"):
        run("stack hook clear", "--pre-create", name, "work")
        run.reach(name, "CREATE_COMPLETE")


def test_failures(run: Commands, name: str, table: Table, small: Callable[..., Path]) -> None:
    run("stack create", "-t", small(True), name)
    with table.row(CLIENT, "stack failures list"):
        run.reach(name, "CREATE_FAILED")
        said = run("stack failures list", "--long", name)
        assert "Test Resource failed work" in said
        assert f"{name}.work" in said


def test_the_catalogue(run: Commands, table: Table, nested: Path) -> None:
    with table.row(CLIENT, "orchestration resource type list, show, show --template-type"):
        types = run.json("orchestration resource type list", "--filter", "name=OS::Heat::.*")
        assert {"OS::Heat::Value", "OS::Heat::Stack"} <= {one["Resource Type"] for one in types}
        show = "orchestration resource type show"
        schema = run.json(show, "--long", "OS::Heat::RandomString")
        assert schema["properties"]["length"]["type"] == "integer"
        made = run.json(show, "--template-type", "hot", "OS::Heat::RandomString")
        assert "heat_template_version" in made
    with table.row(CLIENT, "orchestration template version list, function list, validate"):
        versions = {one["Version"] for one in run.json("orchestration template version list")}
        latest = "heat_template_version.2021-04-16"
        assert latest in versions
        found = run.json("orchestration template function list", "--with_conditions", latest)
        assert {"get_file", "contains"} <= {one["Functions"] for one in found}
        source = ("-t", nested / "parent.yaml", "-e", nested / "environment.yaml")
        valid = run.json("orchestration template validate", "--show-nested", *source)
        assert valid["Parameters"]["greeting"]["Default"] == "Hello"
        assert sorted(valid["NestedParameters"]) == ["child", "named"]
    with table.row(CLIENT, "orchestration build info"):
        assert set(run.json("orchestration build info")) == {"api", "engine"}


def test_software(run: Commands, table: Table, tmp_path: Path) -> None:
    script = tmp_path / "greet.sh"
    script.write_text("#!/bin/sh\necho grüß\n")
    server = str(uuid.uuid4())
    with table.row(CLIENT, "software config create, list, show"):
        made = run.json("software config create", "--config-file", script, "--group", "script", "greet")
        assert made["id"] in {one["id"] for one in run.json("software config list", "--limit", "500")}
        assert run.json("software config show", made["id"])["config"] == "#!/bin/sh\necho grüß\n"
    with table.row(CLIENT, "software deployment create, list, show, metadata show, output show"):
        arguments = ["--config", made["id"], "--server", server, "--signal-transport", "NO_SIGNAL"]
        deployed = run.json("software deployment create", *arguments, "--action", "CREATE", "first")
        listed = run.json("software deployment list", "--server", server)
        assert [one["id"] for one in listed] == [deployed["id"]]
        assert run.json("software deployment show", deployed["id"])["server_id"] == server
        assert "grüß" in json.loads(run("software deployment metadata show", server))[0]["config"]
        run("software deployment output show", "--all", deployed["id"])
    with table.row(CLIENT, "software deployment delete, config delete"):
        run("software deployment delete", deployed["id"])
        run("software config delete", made["id"])
        with pytest.raises(CommandFailed, match="not found"):
            run("software config show", made["id"])


def test_services_are_for_administrators(run: Commands, cloud: Cloud, table: Table, tmp_path: Path) -> None:
    with table.row(CLIENT, "orchestration service list: as administrator, refused to others"):
        admin = Commands(OpenStackClient(cloud.keystone.admin, tmp_path))
        services = admin.json("orchestration service list")
        assert {(one["Binary"], one["Topic"], one["Status"]) for one in services} == {("heat-engine", "engine", "up")}
        with pytest.raises(CommandFailed, match="not authorized"):
            run("orchestration service list")


class HeatProgram(OpenStackClient):
    """The program ``heat``, which is deprecated and still there."""

    program = "heat"


def test_the_older_program(
    cloud: Cloud, api: ApiServer, name: str, table: Table, examples: Path, tmp_path: Path
) -> None:
    """What upstream's functional tests of the client call through it."""
    heat = HeatProgram(cloud.keystone.user, tmp_path)
    with table.row("heat", "build-info, resource types, template versions and functions, template-validate"):
        assert "engine" in heat("build-info")
        assert "OS::Heat::RandomString" in heat("resource-type-list")
        assert "length" in heat("resource-type-show", "OS::Heat::RandomString")
        assert "RandomString" in heat("resource-type-template", "OS::Heat::RandomString")
        assert "heat_template_version.2021-04-16" in heat("template-version-list")
        assert "get_file" in heat("template-function-list", "heat_template_version.2021-04-16")
        assert "greeting" in heat("template-validate", "-f", examples / "hello.yaml")
    with table.row(
        "heat", "stack-create, -show, -list, -preview; resource-list, event-list, output-list; stack-delete"
    ):
        assert name in heat("stack-preview", "-f", examples / "hello.yaml", name)
        heat("stack-create", "-f", examples / "hello.yaml", "--poll", "1", name)
        assert "CREATE_COMPLETE" in heat("stack-show", name)
        assert name in heat("stack-list")
        assert "OS::Heat::RandomString" in heat("resource-list", name)
        assert "CREATE_COMPLETE" in heat("event-list", name)
        assert "sentence" in heat("output-list", name)
        heat("stack-delete", "-y", name)
        wait_until(lambda: name not in heat("stack-list"), 60, "delete the stack")


def test_every_command_was_run(run: Commands, table: Table) -> None:
    """After all others of this file; asks for nothing when only some of them ran."""
    offered = set(re.findall(r"(?m)^  ([a-z ]+?)  .*\(python-heatclient\)$", run.client("--help")))
    assert {"stack create", "software deployment output show"} <= offered
    with table.row(CLIENT, f"every command that the plugin offers was run ({len(offered)})"):
        assert offered - succeeded == set()

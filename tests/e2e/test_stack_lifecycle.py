"""The main job on real input: stock client, Keystone token, upstream's api-paste.ini, stock engine behind RabbitMQ.

Each test makes the stacks it needs under names of its own and deletes them.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from stack import Cloud, CommandFailed, Credentials, OpenStackClient, wait_until
from stack.api import ApiServer
from stack.launcher import Launcher

DATA = Path(__file__).parent / "data"
# A line of heatperf's access log, or of uWSGI's, with the worker's process id.
ACCESS = re.compile(r"(?m)^\S+ \S+ (\d+) INFO heatperf\.access|^\[pid: (\d+)\|")


@pytest.fixture
def names(request: pytest.FixtureRequest, openstack: OpenStackClient) -> Iterator[list[str]]:
    """Names of stacks that the test creates; those still there at its end are deleted."""
    used: list[str] = []
    yield used
    there = {stack["Stack Name"] for stack in openstack.json("stack", "list")}
    if left := sorted(there & set(used)):
        openstack("stack", "delete", "--wait", "-y", *left)


def outputs(stack: dict[str, object]) -> dict[str, object]:
    """The outputs of ``stack show`` by name."""
    listed = stack["outputs"]
    assert isinstance(listed, list)
    return {output["output_key"]: output["output_value"] for output in listed}


def test_a_stack_is_created_listed_shown_updated_and_deleted(
    openstack: OpenStackClient, names: list[str], examples: Path
) -> None:
    names.append("s1")
    created = openstack.json("stack", "create", "--wait", "-t", examples / "hello.yaml", "s1")
    assert created["stack_status"] == "CREATE_COMPLETE"

    listed = {stack["Stack Name"]: stack for stack in openstack.json("stack", "list")}
    assert listed["s1"]["ID"] == created["id"]
    assert listed["s1"]["Stack Status"] == "CREATE_COMPLETE"

    shown = openstack.json("stack", "show", "s1")
    said = outputs(shown)
    assert re.fullmatch(r"[a-z]{8}", str(said["name"]))
    assert said["sentence"] == f"Hello, {said['name']}!"
    assert shown["stack_owner"] == "demo"
    # The link leads to the stack itself, through the host that the client talked to.
    link = shown["links"][0]["href"]
    assert link.endswith(f"/stacks/s1/{created['id']}")

    updated = openstack.json(
        "stack", "update", "--wait", "-t", examples / "hello-update.yaml", "--parameter", "greeting=Welcome", "s1"
    )
    assert updated["stack_status"] == "UPDATE_COMPLETE"
    assert updated["id"] == created["id"]
    changed = outputs(openstack.json("stack", "show", "s1"))
    assert changed == {"name": said["name"], "sentence": f"Welcome, {said['name']}!"}
    resources = {resource["resource_name"] for resource in openstack.json("stack", "resource", "list", "s1")}
    assert resources == {"name", "sentence", "work", "more_work"}
    events = openstack.json("stack", "event", "list", "s1", "--resource", "more_work")
    assert {event["resource_status"] for event in events} == {"CREATE_IN_PROGRESS", "CREATE_COMPLETE"}

    openstack("stack", "delete", "--wait", "-y", "s1")
    assert "s1" not in {stack["Stack Name"] for stack in openstack.json("stack", "list")}
    with pytest.raises(CommandFailed, match="Stack not found: s1"):
        openstack("stack", "show", "s1")


def test_a_signal_reaches_the_resource_that_waits_for_it(
    openstack: OpenStackClient, names: list[str], examples: Path
) -> None:
    names.append("w1")
    openstack("stack", "create", "-t", examples / "signal.yaml", "w1")

    def handle_exists() -> bool:
        resources = {r["resource_name"]: r for r in openstack.json("stack", "resource", "list", "w1")}
        return bool(resources.get("handle", {}).get("resource_status") == "CREATE_COMPLETE")

    wait_until(handle_exists, 60, "create the handle")
    assert openstack.json("stack", "show", "w1")["stack_status"] == "CREATE_IN_PROGRESS"
    openstack("stack", "resource", "signal", "w1", "handle", "--data", '{"data": "it works", "id": "me"}')
    wait_until(
        lambda: openstack.json("stack", "show", "w1")["stack_status"] == "CREATE_COMPLETE", 60, "complete the stack"
    )
    received = outputs(openstack.json("stack", "show", "w1"))["received"]
    assert json.loads(str(received)) == {"me": "it works"}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        pytest.param(
            "resources: {a: {type: OS::Nope::Nothing}}",
            "ERROR: The Resource Type (OS::Nope::Nothing) could not be found.",
            id="unknown-type",
        ),
        pytest.param(
            "resources: {a: {type: OS::Heat::Value, properties: {value: {get_param: nope}}}}",
            "ERROR: Property error: : resources.a.properties.value: : The Parameter (nope) was not provided.",
            id="unknown-parameter",
        ),
        pytest.param(
            "resources: {a: {type: OS::Heat::Value, properties: {value: {get_resource: b}}}}",
            'ERROR: The specified reference "b" (in a.Properties.value) is incorrect.',
            id="unknown-resource",
        ),
        pytest.param("resorces: {}", "ERROR: The template section is invalid: resorces", id="unknown-section"),
    ],
)
def test_a_broken_template_gives_upstreams_error(
    openstack: OpenStackClient, tmp_path: Path, template: str, message: str
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(f"heat_template_version: 2021-04-16\n{template}\n")
    with pytest.raises(CommandFailed) as failure:
        openstack("stack", "create", "-t", broken, "broken")
    assert failure.value.output.strip() == message
    assert "broken" not in {stack["Stack Name"] for stack in openstack.json("stack", "list")}


def test_a_wrong_password_is_refused(openstack: OpenStackClient, cloud: Cloud, tmp_path: Path) -> None:
    right = cloud.keystone.user
    intruder = OpenStackClient(Credentials(right.auth_url, right.username, "wrong", right.project), tmp_path)
    with pytest.raises(CommandFailed, match="HTTP 401"):
        intruder("stack", "list")


@pytest.mark.parametrize("token", ["gAAAAA-not-a-token", None])
def test_a_wrong_or_missing_token_is_401(api: ApiServer, cloud: Cloud, token: str | None) -> None:
    project = cloud.keystone.project_id(cloud.keystone.user)
    headers = {"X-Auth-Token": token} if token else {}
    answer = requests.get(f"{api.url}/v1/{project}/stacks", headers=headers, timeout=60)
    assert answer.status_code == 401
    assert answer.json() == {
        "error": {
            "code": 401,
            "title": "Unauthorized",
            "message": "The request you have made requires authentication.",
        }
    }
    assert answer.headers["WWW-Authenticate"] == f'Keystone uri="{cloud.keystone.url}"'


def test_a_token_of_another_project_is_403(api: ApiServer, cloud: Cloud) -> None:
    headers = {"X-Auth-Token": cloud.keystone.token(cloud.keystone.user)}
    project = cloud.keystone.project_id(cloud.keystone.heat)
    answer = requests.get(f"{api.url}/v1/{project}/stacks", headers=headers, timeout=60)
    assert answer.status_code == 403
    assert answer.json()["error"]["type"] == "HTTPForbidden"


def test_both_workers_answer(api: ApiServer, cloud: Cloud) -> None:
    project = cloud.keystone.project_id(cloud.keystone.user)
    headers = {"X-Auth-Token": cloud.keystone.token(cloud.keystone.user)}

    def both_answered() -> bool:
        with ThreadPoolExecutor(8) as clients:
            url = f"{api.url}/v1/{project}/build_info"
            answers = list(clients.map(lambda _: requests.get(url, headers=headers, timeout=60), range(8)))
        assert {answer.status_code for answer in answers} == {200}
        return len({pid for found in ACCESS.findall(api.output) for pid in found if pid}) >= 2

    wait_until(both_answered, 60, "answer from two workers")


def test_healthcheck_needs_no_token(api: ApiServer) -> None:
    answer = requests.get(f"{api.url}/healthcheck", timeout=60)
    assert (answer.status_code, answer.text) == (200, "")


def test_a_stein_paste_file_serves_the_same_stacks(
    api: ApiServer,
    cloud: Cloud,
    launcher: Launcher,
    openstack: OpenStackClient,
    names: list[str],
    examples: Path,
    tmp_path: Path,
) -> None:
    names.append("old")
    openstack("stack", "create", "--wait", "-t", examples / "hello.yaml", "old")
    config = cloud.config("heat-stein.conf", DATA / "stein-api-paste.ini")
    server = launcher.start(type(api)(tmp_path / "stein", config, workers=2))
    try:
        project = cloud.keystone.project_id(cloud.keystone.user)
        # The same Host for both: links are made from it.
        headers = {"X-Auth-Token": cloud.keystone.token(cloud.keystone.user), "Host": "heat.example.test:8004"}
        lists = [
            requests.get(f"{one.url}/v1/{project}/stacks", headers=headers, timeout=60).json() for one in (api, server)
        ]
        assert [stack["stack_name"] for stack in lists[0]["stacks"]] == ["old"]
        assert lists[0] == lists[1]
        # The old form has no healthcheck; its path is an unknown version to the pipeline.
        assert requests.get(f"{server.url}/healthcheck", headers=headers, timeout=60).status_code != 200
    finally:
        launcher.stop(server)

"""Policy files that forbid and that permit, and what an administrator sees of other projects."""

from pathlib import Path

import pytest
import requests
from client_table import Serve, Table
from stack import Cloud, CommandFailed, OpenStackClient
from stack.paths import upstream_paste_file

CLIENT = "openstackclient"


def test_policy_files(cloud: Cloud, serve: Serve, table: Table, examples: Path, tmp_path: Path) -> None:
    def start(name: str, rules: str) -> OpenStackClient:
        policy = tmp_path / f"{name}.yaml"
        policy.write_text(rules)
        extra = {"oslo_policy": {"policy_file": str(policy)}}
        config = cloud.config(f"heat-{name}.conf", upstream_paste_file(), extra)
        _server, credentials = serve(tmp_path / name, config)
        return OpenStackClient(credentials, tmp_path)

    forbidding = start("forbids", '"stacks:create": "!"\n"stacks:list_resource_types": "!"\n')
    with table.row(CLIENT, "a policy file forbids: stack create, resource type list"):
        with pytest.raises(CommandFailed, match="ERROR: You are not authorized to use stacks:create."):
            forbidding("stack", "create", "-t", examples / "hello.yaml", "forbidden")
        with pytest.raises(CommandFailed, match="not authorized"):
            forbidding("orchestration", "resource", "type", "list")
        assert "forbidden" not in {stack["Stack Name"] for stack in forbidding.json("stack", "list")}
    permitting = start("permits", '"service:index": "role:member"\n"stacks:global_index": "role:member"\n')
    with table.row(CLIENT, "a policy file permits: service list, stack list --all-projects for a member"):
        assert permitting.json("orchestration", "service", "list")
        assert isinstance(permitting.json("stack", "list", "--all-projects"), list)


def test_an_administrator_and_other_projects(
    cloud: Cloud, serve: Serve, table: Table, examples: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text('"stacks:global_index": "role:admin"\n')
    extra = {"oslo_policy": {"policy_file": str(policy)}}
    server, user = serve(tmp_path / "api", cloud.config("heat-global.conf", upstream_paste_file(), extra))
    owner = OpenStackClient(user, tmp_path)
    admin = OpenStackClient(cloud.keystone.admin, tmp_path, {"OS_REGION_NAME": user.region})
    made = owner.json("stack", "create", "--wait", "--poll", "1", "-t", examples / "hello.yaml", "theirs")
    try:
        with table.row(CLIENT, "stack list --all-projects and --project as administrator; refused to others"):
            project = cloud.keystone.project_id(user)
            everywhere = {stack["ID"]: stack["Project"] for stack in admin.json("stack", "list", "--all-projects")}
            assert everywhere[made["id"]] == project
            assert made["id"] in {stack["ID"] for stack in admin.json("stack", "list", "--project", project)}
            with pytest.raises(CommandFailed, match="not authorized|Forbidden"):
                owner("stack", "list", "--all-projects")
        with table.row("requests", "an administrator shows a stack of another project by its path"):
            headers = {"X-Auth-Token": cloud.keystone.token(cloud.keystone.admin)}
            url = f"{server.url}/v1/{project}/stacks/theirs/{made['id']}"
            answer = requests.get(url, headers=headers, timeout=60)
            assert (answer.status_code, answer.json()["stack"]["id"]) == (200, made["id"])
    finally:
        owner("stack", "delete", "-y", "--wait", "theirs")

"""Pipelines other than the default one, in front of the real Keystone and the stock engine."""

from pathlib import Path

import pytest
import requests
from stack import Cloud, Memcached, wait_until
from stack.api import ApiServer
from stack.launcher import Launcher
from stack.paths import upstream_paste_file

DATA = Path(__file__).parent / "data"


def test_the_standalone_flavor_checks_name_and_password(
    api: ApiServer, cloud: Cloud, launcher: Launcher, tmp_path: Path
) -> None:
    config = cloud.config("heat-standalone.conf", upstream_paste_file(), {"paste_deploy": {"flavor": "standalone"}})
    server = launcher.start(type(api)(tmp_path / "standalone", config, workers=1))
    user = cloud.keystone.user
    url = f"{server.url}/v1/{cloud.keystone.project_id(user)}/stacks"
    headers = {"X-Auth-User": user.username, "X-Auth-Key": user.password, "X-User-Domain-Id": "default"}
    try:
        assert isinstance(requests.get(url, headers=headers, timeout=60).json()["stacks"], list)
        refused = requests.get(url, headers=headers | {"X-Auth-Key": "wrong"}, timeout=60)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("Keystone uri='http://127.0.0.1:")
    finally:
        launcher.stop(server)


def test_an_audit_filter_as_deployments_add_it(
    api: ApiServer, cloud: Cloud, launcher: Launcher, tmp_path: Path
) -> None:
    """openstack-helm and the Juju charm put keystonemiddleware's audit filter before the application."""
    paste = tmp_path / "api-paste.ini"
    text = upstream_paste_file().read_text()
    assert "context osprofiler apiv1app" in text
    paste.write_text(
        text.replace("context osprofiler apiv1app", "context osprofiler audit apiv1app")
        + "\n[filter:audit]\npaste.filter_factory = keystonemiddleware.audit:filter_factory\n"
        + f"audit_map_file = {DATA / 'audit_map.conf'}\n"
    )
    extra = {"audit_middleware_notifications": {"driver": "log"}}
    server = launcher.start(type(api)(tmp_path / "audit", cloud.config("heat-audit.conf", paste, extra), workers=1))
    project = cloud.keystone.project_id(cloud.keystone.user)
    headers = {"X-Auth-Token": cloud.keystone.token(cloud.keystone.user)}
    try:
        answer = requests.get(f"{server.url}/v1/{project}/stacks", headers=headers, timeout=60)
        assert isinstance(answer.json()["stacks"], list)
        # One notification before the application, one after it with the outcome. A thread writes the log.
        for event in ("audit.http.request", "audit.http.response"):
            wait_until(lambda event=event: event in server.output, 10, f"log {event}")
        assert headers["X-Auth-Token"] not in server.output
    finally:
        launcher.stop(server)


@pytest.mark.parametrize(
    "secrecy",
    [
        pytest.param({}, id="plain"),
        pytest.param({"memcache_security_strategy": "ENCRYPT", "memcache_secret_key": "a secret"}, id="encrypted"),
    ],
)
def test_tokens_are_shared_through_memcached(
    api: ApiServer, cloud: Cloud, launcher: Launcher, tmp_path: Path, secrecy: dict[str, str]
) -> None:
    """As nearly every deployment has it; encrypted in most."""
    memcached = launcher.start(Memcached(tmp_path / "memcached"))
    extra = {"keystone_authtoken": {"memcached_servers": memcached.address, **secrecy}}
    config = cloud.config("heat-memcached.conf", upstream_paste_file(), extra)
    server = launcher.start(type(api)(tmp_path / "memcached-api", config, workers=2))
    url = f"{server.url}/v1/{cloud.keystone.project_id(cloud.keystone.user)}/build_info"
    token = {"X-Auth-Token": cloud.keystone.token(cloud.keystone.user)}
    try:
        answers = [requests.get(url, headers=token, timeout=60).status_code for _ in range(6)]
        assert answers == [200] * 6
        counted = memcached.statistics()
        assert int(counted["curr_items"]) >= 1
        # One that has never seen the token finds it there.
        other = launcher.start(type(api)(tmp_path / "another-api", config, workers=1))
        known = url.replace(server.url, other.url)
        assert requests.get(known, headers=token, timeout=60).status_code == 200
        launcher.stop(other)
        assert int(memcached.statistics()["get_hits"]) > int(counted["get_hits"])
        assert requests.get(url, headers={"X-Auth-Token": "not a token"}, timeout=60).status_code == 401
    finally:
        launcher.stop(server)
        launcher.stop(memcached)

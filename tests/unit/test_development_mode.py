"""Development mode: no page of another place gets in, and a client that names its project in the path can work."""

import http.client
import json

import pytest
from oslo_config import cfg
from pipeline_rig import OPEN, Engine, Worker, configuration

from heatperf.config.load import load
from heatperf.context import RequestContext
from heatperf.pipeline import application
from heatperf.pipeline.loopback import is_loopback, is_own_origin
from heatperf.policy import Policy, defaults

STACKS = "/v1/demo/stacks"
ANSWERS = {"list_stacks": [], "count_stacks": 0}


def without_keystone(conf):
    """What --dev lays over the configuration."""
    conf.set_override("flavor", "noauth", group="paste_deploy")


def started(engine, monkeypatch, development=True):
    monkeypatch.setattr(application, "_transport", lambda *_: engine)
    return Worker(application.build(cfg.CONF, "rpc", development))


@pytest.fixture
def engine():
    return Engine(lambda method, *_: ANSWERS.get(method, {}))


@pytest.fixture
def worker(engine, monkeypatch):
    load(cfg.CONF, [], development=True, adjust=without_keystone)
    worker = started(engine, monkeypatch)
    yield worker
    worker.close()


@pytest.fixture
def operators(engine, monkeypatch, tmp_path):
    """A server with flavor noauth in a configuration of the operator's own."""
    configuration(tmp_path, OPEN)
    worker = started(engine, monkeypatch, development=False)
    yield worker
    worker.close()


class TestHost:
    @pytest.mark.parametrize(
        "host",
        [
            *("localhost", "LocalHost:8004", "localhost.", "localhost:", "heat.localhost", "a-b.c_d.localhost:1"),
            *("127.0.0.1", "127.0.0.1:8004", "127.1.2.3", "[::1]", "[::1]:8004", "[0:0:0:0:0:0:0:1]"),
        ],
    )
    def test_loopback(self, host):
        assert is_loopback(host)

    @pytest.mark.parametrize(
        "host",
        [
            *("", ":8004", "example.com", "localhost.example.com", "notlocalhost", "127.0.0.1.example.com", "0.0.0.0"),
            *("[::]", "[::2]", "[::ffff:127.0.0.1]", "[127.0.0.1]", "::1", "10.0.0.1:8004", "128.0.0.1", "127.1"),
            *("localhost:8004:1", "localhost:x", "user@localhost", "example.com/.localhost", "localhost,example.com"),
            *("localhost example.com", "localhost\n", "\uff4cocalhost", "[::1", "[]", "."),
        ],
    )
    def test_anything_else(self, host):
        assert not is_loopback(host)


class TestOrigin:
    @pytest.mark.parametrize("origin", ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:80"])
    def test_pages_of_this_machine(self, origin):
        assert is_own_origin(origin)

    @pytest.mark.parametrize(
        "origin",
        [
            *("null", "", "localhost", "https://example.com", "http://localhost.example.com", "file://"),
            *("chrome-extension://abc", "app://localhost", "http://localhost, https://example.com"),
        ],
    )
    def test_others(self, origin):
        assert not is_own_origin(origin)


class TestDoor:
    def test_name_that_was_bent_to_this_machine(self, worker, engine):
        answer = worker.request("GET", STACKS, {"Host": f"attacker.example:{worker.port}"})
        assert answer.status == 403 and engine.calls == []
        assert answer.headers["content-type"].startswith("application/json")
        assert (answer.json["code"], answer.json["title"], answer.json["error"]["type"]) == (
            403,
            "Forbidden",
            "HTTPForbidden",
        )
        assert "attacker.example" in answer.json["error"]["message"] and answer.json["error"]["traceback"] is None

    def test_request_without_host(self, worker, engine):
        connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=10)
        connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"
        connection.putrequest("GET", STACKS, skip_host=True)
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 403 and "Host" in json.loads(answer.read())["error"]["message"]
        connection.close()

    def test_nothing_beside_the_pipeline_is_open(self, worker):
        assert worker.request("GET", "/healthcheck").status == 200
        assert worker.request("GET", "/healthcheck", {"Host": "attacker.example"}).status == 403

    @pytest.mark.parametrize("origin", ["https://attacker.example", "null"])
    def test_form_of_a_foreign_page(self, worker, engine, origin):
        body = b'{"stack_name": "s", "template": {"heat_template_version": "2018-08-31"}, "x": "="}'
        headers = {"Content-Type": "text/plain", "Origin": origin}
        answer = worker.request("POST", STACKS, headers, body)
        assert answer.status == 403 and origin in answer.json["error"]["message"] and engine.calls == []

    def test_the_same_form_of_a_page_of_this_machine(self, worker, engine):
        engine.answer = lambda *_: {"tenant": "demo", "stack_name": "s", "stack_id": "1", "path": ""}
        body = b'{"stack_name": "s", "template": {"heat_template_version": "2018-08-31"}}'
        headers = {"Content-Type": "text/plain", "Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}
        assert worker.request("POST", STACKS, headers, body).status == 201
        assert engine.calls[0][0] == "create_stack"

    def test_preflight_of_a_foreign_page(self, worker):
        asked = {"Origin": "https://attacker.example", "Access-Control-Request-Method": "DELETE"}
        answer = worker.request("OPTIONS", STACKS, asked)
        assert answer.status == 403 and "access-control-allow-origin" not in answer.headers

    def test_image_of_a_foreign_page_that_deletes(self, worker, engine):
        """A GET has no Origin, and Routes takes the method from the query."""
        path = f"{STACKS}/s/1?_method=DELETE"
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
        assert worker.request("GET", path, headers).status == 403
        assert engine.calls == []

    @pytest.mark.parametrize("site", ["same-origin", "same-site", "none"])
    def test_own_requests_of_a_browser(self, worker, site):
        assert worker.request("GET", STACKS, {"Sec-Fetch-Site": site}).status == 200

    @pytest.mark.parametrize(
        ("method", "path", "mode", "dest", "status"),
        [
            ("GET", "/", "navigate", "document", 300),
            ("GET", "/versions", "navigate", "document", 300),
            ("GET", "/", "navigate", "iframe", 403),
            ("GET", "/", "no-cors", "image", 403),
            ("POST", "/", "navigate", "document", 403),
            ("GET", STACKS, "navigate", "document", 403),
            ("GET", "/v1/", "navigate", "document", 403),
        ],
    )
    def test_links_on_foreign_pages_lead_to_the_versions_only(self, worker, method, path, mode, dest, status):
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
        assert worker.request(method, path, headers).status == status

    def test_outside_of_development_mode_there_is_no_door(self, operators):
        headers = {"Host": "heat.example", "Origin": "https://dashboard.example", "Sec-Fetch-Site": "cross-site"}
        assert operators.request("GET", "/v1/admin/stacks", headers).status == 200


class TestIdentity:
    def test_the_project_is_the_one_in_the_path(self, worker, engine):
        assert worker.get(STACKS).json == {"stacks": []}
        method, _, context = engine.calls[0]
        assert method == "list_stacks"
        assert (context["project_id"], context["tenant_id"], context["project_name"]) == ("demo", "demo", "demo")
        assert (context["user_id"], context["roles"]) == ("admin", ["admin", "member", "reader"])

    def test_projects_do_not_see_each_other(self, worker, engine):
        """Engines list the stacks of all projects to whoever is an administrator of the deployment."""
        worker.get(STACKS)
        worker.get(STACKS, X_Is_Admin_Project="True")
        assert [context["is_admin"] for _, _, context in engine.calls] == [False, True]

    @pytest.mark.parametrize(
        ("path", "project"),
        [
            ("/v1.0/demo/stacks", "demo"),
            ("/v1/v1/stacks", "v1"),
            ("/v1/a%20b/stacks", "a b"),
        ],
    )
    def test_spellings_of_the_path(self, worker, engine, path, project):
        assert worker.get(path, X_Auth_Project="another").status == 200
        assert engine.calls[0][2]["project_id"] == project

    def test_names_beyond_ascii_are_refused_from_the_start(self, worker, engine):
        """Redirects would lead to another project, since Routes does not decode."""
        assert worker.get("/v1/d%C3%A9mo/stacks").status == 403 and engine.calls == []

    def test_version_in_a_header(self, worker, engine):
        accept = "application/vnd.openstack.orchestration-v1.0"
        assert worker.get("/demo/stacks", Accept=accept).status == 200
        assert engine.calls[0][2]["project_id"] == "demo"

    def test_paths_without_a_project(self, worker, engine):
        assert worker.get("/").status == 300
        assert worker.get("/v1").status == 404
        assert worker.get("/v1/%ff/stacks").status == 400
        assert engine.calls == []

    def test_calls_of_members_and_of_administrators(self, worker, engine):
        assert worker.get("/v1/demo/stacks/s/1/template").status == 200  # role:reader
        assert worker.request("DELETE", "/v1/demo/stacks/s/1").status == 204  # role:member
        engine.answer = lambda *_: []
        assert worker.get("/v1/demo/services").status == 200  # role:admin
        assert {context["project_id"] for _, _, context in engine.calls} == {"demo"}

    def test_default_policies_refuse_only_what_they_refuse_everybody(self):
        load(cfg.CONF, [], development=True, adjust=without_keystone)
        assert cfg.CONF.oslo_policy.enforce_new_defaults is True
        policy = Policy(cfg.CONF)
        caller = RequestContext(
            user_id="admin", project_id="demo", roles=["admin", "member", "reader"], is_admin_project=False
        )
        names = [rule.name for rule in defaults.list_rules()]
        refused = {name for name in names if not policy.allowed(caller, name, {"project_id": "demo"})}
        forbidden = {rule.name for rule in defaults.list_rules() if rule.check_str in ("!", defaults.DENY_EVERYBODY)}
        assert refused - forbidden == {"context_is_admin"}

    def test_noauth_of_an_operator_is_upstreams(self, operators, engine):
        assert operators.get(STACKS).status == 200
        context = engine.calls[0][2]
        assert (context["project_id"], context["roles"], context["is_admin"]) == ("admin", ["admin"], True)

"""The stations that are ours: versionnegotiation, authurl, context, noauth, custombackendauth, faultwrap."""

import json
import logging

import pytest
import yaml
from identity_rig import keystone
from pipeline_rig import OPEN, PASTE, Engine, configuration, edited, loaded, running, together, wait_for

from heatperf import context
from heatperf.errors import ConfigurationError, Overloaded, heat
from heatperf.pipeline import faultwrap

VENDOR = "application/vnd.openstack.orchestration-"
#: Trusts the identity headers of the client, so that a test says who calls.
OPEN_IDENTITY = edited("", {"noauth": "request_id faultwrap versionnegotiation authurl context apiv1app"})
MEMBER = {"X-Project-Id": "admin", "X-Roles": "admin", "X-User-Id": "u1"}


class TestVersionNegotiation:
    @pytest.fixture(scope="class")
    def worker(self, tmp_path_factory):
        with running(tmp_path_factory.mktemp("versions")) as worker:
            yield worker

    @pytest.mark.parametrize(
        ("path", "accept", "status"),
        [
            ("/", None, 300),
            ("/versions", None, 300),
            ("/versions/more", None, 300),
            ("/v1/admin/stacks", None, 200),
            ("/v1.0/admin/stacks", None, 200),
            ("/v1.0.7/admin/stacks", None, 200),  # only the beginning counts
            ("/v1-beta/admin/stacks", None, 200),
            ("/v1x/admin/stacks", None, 200),
            ("/v01/admin/stacks", None, 200),
            ("/v1", None, 404),
            ("/v1.1/admin/stacks", None, 300),
            ("/v10/admin/stacks", None, 300),
            ("/v2/admin/stacks", None, 300),
            ("/V1/admin/stacks", None, 404),
            ("/vx/admin/stacks", None, 404),
            ("/admin/stacks", None, 404),
            ("/admin/stacks", "application/json", 404),
            ("/admin/stacks", VENDOR + "v1", 200),
            ("/admin/stacks", VENDOR + "v1.0", 200),
            ("/admin/stacks", VENDOR + "v1+json; q=1", 200),
            ("/admin/stacks", VENDOR + "v2", 300),
            ("/admin/stacks", VENDOR + "anything", 200),
            ("/admin/stacks", VENDOR, 200),
            ("/admin/stacks", "text/plain, " + VENDOR + "v1", 404),
            ("/v2/admin/stacks", VENDOR + "v1", 300),  # the path decides first
            ("/%ff/admin/stacks", None, 400),
            ("/v1/admin/%ff", None, 400),
        ],
    )
    def test_paths_and_accept(self, worker, path, accept, status):
        assert worker.request("GET", path, {"Accept": accept} if accept else {}).status == status

    def test_list_of_versions_follows_the_url_that_was_used(self, worker):
        answer = worker.get("/v9", Host="api.example:1")
        links = answer.json["versions"][0]["links"]
        assert links == [{"rel": "self", "href": "http://api.example:1/v1/"}]

    def test_not_found_here_is_not_json(self, worker):
        # WebOb's own page, as upstream: the fault filter sees an answer, not an exception
        answer = worker.request("GET", "/nope", {"Accept": "text/plain"})
        assert answer.headers["content-type"].startswith("text/plain")


class TestAuthUrl:
    def auth_url(self, tmp_path, text, paste=OPEN_IDENTITY, headers=None):
        """Status, and what the engine is told."""
        engine = Engine()
        with running(tmp_path, OPEN + text, paste, engine) as worker:
            answer = worker.request("GET", "/v1/admin/stacks", {**MEMBER, **(headers or {})})
        return answer, engine.calls and engine.calls[0][2]["auth_url"]

    def test_public_url_replaces_what_the_client_sent(self, tmp_path):
        text = "[keystone_authtoken]\nwww_authenticate_uri = http://ks.example/v2.0\n"
        found = self.auth_url(tmp_path, text, headers={"X-Auth-Url": "http://evil.example"})
        assert (found[0].status, found[1]) == (200, "http://ks.example/v2.0")

    def test_nothing_is_configured(self, tmp_path):
        assert self.auth_url(tmp_path, "", headers={"X-Auth-Url": "http://evil.example"})[1] is None

    def test_paste_wins_and_spares_the_discovery(self, tmp_path):
        factory = "paste.filter_factory = heat.common.auth_url:filter_factory\n"
        paste = OPEN_IDENTITY.replace(factory, factory + "auth_uri = http://from.paste/v3\n")
        text = "[clients_keystone]\nauth_uri = http://127.0.0.1:9/nobody-there\n"
        assert self.auth_url(tmp_path, text, paste)[1] == "http://from.paste/v3"

    def test_discovery_happens_once_and_off_the_loop(self, tmp_path):
        engine = Engine()
        with keystone() as identity:
            text = f"{OPEN}[clients_keystone]\nauth_uri = {identity.url}\n"
            with running(tmp_path, text, OPEN_IDENTITY, engine) as worker:
                assert worker.get("/").status == 300
                assert identity.asked == []  # not before it is needed
                for _ in range(3):
                    assert worker.request("GET", "/v1/admin/stacks", MEMBER).status == 200
            assert len(identity.asked) == 1
            assert {call[2]["auth_url"] for call in engine.calls} == {f"{identity.url}/v3/"}

    @pytest.mark.parametrize(
        ("sent", "status"),
        [(None, 400), ("", 400), ("http://evil.example/v3", 401), ("http://one.example/v3", 200)],
    )
    def test_several_clouds(self, tmp_path, sent, status):
        text = "[auth_password]\nmulti_cloud = true\nallowed_auth_uris = http://one.example/v3,http://two.example/v3\n"
        headers = {} if sent is None else {"X-Auth-Url": sent}
        answer, auth_url = self.auth_url(tmp_path, text, headers={**headers, "Accept": "text/plain"})
        assert answer.status == status
        if status == 200:
            assert auth_url == sent
        else:
            assert b"X-Auth-Url" in answer.body and auth_url == []


class TestContext:
    @pytest.fixture(scope="class")
    def engine(self):
        return Engine()

    @pytest.fixture(scope="class")
    def worker(self, tmp_path_factory, engine):
        folder = tmp_path_factory.mktemp("context")
        (folder / "policy.yaml").write_text(
            yaml.safe_dump({"context_is_admin": "role:boss", "stacks:index": "@", "stacks:global_index": "@"})
        )
        text = OPEN + f"policy_file = {folder}/policy.yaml\n"
        with running(folder, text, OPEN_IDENTITY, engine) as worker:
            yield worker

    def seen(self, worker, engine, path="/v1/p1/stacks", **headers):
        engine.calls.clear()
        given = {"X-Project-Id": "p1", "X-Roles": "member"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = worker.request("GET", path, given)
        assert answer.status == 200, answer
        return engine.calls[0][2]

    def test_user_and_key_beat_ec2(self, worker, engine):
        found = self.seen(worker, engine, X_Auth_User="bob", X_Auth_Key="pw", X_Auth_EC2_Creds="ec2")
        assert (found["username"], found["password"], found["aws_creds"]) == ("bob", "pw", None)

    def test_ec2_alone(self, worker, engine):
        found = self.seen(worker, engine, X_Auth_Key="pw", X_Auth_EC2_Creds="ec2", X_User_Name="alice")
        assert (found["username"], found["password"], found["aws_creds"]) == ("alice", None, "ec2")

    def test_user_of_the_token_where_none_is_given(self, worker, engine):
        found = self.seen(worker, engine, X_User_Name="alice", X_Region_Name="R2", X_User_Domain_Id="d1")
        assert (found["username"], found["region_name"], found["user_domain"]) == ("alice", "R2", "d1")

    def test_superset_for_engines_of_all_ages(self, worker, engine):
        found = self.seen(
            worker,
            engine,
            X_User_Id="u1",
            X_Project_Name="one",
            X_User_Domain_Id="ud",
            X_Project_Domain_Id="pd",
        )
        old = {name: found[name] for name in ("user_id", "tenant_id", "user_domain_id", "project_domain_id")}
        assert old == {"user_id": "u1", "tenant_id": "p1", "user_domain_id": "ud", "project_domain_id": "pd"}
        assert "tenant" not in found  # from 26 on it would become the project's name
        assert (found["project_name"], found["project_id"]) == ("one", "p1")
        assert {"auth_token_info", "trust_id", "trustor_user_id", "read_only", "show_deleted"} <= set(found)
        json.dumps(found)

    def test_policy_decides_who_is_admin(self, worker, engine):
        assert self.seen(worker, engine)["is_admin"] is False
        assert self.seen(worker, engine, X_Roles="admin")["is_admin"] is False
        assert self.seen(worker, engine, X_Roles="boss")["is_admin"] is True

    def test_request_ids_of_ours_and_of_the_caller(self, worker, engine):
        given = "req-aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
        found = self.seen(worker, engine, X_OpenStack_Request_ID=given)
        assert found["global_request_id"] == given
        assert found["request_id"] != given
        assert self.seen(worker, engine, X_OpenStack_Request_ID="req-Not-One")["global_request_id"] is None

    def test_listing_of_all_projects_goes_as_administrator_of_none(self, worker, engine):
        found = self.seen(worker, engine, "/v1/p1/stacks?global_tenant=true", X_Roles="member", X_User_Id="u1")
        assert (found["is_admin"], found["project_id"], found["user"], found["roles"]) == (True, None, None, [])

    def test_log_lines_carry_the_id_of_their_request(self, worker, caplog):
        caplog.set_level(logging.INFO)
        caplog.handler.addFilter(context.ContextLogFilter())
        answers = together(*(lambda: worker.request("GET", "/v1/p1/stacks", {"X-Project-Id": "p1"}) for _ in range(5)))
        sent = sorted(answer.headers["x-openstack-request-id"] for answer in answers)

        def lines():
            """Written once an answer has been sent; there may still come one of the test before."""
            return [record for record in list(caplog.records) if getattr(record, "request_id", None) in sent]

        wait_for(lambda: len(lines()) == 5, "a line for each answer")
        assert sorted(record.context.request_id for record in lines()) == sent
        assert all(record.context.request_id == record.request_id for record in lines())

    def test_context_class_of_another_package(self, tmp_path):
        factory = "paste.filter_factory = heat.common.context:ContextMiddleware_filter_factory\n"
        paste = OPEN_IDENTITY.replace(factory, factory + "context_class = oslo_context.context.RequestContext\n")
        with running(tmp_path, paste=paste) as worker:
            # upstream's factory ignores the key and takes its own class
            assert worker.request("GET", "/v1/admin/stacks", MEMBER).status == 200


class TestNoAuth:
    def test_token_response_reaches_the_engine(self, tmp_path):
        token = {"token": {"user": {"id": "x"}}}
        (tmp_path / "token.json").write_text(json.dumps(token))
        engine = Engine()
        with running(tmp_path, f"{OPEN}[noauth]\ntoken_response = {tmp_path}/token.json\n", transport=engine) as worker:
            assert worker.get("/v1/admin/stacks").status == 200
        assert engine.calls[0][2]["auth_token_info"] == token

    def test_no_such_file_means_no_token(self, tmp_path):
        engine = Engine()
        text = f"{OPEN}[noauth]\ntoken_response = {tmp_path}/nowhere\n"
        with running(tmp_path, text, transport=engine) as worker:
            assert worker.get("/v1/admin/stacks").status == 200
        assert engine.calls[0][2]["auth_token_info"] is None

    def test_file_that_is_no_json_refuses_the_start(self, tmp_path):
        (tmp_path / "token.json").write_text("{")
        conf = configuration(tmp_path, f"{OPEN}[noauth]\ntoken_response = {tmp_path}/token.json\n")
        with pytest.raises(ConfigurationError) as caught:
            loaded(conf)
        assert "token.json" in str(caught.value) and "[noauth] token_response" in str(caught.value)

    def test_user_and_project_by_header(self, tmp_path):
        engine = Engine()
        with running(tmp_path, transport=engine) as worker:
            answer = worker.get("/v1/p9/stacks", X_Auth_User="zoe", X_Auth_Project="p9", X_Roles="reader")
            assert answer.status == 200
        found = engine.calls[0][2]
        assert (found["project_id"], found["user"], found["roles"]) == ("p9", "zoe", ["admin"])


class TestCustomBackend:
    def asked(self, tmp_path, answer, roles="admin"):
        def engine(method, _arguments, _context):
            if method == "authenticated_to_backend":
                if isinstance(answer, Exception):
                    raise answer
                return answer
            return []

        text = OPEN.replace("noauth", "custombackend")
        with running(tmp_path, text, PASTE, Engine(engine)) as worker:
            return worker.request("GET", "/v1/admin/stacks", {**MEMBER, "X-Roles": roles, "Accept": "text/plain"})

    def test_engine_says_yes(self, tmp_path):
        assert self.asked(tmp_path, True).status == 200

    def test_engine_says_no(self, tmp_path):
        answer = self.asked(tmp_path, False)
        assert answer.status == 401 and b"Backend authentication failed" in answer.body
        assert "www-authenticate" not in answer.headers

    def test_engine_fails(self, tmp_path):
        answer = self.asked(tmp_path, heat.MessagingTimeout("nobody"))
        assert (answer.status, answer.json["error"]["type"]) == (500, "MessagingTimeout")


class TestFaults:
    """What becomes of an exception, without and with debug."""

    def fault(self, tmp_path, error, debug=False, **headers):
        def fail(*_):
            raise error

        text = OPEN + (f"[DEFAULT]\ndebug = {str(debug).lower()}\n")
        with running(tmp_path, text, transport=Engine(fail)) as worker:
            return worker.get("/v1/admin/stacks", **headers)

    def test_safe_ones_show_their_message(self, tmp_path):
        answer = self.fault(tmp_path, heat.EntityNotFound(entity="Stack", name="s1"))
        assert answer.json == {
            "code": 404,
            "title": "Not Found",
            "explanation": "The resource could not be found.",
            "error": {"type": "EntityNotFound", "traceback": None, "message": "The Stack (s1) could not be found."},
        }
        assert answer.headers["content-type"] == "application/json"

    @pytest.mark.parametrize("kind", [KeyError, RuntimeError, ZeroDivisionError, AssertionError])
    def test_others_show_nothing_but_their_name(self, tmp_path, kind):
        answer = self.fault(tmp_path, kind("password=hunter2"))
        assert (answer.status, answer.json["error"]) == (500, {"type": kind.__name__, "traceback": None})
        assert b"hunter2" not in answer.body

    def test_xml_is_what_upstream_makes_of_it(self, tmp_path):
        answer = self.fault(tmp_path, heat.StackExists(stack_name="s"), Content_Type="application/xml")
        assert (answer.status, answer.body) == (409, b"<code>409</code>")
        assert answer.headers["content-type"].startswith("application/xml")

    def test_debug_shows_where_it_happened(self, tmp_path):
        trace = self.fault(tmp_path, RuntimeError("deep"), debug=True).json["error"]["traceback"]
        assert trace.startswith("Traceback (most recent call last)") and trace.rstrip().endswith("RuntimeError: deep")

    def test_debug_shows_the_trace_of_the_engine_not_ours(self, tmp_path):
        error = heat.StackValidationFailed(message="bad")
        error.remote_trace = "Traceback (most recent call last)\n  in the engine"
        fault = self.fault(tmp_path, error, debug=True).json["error"]
        assert (fault["traceback"], fault["message"]) == (error.remote_trace, "bad")

    def test_without_debug_the_trace_of_the_engine_stays_hidden(self, tmp_path):
        error = ValueError("bad\nTraceback (most recent call last)\n  /opt/engine/secret.py")
        answer = self.fault(tmp_path, error)
        assert answer.status == 400 and b"secret.py" not in answer.body

    def test_engine_that_cannot_be_reached(self, tmp_path):
        answer = self.fault(tmp_path, heat.EngineUnavailable("no broker", retry_after=7))
        assert (answer.status, answer.headers["retry-after"]) == (503, "7")
        assert answer.json["error"]["message"] == "no broker"

    def test_overload(self, tmp_path):
        answer = self.fault(tmp_path, Overloaded("The queue is full", retry_after=3))
        assert (answer.status, answer.headers["retry-after"]) == (503, "3")
        assert answer.json["error"] == {"type": "Overloaded", "traceback": None, "message": "The queue is full"}

    def test_no_retry_after_on_others(self, tmp_path):
        assert "retry-after" not in self.fault(tmp_path, heat.MessagingTimeout("x")).headers

    @pytest.mark.parametrize(
        ("kind", "status"),
        [
            (type("NotFound", (Exception,), {}), 404),  # of any library: the name decides
            (type("Mine", (heat.StackExists,), {"__init__": Exception.__init__}), 409),
            (type("Mine", (type("Mine2", (ValueError,), {}),), {}), 400),
            (UnicodeDecodeError, 400),
            (KeyError, 500),
            (OSError, 500),
            (BaseException, 500),
        ],
    )
    def test_status_by_the_nearest_known_name(self, kind, status):
        assert faultwrap.status_of(kind) == status

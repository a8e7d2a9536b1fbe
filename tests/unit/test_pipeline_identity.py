"""The stations that ask Keystone, authtoken and authpassword, and osprofiler: right answers, and never on the loop."""

import threading
import time

import osprofiler.notifier
import osprofiler.web
import pytest
from identity_rig import PASSWORD, SERVICE_PASSWORD, keystone, token_body
from osprofiler import _utils as profiler_utils
from pipeline_rig import OPEN, PASTE, Engine, Worker, configuration, loaded, running, together, wait_for

from heatperf.pipeline import application

HMAC_KEY = "key-of-the-tracer"


@pytest.fixture
def identity():
    with keystone() as server:
        yield server


def token_conf(identity, more=""):
    return (
        f"[keystone_authtoken]\nwww_authenticate_uri = {identity.url}\nauth_url = {identity.url}\n"
        "auth_type = password\n"
        f"username = heat\npassword = {SERVICE_PASSWORD}\nproject_name = services\n"
        f"user_domain_id = default\nproject_domain_id = default\n{more}"
    )


class TestAuthToken:
    @pytest.fixture
    def engine(self):
        return Engine()

    @pytest.fixture
    def worker(self, tmp_path, identity, engine):
        with running(tmp_path, token_conf(identity), PASTE, engine) as worker:
            yield worker

    def test_token_becomes_the_context(self, worker, engine, identity):
        assert worker.get("/v1/p1/stacks", X_Auth_Token="good").status == 200
        found = engine.calls[0][2]
        assert (found["user"], found["project_id"], found["roles"]) == ("u-alice", "p1", ["member", "reader"])
        assert found["auth_token"] == "good"
        assert found["auth_token_info"]["token"]["user"]["id"] == "u-alice"

    def test_headers_of_the_client_cannot_pretend(self, worker, engine):
        pretended = {"X_Roles": "admin", "X_Project_Id": "p2", "X_User_Id": "root", "X_Is_Admin_Project": "True"}
        assert worker.get("/v1/p1/stacks", X_Auth_Token="good", **pretended).status == 200
        found = engine.calls[0][2]
        assert (found["user"], found["project_id"], found["roles"]) == ("u-alice", "p1", ["member", "reader"])

    @pytest.mark.parametrize("headers", [{}, {"X_Auth_Token": "bad"}, {"X_Roles": "admin", "X_Project_Id": "p1"}])
    def test_refusal_names_keystone(self, worker, engine, identity, headers):
        answer = worker.get("/v1/p1/stacks", **headers)
        assert answer.status == 401 and engine.calls == []
        assert answer.headers["www-authenticate"] == f'Keystone uri="{identity.url}"'
        assert answer.json["error"]["code"] == 401

    def test_other_project_in_the_path(self, worker):
        assert worker.get("/v1/p2/stacks", X_Auth_Token="good").status == 403

    def test_known_tokens_spare_keystone(self, worker, identity):
        for _ in range(3):
            assert worker.get("/v1/p1/stacks", X_Auth_Token="good").status == 200
        assert identity.asked.count("GET /v3/auth/tokens") == 1

    def test_slow_keystone_delays_nobody_else(self, worker, identity):
        assert worker.get("/v1/p1/stacks", X_Auth_Token="good").status == 200  # the service's own login is done
        for number in range(3):
            identity.tokens[f"new{number}"] = token_body(f"user{number}", ("reader",), "p1")
        identity.gate.clear()
        answers = []
        threads = [
            threading.Thread(
                target=lambda name=f"new{number}": answers.append(worker.get("/v1/p1/stacks", X_Auth_Token=name))
            )
            for number in range(3)
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: identity.waiting == 3, "three questions to Keystone at once")
        began = time.monotonic()
        assert [worker.get("/").status for _ in range(10)] == [300] * 10
        assert time.monotonic() - began < 5  # Keystone would hold each for 20 s
        assert identity.waiting == 3 and not answers
        identity.gate.set()
        for thread in threads:
            thread.join(10)
        assert [answer.status for answer in answers] == [200] * 3

    def test_keystone_that_is_gone(self, tmp_path, identity):
        text = token_conf(identity, "http_connect_timeout = 1\nhttp_request_max_retries = 0\n")
        identity.close()
        with running(tmp_path, text) as worker:
            assert worker.get("/v1/p1/stacks", X_Auth_Token="good").status == 503
            assert worker.get("/").status == 300

    def test_flood_of_unknown_tokens_is_bounded_and_delays_no_cached_one(self, tmp_path, identity):
        text = token_conf(identity, "[heatperf]\nauth_concurrency = 1\nauth_queue = 1\n")
        with running(tmp_path, text) as worker:
            worker.get("/v1/p1/stacks", X_Auth_Token="good")
            identity.gate.clear()
            threads = [
                threading.Thread(target=worker.get, args=("/v1/p1/stacks",), kwargs={"X_Auth_Token": f"t{number}"})
                for number in range(2)
            ]
            for thread in threads:
                thread.start()
            wait_for(lambda: worker.pipeline.parts.auth_pool.outstanding == 2)
            refused = worker.get("/v1/p1/stacks", X_Auth_Token="another")
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert worker.get("/").status == 300
            assert worker.get("/v1/p1/stacks", X_Auth_Token="good").status == 200
            identity.gate.set()
            for thread in threads:
                thread.join(10)


class TestAuthPassword:
    def conf(self, identity):
        return f"[paste_deploy]\nflavor = standalone\n[keystone_authtoken]\nwww_authenticate_uri = {identity.url}/v3\n"

    def test_right_and_wrong_passwords(self, tmp_path, identity):
        engine = Engine()
        user = {"X-Auth-User": "alice", "X-User-Domain-Id": "default", "X-Auth-Key": PASSWORD}
        with running(tmp_path, self.conf(identity), PASTE, engine) as worker:
            assert worker.request("GET", "/v1/p7/stacks", user).status == 200
            found = engine.calls[0][2]
            assert (found["project_id"], found["user"], found["auth_token"]) == ("p7", "u-alice", "token-of-alice")
            # the engine logs in again itself, so it gets the password
            assert (found["username"], found["password"]) == ("alice", PASSWORD)
            wrong = worker.request("GET", "/v1/p7/stacks", {**user, "X-Auth-Key": "wrong"})
            assert wrong.status == 401 and wrong.headers["www-authenticate"] == f"Keystone uri='{identity.url}/v3'"
            assert len(engine.calls) == 1
            # roles come from Keystone, whatever the client says
            assert worker.request("GET", "/v1/p7/stacks", {**user, "X-Roles": "admin"}).status == 200
            assert engine.calls[1][2]["roles"] == ["member", "reader"]

    def test_no_password(self, tmp_path, identity):
        with running(tmp_path, self.conf(identity)) as worker:
            answer = worker.request("GET", "/v1/p7/stacks", {"X-Auth-User": "alice"})
            assert (answer.status, answer.json["error"]["type"]) == (500, "AuthorizationFailure")
            assert identity.asked == []

    def test_no_project(self, tmp_path, identity):
        with running(tmp_path, self.conf(identity)) as worker:
            headers = {"X-Auth-User": "alice", "X-Auth-Key": PASSWORD, "Accept": "text/plain"}
            assert worker.request("GET", "/v1/", headers).status == 401
            assert identity.asked == []

    def test_slow_keystone_delays_nobody_else(self, tmp_path, identity):
        user = {"X-Auth-User": "alice", "X-User-Domain-Id": "default", "X-Auth-Key": PASSWORD}
        with running(tmp_path, self.conf(identity)) as worker:
            identity.gate.clear()
            held = threading.Thread(target=worker.request, args=("GET", "/v1/p7/stacks", user))
            held.start()
            wait_for(lambda: identity.waiting == 1)
            began = time.monotonic()
            assert worker.get("/").status == 300
            assert time.monotonic() - began < 5
            identity.gate.set()
            held.join(10)


class TestProfiler:
    """The messaging collector needs no server when its transport is fake://."""

    CONF = (
        f"{OPEN}[DEFAULT]\ntransport_url = fake://\n"
        f"[profiler]\nenabled = true\nhmac_keys = {HMAC_KEY}\nconnection_string = messaging://\n"
    )
    # the noauth line of the packaged file has no osprofiler
    TRACED = PASTE.replace("http_proxy_to_wsgi versionnegotiation apiv1app", "osprofiler versionnegotiation apiv1app")

    @pytest.fixture(autouse=True)
    def restore(self, monkeypatch):
        monkeypatch.setattr(osprofiler.web, "_ENABLED", None)
        monkeypatch.setattr(osprofiler.web, "_HMAC_KEYS", None)
        before = osprofiler.notifier.get()
        yield
        osprofiler.notifier.set(before)
        osprofiler.notifier.clear_notifier_cache()

    def signed(self, key, base_id="b" * 8):
        info, digest = profiler_utils.signed_pack({"base_id": base_id, "parent_id": base_id}, key)
        return {"X-Trace-Info": info.decode(), "X-Trace-HMAC": digest}

    @pytest.fixture
    def traced(self, tmp_path, monkeypatch):
        engine = Engine()
        monkeypatch.setattr(application, "_transport", lambda *_: engine)
        notes = []
        (tmp_path / "policy.yaml").write_text('"stacks:global_index": "@"\n')
        policy = f"[oslo_policy]\npolicy_file = {tmp_path}/policy.yaml\n"
        conf = configuration(tmp_path, self.CONF + policy, self.TRACED)
        pipeline = application.build(conf, "rpc")
        worker = Worker(pipeline)
        # a worker connects to its collector when it starts; ours takes that one's place
        osprofiler.notifier.set(lambda info, *_: notes.append(info))
        yield worker, engine, notes
        worker.close()

    def test_signed_requests_take_their_trace_to_the_engine(self, traced):
        worker, engine, notes = traced
        assert worker.request("GET", "/v1/admin/stacks", self.signed(HMAC_KEY)).status == 200
        trace = engine.calls[0][2]["trace_info"]
        assert (trace["base_id"], trace["hmac_key"]) == ("b" * 8, HMAC_KEY)
        assert [note["name"] for note in notes] == ["wsgi-start", "wsgi-stop"]
        assert trace["parent_id"] == notes[0]["trace_id"]

    def test_others_are_not_traced(self, traced):
        worker, engine, notes = traced
        for headers in ({}, self.signed("another key"), {"X-Trace-Info": "x", "X-Trace-HMAC": "y"}):
            assert worker.request("GET", "/v1/admin/stacks", headers).status == 200
        assert [call[2].get("trace_info") for call in engine.calls] == [None] * 3
        assert notes == []

    def test_traces_of_requests_at_once_do_not_mix(self, traced):
        worker, engine, _notes = traced
        bases = [f"base-{number}" for number in range(12)]

        def asked(base):
            headers = self.signed(HMAC_KEY, base) | {"X-Auth-User": base}
            return worker.request("GET", "/v1/admin/stacks", headers).status

        assert together(*(lambda base=base: asked(base) for base in bases)) == [200] * 12
        assert {call[2]["user"]: call[2]["trace_info"]["base_id"] for call in engine.calls} == {b: b for b in bases}

    def test_listing_of_all_projects_is_traced_too(self, traced):
        worker, engine, _notes = traced
        worker.request("GET", "/v1/admin/stacks?global_tenant=true", self.signed(HMAC_KEY))
        assert engine.calls[0][2].get("trace_info", {}).get("base_id") == "b" * 8

    def test_off_means_off(self, tmp_path):
        text = self.CONF.replace("enabled = true", "enabled = false")
        conf = configuration(tmp_path, text, self.TRACED)
        how = {station.name: station.how for station in application.build(conf, "none").parts.stations}
        assert "osprofiler" in how and osprofiler.web._ENABLED is False


def test_two_pipelines_in_one_process_keep_apart(tmp_path, identity):
    """Nothing of a pipeline is global once it is loaded."""
    (tmp_path / "a").mkdir()
    first = loaded(configuration(tmp_path / "a", token_conf(identity)))
    second = loaded(configuration(tmp_path, "[paste_deploy]\nflavor = noauth\n"))
    assert first.parts is not second.parts
    assert len(first.parts.startables) == len(second.parts.startables) == 1

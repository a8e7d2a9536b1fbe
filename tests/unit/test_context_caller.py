"""A context made from what is known of the caller equals one that is made from the whole environ."""

import logging

import pytest
import webob
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from identity_rig import keystone
from oslo_context import context as oslo_context
from pipeline_rig import OPEN, configuration
from test_pipeline_tokens import CLIENT_HEADERS, fill, parts_of

from heatperf import context
from heatperf.context import CALLER, RequestContext
from heatperf.pipeline import authtoken, noauth
from heatperf.pipeline.context import ContextFilter
from heatperf.pipeline.parts import Parts
from heatperf.policy import Policy

#: Everything that any station reads of a caller, and the headers that only the client sets.
HEADERS = sorted(
    {name for names in oslo_context._ENVIRON_HEADERS.values() for name in names if name.startswith("HTTP_")}
    - {"HTTP_X_AUTH_TOKEN"}
    | {
        "HTTP_X_AUTH_USER", "HTTP_X_AUTH_KEY", "HTTP_X_AUTH_EC2_CREDS", "HTTP_X_REGION_NAME", "HTTP_X_AUTH_URL",
        "HTTP_X_AUTH_PROJECT", "HTTP_X_ROLE", "HTTP_X_IS_ADMIN_PROJECT", "HTTP_X_TRUST_ID",
    }
    | set(CLIENT_HEADERS)
)  # fmt: skip
ENVIRONS = st.builds(
    lambda headers, own, ids: {**headers, **own, **ids},
    st.dictionaries(st.sampled_from(HEADERS), st.sampled_from(["", "x", "admin", "True", "all", "a, b"])),
    st.fixed_dictionaries({}, optional={name: st.sampled_from(["", "u", "v"]) for name in HEADERS if "_AUTH_" in name}),
    st.fixed_dictionaries(
        {"openstack.request_id": st.sampled_from(["req-1", "req-2"])},
        optional={"openstack.global_request_id": st.sampled_from(["req-g", None])},
    ),
)
PROPERTY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(scope="module")
def identity():
    with keystone() as server:
        fill(server)
        yield server


@pytest.fixture
def policy(tmp_path):
    (tmp_path / "policy.yaml").write_text('"context_is_admin": "role:admin or user_id:u-gus or role:a"\n')
    return Policy(configuration(tmp_path, f"[oslo_policy]\npolicy_file = {tmp_path}/policy.yaml\n"))


@pytest.fixture(autouse=True)
def nobody_is_current():
    """The stations are called directly here, in the context of the whole test run."""
    yield
    context._current.set(None)


def nothing(environ, start_response):
    start_response("204 No Content", [])
    return []


def environ_of(more):
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/v1/p1/stacks",
        "wsgi.url_scheme": "http",
        **more,
    }


def met(station, environ):
    """The context that the stations leave in an environ."""
    station(environ, lambda *_: None)
    found = webob.Request(environ).context
    assert context.context_of(environ) is found and context.get_current() is found
    return found


def assert_same(lean, reference):
    assert {**lean.__dict__, "caller": None} == {**reference.__dict__, "caller": None}
    for view in ("to_dict", "to_rpc", "get_logging_values"):
        assert getattr(lean, view)() == getattr(reference, view)()
    assert dict(lean.to_policy_values()) == dict(reference.to_policy_values())
    assert (lean.is_admin, lean.global_id) == (reference.is_admin, reference.global_id)
    assert type(lean) is type(reference)


def compare(station, contexts, environ, counts):
    """One request: what the stations made of it, against what is made of the environ that they left behind."""
    lean = met(station, environ)
    assert lean.caller is environ.get(CALLER)
    counts[environ.get(CALLER) is not None] += 1
    reference = contexts.context_for({name: value for name, value in environ.items() if name != CALLER})
    assert reference.caller is None
    assert_same(lean, reference)


@pytest.mark.parametrize("more", ["", "delay_auth_decision = true\n"])
def test_of_tokens(tmp_path, identity, policy, more):
    parts = parts_of(tmp_path, identity, more)
    parts.policy = policy
    contexts = ContextFilter(nothing, parts)
    station = authtoken.LeanAuthToken(contexts, parts, {})
    counts = [0, 0]

    @PROPERTY
    @given(ENVIRONS, st.sampled_from(["good", "other", "system", "bound", "plain"]), st.sampled_from(["", "nova"]))
    def check(headers, token, service):
        environ = environ_of({**headers, "HTTP_X_AUTH_TOKEN": token})
        if "HTTP_X_SERVICE_TOKEN" in headers:
            environ["HTTP_X_SERVICE_TOKEN"] = service
        if token == "bound":
            environ.update(AUTH_TYPE="Negotiate", REMOTE_USER="dave")
        compare(station, contexts, environ, counts)

    check()
    assert counts[True] > 50 and counts[False] > 10


@pytest.mark.parametrize("kind", [noauth.NoAuth, noauth.DevelopmentNoAuth])
def test_of_those_who_say_who_they_are(tmp_path, policy, kind):
    contexts = ContextFilter(nothing, Parts(configuration(tmp_path, OPEN), policy, None))
    station = kind(contexts, {"token": {}})
    counts = [0, 0]

    @PROPERTY
    @given(ENVIRONS, st.sampled_from([None, "t1", ""]), st.sampled_from(["/v1/p1", "/", "/v1", "/p2/x", "/\xc3\xa9"]))
    def check(headers, token, path):
        environ = environ_of({**headers, "PATH_INFO": path})
        if token is not None:
            environ["HTTP_X_AUTH_TOKEN"] = token
        fresh = environ.copy()
        compare(station, contexts, environ, counts)
        # a caller who was met before finds the same as one who was not
        kind(contexts, {"token": {}})(fresh, lambda *_: None)
        mine, theirs = ({**e, CALLER: None, "webob.adhoc_attrs": None} for e in (environ, fresh))
        assert mine == theirs

    check()
    station(environ_of({}), print)
    for _ in range(3):
        compare(station, contexts, environ_of({"openstack.request_id": "req-1"}), counts)
    assert counts[True] > 3 and counts[False] > 10


def test_requests_of_one_caller_share_no_field_that_is_a_requests_own(tmp_path, identity, policy):
    parts = parts_of(tmp_path, identity)
    parts.policy = policy
    station = authtoken.LeanAuthToken(ContextFilter(nothing, parts), parts, {})
    special = ({"HTTP_X_AUTH_USER": "a", "HTTP_X_AUTH_KEY": "k"}, {}, {"HTTP_X_REGION_NAME": "R"})
    first, second, third = (
        met(station, environ_of({"HTTP_X_AUTH_TOKEN": "good", "openstack.request_id": f"req-{number}", **more}))
        for number, more in enumerate(special)
    )
    first.trace_info = {"base_id": "b"}
    assert (first.username, first.password, second.username, second.password) == ("a", "k", "alice", None)
    assert (second.trace_info, third.trace_info, second.region_name, third.region_name) == (None, None, None, "R")
    assert [c.request_id for c in (first, second, third)] == ["req-0", "req-1", "req-2"]
    assert first.caller is second.caller is third.caller is not None
    assert met(station, environ_of({"HTTP_X_AUTH_TOKEN": "good"})).request_id.startswith("req-")


def test_administration_is_asked_of_the_policy_each_time(tmp_path, identity, policy):
    """The rules may change while a token is cached."""
    answers = iter([False, True, False])
    parts = parts_of(tmp_path, identity)
    parts.policy = type("Rules", (), {"is_admin": lambda _self, _context: next(answers)})()
    station = authtoken.LeanAuthToken(ContextFilter(nothing, parts), parts, {})
    found = [met(station, environ_of({"HTTP_X_AUTH_TOKEN": "good"})).is_admin for _ in range(3)]
    assert found == [False, True, False]


def test_parting_leaves_nothing_shared(tmp_path, identity, policy):
    parts = parts_of(tmp_path, identity)
    parts.policy = policy
    station = authtoken.LeanAuthToken(ContextFilter(nothing, parts), parts, {})
    mine, theirs = (environ_of({"HTTP_X_AUTH_TOKEN": "good"}) for _ in range(2))
    one, other = met(station, mine), met(station, theirs)
    context.part(mine)
    assert CALLER not in mine and one.caller is None
    one.roles.append("admin")
    mine["keystone.token_info"]["token"]["user"]["id"] = "root"
    assert one.auth_token_info is mine["keystone.token_info"]
    assert other.roles == ["member", "reader"] and other.auth_token_info["token"]["user"]["id"] == "u-alice"
    third = met(station, environ_of({"HTTP_X_AUTH_TOKEN": "good"}))
    assert third.roles == ["member", "reader"] and third.auth_token_info["token"]["user"]["id"] == "u-alice"
    before = {"keystone.token_info": {}}
    context.part(before)
    assert before == {"keystone.token_info": {}}


def test_secrets_of_a_known_caller_are_masked(tmp_path, identity, policy, caplog):
    caplog.set_level(logging.DEBUG)
    parts = parts_of(tmp_path, identity)
    parts.policy = policy
    station = authtoken.LeanAuthToken(ContextFilter(nothing, parts), parts, {})
    for _ in range(2):
        found = met(
            station, environ_of({"HTTP_X_AUTH_TOKEN": "good", "HTTP_X_AUTH_USER": "a", "HTTP_X_AUTH_KEY": "secret"})
        )
        assert isinstance(found, RequestContext)
        shown = found.get_logging_values()
        assert (shown["password"], shown["auth_token"]) == ("***", "***") and "auth_token_info" not in shown

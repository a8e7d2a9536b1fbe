"""Application credentials with access rules: held against the method that the API will carry out.

Routes takes ``_method``, in the query or in a form, for the method. keystonemiddleware knows nothing of it, so that a
credential that may only read could delete.
"""

import pytest
from identity_rig import keystone, token_body
from pipeline_rig import PASTE, Engine, running
from test_pipeline_identity import token_conf

STACK = "/v1/p1/stacks/s/x"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
STATIONS = ["", "[heatperf]\nstock_filters = all\n"]


def rules(*methods):
    return [{"id": m, "method": m, "path": "/v1/p1/stacks/**", "service": "orchestration"} for m in methods]


@pytest.fixture(scope="module")
def identity():
    catalog = [{"type": "orchestration", "name": "heat", "endpoints": []}]
    with keystone() as server:
        for token, methods in (("reads", ("GET",)), ("posts", ("POST",)), ("deletes", ("GET", "DELETE"))):
            credential = {"id": "ac", "name": "ac", "restricted": True, "access_rules": rules(*methods)}
            server.tokens[token] = token_body(
                "alice", ("member", "reader"), "p1", catalog=catalog, application_credential=credential
            )
        server.tokens["nova"] = token_body("nova", ("service",), "services")
        yield server


@pytest.fixture(params=STATIONS, ids=["lean", "stock"])
def served(request, tmp_path, identity):
    engine = Engine(lambda method, _arguments, _context: [{}] if method == "show_stack" else {})
    text = token_conf(identity, "service_type = orchestration\nservice_token_roles = service\n") + request.param
    with running(tmp_path, text, PASTE, engine) as worker:

        def ask(token, method="GET", query="", body=None, headers=(), **more):
            engine.calls.clear()
            sent = {"X-Auth-Token": token, **dict(headers), **more}
            status = worker.request(method, STACK + query, sent, body).status
            return status, [call[0] for call in engine.calls]

        yield ask


@pytest.mark.parametrize(
    ("method", "query", "body"),
    [
        ("GET", "?_method=DELETE", None),
        ("GET", "?_method=delete", None),
        ("GET", "?a=b&_method=DELETE", None),
        ("GET", "?_method=GET&_method=DELETE", None),
        ("GET", "?%5Fmethod=DELETE&_method=DELETE", None),
        ("GET", "?_method=PATCH", b"{}"),
        ("POST", "?_method=DELETE", None),
        ("POST", "", b"_method=DELETE"),
        ("POST", "", b"x=y&_method=put"),
    ],
)
def test_another_method_by_the_back_door_is_refused(served, method, query, body):
    token = "reads" if method == "GET" else "posts"
    assert served(token, method, query, body, FORM if body and b"=" in body else ()) == (401, [])


def test_what_the_rules_allow_goes_on(served):
    assert served("reads") == (200, ["show_stack"])
    assert served("reads", "DELETE") == (401, [])
    assert served("reads", query="?_method=GET") == (200, ["show_stack"])
    assert served("reads", query="?_method=") == (200, ["show_stack"])
    assert served("deletes", "DELETE") == (204, ["delete_stack"])
    assert served("deletes", query="?_method=DELETE") == (204, ["delete_stack"])
    # a service goes on with what its user began
    assert served("reads", query="?_method=DELETE", **{"X-Service-Token": "nova"}) == (204, ["delete_stack"])


def test_form_is_still_there_for_the_application(served):
    status, called = served("posts", "POST", body=b"a=b", headers=FORM)
    assert (status, called) == (405, [])  # nothing is posted to a stack

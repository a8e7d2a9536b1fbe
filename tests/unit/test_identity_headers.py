"""Nobody becomes somebody else by sending the headers in which authentication tells the API who is calling.

Over real connections, because the names of headers are only made equal by the HTTP layer: on every loop, in every
pipeline that asks Keystone. The other two believe their callers by design: noauth anybody, custombackend those whom
the engine lets in.
"""

import contextlib
import http.client
import itertools

import pytest
from identity_rig import PASSWORD, keystone
from pipeline_rig import OPEN, PASTE, TIMEOUT, Engine, Worker, configuration, edited, loaded, running
from test_pipeline_identity import token_conf
from test_pipeline_tokens import fill

from heatperf import loops
from heatperf.errors import ConfigurationError
from heatperf.pipeline.tokens import IDENTITY_KEYS

#: From keystonemiddleware's documentation; the product reads them from its code.
NAMES = [
    "X-Identity-Status", "X-Service-Identity-Status", "X-Is-Admin-Project", "X-Service-Catalog", "X-Roles",
    "X-Service-Roles", "X-Role", "X-User", "X-Tenant", "X-Tenant-Id", "X-Tenant-Name",
    *(
        f"X{service}-{what}"
        for service, what in itertools.product(
            ("", "-Service"),
            (
                "Domain-Id", "Domain-Name", "Project-Id", "Project-Name", "Project-Domain-Id", "Project-Domain-Name",
                "User-Id", "User-Name", "User-Domain-Id", "User-Domain-Name",
            ),
        )
    ),
]  # fmt: skip
#: What a client would gain by being believed.
CLAIMS = {"X-Roles": "admin", "X-Role": "admin", "X-Identity-Status": "Confirmed", "X-Is-Admin-Project": "True"}


def mixed(name):
    return "".join(letter.upper() if place % 2 else letter.lower() for place, letter in enumerate(name))


def halved(name):
    head, _, tail = name.rpartition("-")
    return f"{head}_{tail}"


SPELLINGS = {
    "as documented": lambda name, value: [(name, value)],
    "lower": lambda name, value: [(name.lower(), value)],
    "upper": lambda name, value: [(name.upper(), value)],
    "mixed": lambda name, value: [(mixed(name), value)],
    "underscores": lambda name, value: [(name.replace("-", "_"), value)],
    "one underscore": lambda name, value: [(halved(name), value)],
    "as a CGI variable": lambda name, value: [("HTTP_" + name.upper().replace("-", "_"), value)],
    "spaces around the value": lambda name, value: [(name, f" \t{value} \t ")],
    "empty": lambda name, _value: [(name, "")],
    "twice": lambda name, value: [(name, "nobody"), (name, value)],
    "twice in two spellings": lambda name, value: [(name.lower(), value), (name.upper(), value)],
    "with its twin": lambda name, value: [(name.replace("-", "_"), value), (name, value), (mixed(name), value)],
}


def test_the_31():
    assert {"HTTP_" + name.upper().replace("-", "_") for name in NAMES} == IDENTITY_KEYS and len(NAMES) == 31


@pytest.fixture(scope="module", params=sorted(loops.LOOPS))
def loop_name(request):
    try:
        loops.preload(request.param)
    except (ImportError, ConfigurationError) as error:
        pytest.skip(f"the loop {request.param} cannot be used here: {error}")
    return request.param


@pytest.fixture(scope="module")
def identity():
    with keystone() as server:
        fill(server)
        yield server


def recorder(_global_conf, **_local_conf):
    """A filter that keeps the last environ."""

    def wrap(app):
        def keep(environ, start_response):
            recorder.seen = {
                name: value if isinstance(value, str | dict) else type(value)
                for name, value in environ.items()
                if name in IDENTITY_KEYS or "SYSTEM_SCOPE" in name or name == "keystone.token_info"
            }
            return app(environ, start_response)

        return keep

    return wrap


FLAVORS = {
    "default": ("", {"X-Auth-Token": "good"}),
    "standalone": (
        "[paste_deploy]\nflavor = standalone\n",
        {"X-Auth-User": "alice", "X-Auth-Key": PASSWORD, "X-User-Domain-Id": "default"},
    ),
}
LINES = {
    "default": "cors request_id faultwrap versionnegotiation authurl authtoken recorder context apiv1app",
    "standalone": "cors request_id faultwrap versionnegotiation authurl authpassword recorder context apiv1app",
}


@pytest.fixture(
    scope="module", params=[(flavor, seen) for flavor in FLAVORS for seen in ("engine", "environ")], ids="-".join
)
def served(request, tmp_path_factory, identity, loop_name):
    """A worker, its client's own headers, and a function that tells what arrived below the authentication."""
    flavor, seen = request.param
    text, own = FLAVORS[flavor]
    paste = PASTE
    if seen == "environ":
        paste = edited(f"[filter:recorder]\npaste.filter_factory = {__name__}:recorder\n", LINES)
    engine = Engine()
    conf = configuration(tmp_path_factory.mktemp(flavor), token_conf(identity) + text, paste)
    worker = Worker(loaded(conf, engine), loop_name)
    own = {**own, "X-Openstack-Request-Id": "req-aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"}

    def arrived():
        if seen == "environ":
            return recorder.seen
        found = engine.calls.pop()[2]
        return {name: value for name, value in found.items() if name != "request_id"}

    yield worker, own, arrived
    worker.close()


def send(worker, headers):
    """Status of a request with these header lines, as they are."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", worker.port, timeout=TIMEOUT)) as connection:
        connection.putrequest("GET", "/v1/p1/stacks", skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        answer.read()
        return answer.status


def claims(spelling, names):
    return [
        line
        for name in names
        if name != "X-User-Domain-Id"  # an input of authpassword; on its own below
        for line in SPELLINGS[spelling](name, CLAIMS.get(name, "root"))
    ]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_all_at_once(served, spelling):
    worker, own, arrived = served
    assert send(worker, own.items()) == 200
    expected = arrived()
    # first what the client says of itself, then what it may say; and the other way round
    assert send(worker, [*claims(spelling, NAMES), *own.items()]) == 200
    assert arrived() == expected
    assert send(worker, [*own.items(), *claims(spelling, NAMES), ("OpenStack-System-Scope", "all")]) == 200
    assert arrived() == expected


def test_one_by_one(tmp_path, identity, loop_name):
    """Each name in each spelling; a token that is known by then."""
    engine = Engine()
    worker = Worker(loaded(configuration(tmp_path, token_conf(identity), PASTE), engine), loop_name)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=TIMEOUT)
        expected = None
        for spelling, name in [("as documented", "X-Unknown"), *itertools.product(SPELLINGS, NAMES)]:
            connection.putrequest("GET", "/v1/p1/stacks", skip_accept_encoding=True)
            for line in [("X-Auth-Token", "good"), *SPELLINGS[spelling](name, CLAIMS.get(name, "root"))]:
                connection.putheader(*line)
            connection.endheaders()
            answer = connection.getresponse()
            answer.read()
            found = engine.calls.pop()[2]
            found.pop("request_id")
            expected = expected or found
            assert (answer.status, found) == (200, expected), (spelling, name)
        connection.close()
        assert identity.subjects.count("good") <= 1 + len(loops.LOOPS) * 3
    finally:
        worker.close()


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_claims_are_no_authentication(served, spelling):
    worker, _own, _arrived = served
    assert send(worker, [*claims(spelling, NAMES), ("X-Auth-Token", "unknown")]) in (401, 500)
    assert send(worker, claims(spelling, NAMES)) in (401, 500)  # 500: upstream's answer to a missing password


@pytest.mark.parametrize("stations", ["", "[heatperf]\nstock_filters = all\n"], ids=["lean", "stock"])
def test_no_scope_without_a_token(tmp_path, identity, stations):
    """With delay_auth_decision they go on, as nobody; keystonemiddleware leaves them the scope they claim."""
    text = token_conf(identity, "delay_auth_decision = true\n") + stations
    paste = edited(f"[filter:recorder]\npaste.filter_factory = {__name__}:recorder\n", {"default": LINES["default"]})
    with running(tmp_path, text, paste) as worker:
        for own in ([], [("X-Auth-Token", "unknown")], [("X-Auth-Token", "good"), ("X-Service-Token", "pretender")]):
            recorder.seen = None
            assert send(worker, [*own, ("OpenStack-System-Scope", "all")]) in (200, 403)
            assert recorder.seen.get("HTTP_OPENSTACK_SYSTEM_SCOPE") in (None, type(None))
        assert send(worker, [("X-Auth-Token", "system"), ("OpenStack-System-Scope", "none")]) == 403
        assert recorder.seen["HTTP_OPENSTACK_SYSTEM_SCOPE"] == "all"


def test_names_with_spaces_are_refused(served):
    worker, own, _arrived = served
    lines = b"".join(b"%s: %s\r\n" % (name.encode(), value.encode()) for name, value in own.items())
    for bad in (b"X-Roles : admin", b" X-Roles: admin", b"X-\xffRoles: admin"):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", worker.port, timeout=TIMEOUT)) as connection:
            connection.connect()
            connection.sock.sendall(b"GET /v1/p1/stacks HTTP/1.1\r\nHost: h\r\n" + bad + b"\r\n" + lines + b"\r\n")
            answer = http.client.HTTPResponse(connection.sock, method="GET")
            answer.begin()
            assert answer.status == 400


def test_query_and_form_say_nothing(served):
    worker, own, arrived = served
    assert send(worker, own.items()) == 200
    expected = arrived()
    query = "X-Roles=admin&HTTP_X_ROLES=admin&X-Is-Admin-Project=True"
    assert worker.request("GET", f"/v1/p1/stacks?{query}", own).status == 200
    assert arrived() == expected


def test_pipelines_that_trust_their_callers(tmp_path):
    """What upstream's do, so that nobody takes them for more: their callers are who they say."""
    engine = Engine()
    with running(tmp_path, OPEN, PASTE, engine) as worker:
        headers = {"X-Auth-User": "u", "X-Auth-Project": "p", "X-User-Domain-Id": "d", "X-Roles": "nobody"}
        assert worker.request("GET", "/v1/p/stacks", headers).status == 200
        found = engine.calls.pop()[2]
        assert (found["user"], found["project_id"], found["user_domain"]) == ("u", "p", "d")
        assert found["roles"] == ["admin"]

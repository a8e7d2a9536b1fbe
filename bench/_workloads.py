"""What is asked of the servers under comparison. Data only; _load.py sends it, _results.py and _report.py name it.

To add one, append a Workload to the group of the phase that shall drive it.
"""

from dataclasses import dataclass

from _paced import UNIQUE
from _rpc_data import STACK_NAME, create_body, identity

#: Sent by every client to every server: answers that name their host then come out the same everywhere.
HOST = "heat.example:8004"


@dataclass(frozen=True)
class Workload:
    """One request, sent again and again.

    :param key: its name in results; never changed once results are kept
    :param name: its name for readers
    :param path: ``{project}`` stands for the id of the ordinary user's project
    :param status: of the right answer. The right body is what upstream answers
    :param authenticated: whether to send the ordinary user's token, which the server has seen before
    :param why: what it shows
    :param count: send so many per round instead of as many as fit into its time: for requests that take long
    :param connections: instead of the plan's
    :param scarce: takes so long that only upstream's first server and heatperf get it, in so many rounds at most
    :param same: whether answers to equal requests are equal, byte by byte; otherwise only the status is compared
    :param large: needs servers whose limits for templates and bodies are raised
    :param mix: (key of another workload, how often in a turn); the rest of the fields is then for readers
    """

    key: str
    name: str
    path: str
    status: int
    why: str
    method: str = "GET"
    body: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    authenticated: bool = True
    count: int | None = None
    connections: int | None = None
    scarce: int = 0
    same: bool = True
    large: bool = False
    mix: tuple[tuple[str, int], ...] = ()


#: None of these reaches an engine: what the API server itself costs is all there is to see.
HTTP = (
    Workload(
        "version",
        "version document",
        "/",
        300,
        "what load balancers ask every few seconds, and the shortest way through the pipeline",
        authenticated=False,
    ),
    Workload(
        "notfound",
        "authenticated 404",
        "/v1/{project}/nosuch",
        404,
        "the whole pipeline up to the router: token, context, routing",
    ),
    Workload(
        "options",
        "OPTIONS",
        "/v1/{project}/stacks",
        204,
        "the same, and a route that answers without a policy",
        method="OPTIONS",
    ),
    Workload(
        "denied",
        "policy-denied 403",
        "/v1/{project}/services",
        403,
        "the same, and a policy rule that says no to an ordinary user",
    ),
    Workload(
        "unauthorized",
        "missing token 401",
        "/v1/{project}/stacks",
        401,
        "what a client without a token, or a scanner, costs",
        authenticated=False,
    ),
    Workload(
        "malformed",
        "malformed body 400",
        "/v1/{project}/stacks",
        400,
        "a body is read, parsed and refused",
        method="POST",
        body='{"stack_name": "s1", "template": {"heat_template_version": ',
        headers=(("Content-Type", "application/json"),),
    ),
    Workload(
        "notfound-close",
        "authenticated 404, new connection each",
        "/v1/{project}/nosuch",
        404,
        "clients that keep no connection: the openstack command, each run of it",
        headers=(("Connection", "close"),),
    ),
)

_JSON = (("Content-Type", "application/json"),)
_LIST = "/v1/{project}/stacks"
_SHOW = "/v1/{project}/stacks/" + STACK_NAME + "/" + identity("")["stack_id"]


def _create(
    key: str, size: int, shown: str, why: str, count: int | None = None, connections: int = 4, large: bool = False
) -> Workload:
    body = create_body(size)
    return Workload(
        key, f"stack create, {shown}", _LIST, 201, why, "POST", body, _JSON, count=count,
        connections=None if count is None else connections, large=large,
    )  # fmt: skip


#: With the fast responder as engine: the API server and its RPC client are all there is to see.
RPC = (
    Workload("rpc-build", "build info", "/v1/{project}/build_info", 200, "the smallest call: eight bytes come back"),
    Workload("rpc-list-1", "stack list of 1", _LIST, 200, "what the bars speak of: one call, one row"),
    Workload("rpc-list-100", "stack list of 100", _LIST + "?limit=100", 200, "a page of a dashboard", count=120),
    Workload(
        "rpc-list-10000",
        "stack list of 10 000",
        _LIST + "?limit=10000",
        200,
        "6 MB of JSON in JSON to be read and 5 MB to be written",
        count=6,
        connections=2,
    ),
    Workload("rpc-show", "stack show", _SHOW, 200, "one stack with parameters and outputs"),
    _create("rpc-create-1k", 1_000, "1 kB", "a body, a policy, a call with a template"),
    _create("rpc-create-60k", 60_000, "60 kB", "a template of 360 resources", 80, 8),
    _create("rpc-create-450k", 450_000, "450 kB", "nearly as large as max_template_size lets it be by default", 20),
    _create("rpc-create-2m", 2_000_000, "2 MB", "with max_template_size and max_json_body_size raised", 8, large=True),
    Workload(
        "rpc-mixed",
        "mixed",
        _LIST,
        200,
        "of ten requests 4 are lists of 1, 3 shows, 1 a list of 100, 1 a create of 1 kB, 1 build info",
        mix=(("rpc-list-1", 4), ("rpc-show", 3), ("rpc-list-100", 1), ("rpc-create-1k", 1), ("rpc-build", 1)),
    ),
)


def _real_create(key: str, size: int, shown: str) -> Workload:
    # Nothing to be made, so that the engine is soon done with it.
    body = create_body(size, f"{STACK_NAME}-{UNIQUE.decode()}", spread=False)
    return Workload(
        key, f"stack create, {shown}", _LIST, 201, "a stack of one resource that is nothing", "POST", body, _JSON,
        count=4, connections=4, scarce=2, same=False,
    )  # fmt: skip


#: With a stock heat-engine and its database.
ENGINE = (
    Workload(
        "engine-build",
        "build info",
        "/v1/{project}/build_info",
        200,
        "an engine that has nothing to look up",
        count=240,
        connections=8,
    ),
    Workload(
        "engine-list-1",
        "stack list of 1",
        _LIST + "?limit=1",
        200,
        "the engine asks its database",
        count=80,
        connections=8,
    ),
    Workload("engine-list-100", "stack list of 100", _LIST + "?limit=100", 200, "the same", count=20, connections=4),
    Workload(
        "engine-list-10000",
        "stack list of 10 000",
        _LIST + "?limit=10000",
        200,
        "the same; an engine takes seconds for it",
        count=1,
        connections=1,
        scarce=1,
    ),
    Workload("engine-show", "stack show", "", 200, "the engine loads a stack", count=48, connections=8),
    _real_create("engine-create-1k", 1_000, "1 kB"),
    _real_create("engine-create-60k", 60_000, "60 kB"),
    _real_create("engine-create-450k", 450_000, "450 kB"),
)

WORKLOADS = (*HTTP, *RPC, *ENGINE)
BY_KEY = {workload.key: workload for workload in WORKLOADS}

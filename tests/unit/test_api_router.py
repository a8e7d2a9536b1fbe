"""The router against upstream's own mapper, over paths and methods that nobody would write by hand."""

import io
import itertools
import json
import random
import subprocess
from typing import Any

import pytest
from oslo_config import cfg
from pipeline_rig import running
from stack import paths

from heatperf.api.controller import Services
from heatperf.api.router import Router
from heatperf.api.routes import ROUTES
from heatperf.config.load import parse

# Runs in upstream's environment: answers each request with controller, action and path variables, or the exception.
UPSTREAM = """
import io, json, sys
from oslo_config import cfg
from heat.common import messaging
from heat.api.openstack import v1
from routes import middleware
cfg.CONF([], project="heat", prog="heat-api", default_config_files=[])
messaging.setup("fake://")
api = v1.API(cfg.CONF)

def answer(environ):
    environ["wsgi.input"] = io.BytesIO(environ.pop("body").encode("latin-1"))
    found = {}
    def application(environ, start_response):
        found.update(environ["wsgiorg.routing_args"][1])
        found["seen method"] = environ["REQUEST_METHOD"]
        return []
    try:
        middleware.RoutesMiddleware(application, api.map)(environ, None)
    except Exception as error:
        return {"raises": type(error).__name__}
    if "controller" in found:
        found["controller"] = type(found["controller"].controller).__name__
    return found

json.dump([answer(environ) for environ in json.load(sys.stdin)], sys.stdout)
"""

CONTROLLERS = {
    "actions": "ActionController",
    "build_info": "BuildInfoController",
    "default": "DefaultMethodController",
    "events": "EventController",
    "resources": "ResourceController",
    "services": "ServiceController",
    "software_configs": "SoftwareConfigController",
    "software_deployments": "SoftwareDeploymentController",
    "stack_parts": "StackController",
    "stacks": "StackController",
    "templates": "StackController",
}
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
ODD_METHODS = ["GE", "POS", "ET,", "get", "Post", "TRACE", "CONNECT", "PROPFIND", "E", ",", "", "OPTION", "PUT,PATCH"]
# What a path variable may hold; PATH_INFO is percent-decoded and latin-1 by then.
VALUES = [
    "p1",
    "name",
    "7b7d9a5c-1d43-4d0e-9c06-000000000000",
    "arn:openstack:heat::p1:stacks/s/1",
    "ARN:x",
    "detail",
    "preview",
    "a b",
    "a%2Fb",  # encoded twice: one slash left over
    "s\u00c3\u00a9",  # UTF-8 seen as latin-1
    "\u00ff\u00fe",  # no UTF-8 at all
    "x.json",
    "x.xml",
    "a.b.c",
    "{x}",
    "..",
    ":x",
    "a;b",
    "",
]


def environ(method: str, path: str, query: str = "", content_type: str = "", body: str = "") -> dict[str, Any]:
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "/v1",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(len(body)),
        "SERVER_NAME": "h",
        "SERVER_PORT": "1",
        "wsgi.url_scheme": "http",
        "body": body,
    }


def templates() -> list[str]:
    """The path patterns of our table, each variable as {}."""
    found = []
    for group in ROUTES:
        for route in group.routes:
            pattern, path = group.prefix + route.path, ""
            while "{" in pattern:
                before, _, rest = pattern.partition("{")
                path += before + "{}"
                pattern = rest.partition("}")[2]
            found.append(path + pattern)
    return sorted(set(found))


def cases() -> list[dict[str, Any]]:
    dice = random.Random(20)
    made = []
    for template, method in itertools.product(templates(), METHODS):
        made.append(environ(method, template.format(*["v"] * template.count("{}"))))
    for template in templates():
        for _ in range(12):
            path = template.format(*(dice.choice(VALUES) for _ in range(template.count("{}"))))
            path = dice.choice([path, path, path, path + "/", path + ".json", path + "//", "/" + path, path + "/more"])
            made.append(environ(dice.choice(METHODS * 3 + ODD_METHODS), path))
    subpaths = ["resources", "events", "template", "actions", "environment", "files", "outputs", "RESOURCES", "x"]
    for subpath, method in itertools.product(subpaths, ["GET", "POST", "PUT"]):
        made.append(environ(method, f"/p1/stacks/arn:openstack:heat::p1:stacks/s/1/{subpath}"))
        made.append(environ(method, f"/p1/stacks/s/{subpath}"))
    for path in ("", "/", "//", "/p1", "/p1/", "/p1/stacks/", "/p1/stacks//", "*", "p1/stacks", "/p1/stacks\n"):
        made += [environ(method, path) for method in ("GET", "OPTIONS", "")]
    form = "application/x-www-form-urlencoded"
    for query in ("_method=delete", "_method=GET", "_method=", "x_method=put", "_method=%ff", "a=1&_method=PATCH"):
        made.append(environ("GET", "/p1/stacks/s/1", query))
        made.append(environ("POST", "/p1/stacks/s/1", query, form, "_method=put"))
        made.append(environ("POST", "/p1/stacks/s/1", "", form, query))
        made.append(environ("POST", "/p1/stacks/s/1", "", form.upper() + "; charset=utf-8", query))
        made.append(environ("POST", "/p1/stacks/s/1", "", "application/json", query))
        made.append(environ("PUT", "/p1/stacks/s/1", "", form, query))
    return made


@pytest.fixture(scope="module")
def upstream() -> list[dict[str, Any]]:
    python = paths.peer(paths.HEAT_PEER, "python")
    done = subprocess.run(
        [python, "-W", "ignore", "-c", UPSTREAM], input=json.dumps(cases()), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def router() -> Router:
    conf = cfg.ConfigOpts()
    parse(conf, [], development=True)
    return Router(Services(conf, None, None))


def compiled(router: Router, given: dict[str, Any]) -> dict[str, Any] | None:
    """The route that the compiled table finds, or the Mapper where the table leaves it the answer."""
    try:
        found = router.find(given)
    except LookupError:
        return router.match(given)
    if found is None:
        return None
    target, variables = found
    return {**variables, **target.constants, "controller": target.controller, "action": target.action}


def ours(router: Router, case: dict[str, Any]) -> dict[str, Any]:
    """Our router's answer in the form of UPSTREAM's."""
    given = {**case, "wsgi.input": io.BytesIO(case["body"].encode("latin-1"))}
    del given["body"]
    try:
        matched = compiled(router, given)
    except Exception as error:
        return {"raises": type(error).__name__}
    found = {"seen method": given["REQUEST_METHOD"]}
    if matched is not None:
        found |= matched
        found["controller"] = CONTROLLERS[matched["controller"]]
        found["action"] = matched["action"].__name__.lstrip("_")
    return found


def test_every_case_is_routed_as_upstream_routes_it(upstream, router):
    given = cases()
    assert len(given) == len(upstream) > 600
    different = [
        (case["REQUEST_METHOD"], case["PATH_INFO"], case["QUERY_STRING"], case["body"], theirs, mine)
        for case, theirs in zip(given, upstream, strict=True)
        if (mine := ours(router, case)) != theirs
    ]
    assert not different, "\n".join(map(str, different[:10]))


def test_the_cases_reach_every_action(upstream):
    """Else the comparison above would say little."""
    reached = {(found["controller"], found["action"]) for found in upstream if "controller" in found}
    table = {(CONTROLLERS[route.controller], route.action) for group in ROUTES for route in group.routes}
    assert table <= reached
    assert {("DefaultMethodController", "reject"), ("DefaultMethodController", "options")} <= reached
    assert any("controller" not in found and "raises" not in found for found in upstream)


def test_routing_args_hold_the_path_only(tmp_path):
    """What a filter reads in wsgiorg.routing_args is the route's, not the body of the request."""
    with running(tmp_path) as worker:
        seen = []
        inner = worker.pipeline.wsgi

        def spy(environ, start_response):
            try:
                return inner(environ, start_response)
            finally:
                seen.append(environ["wsgiorg.routing_args"][1])

        worker.pipeline.wsgi = spy
        worker.request("POST", "/v1/admin/stacks/s/1/actions", body={"suspend": None})
    assert seen == [{"tenant_id": "admin", "stack_name": "s", "stack_id": "1"}]

"""Strategies for whole requests, and seeded batches of them.

A request is a case of the recorded corpus: method, path with query, headers, body. What is drawn is mostly right, with
one thing or another wrong, since a request that is wrong everywhere only shows which check comes first.
"""

import base64
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Any

from hypothesis import strategies as st
from hypothesis.control import BuildContext
from hypothesis.errors import StopTest
from hypothesis.internal.conjecture.data import ConjectureData

from heatperf.api.routes import ROUTES

from .bodies import bodies
from .policies import POLICIES

SID = "c8a19429-7fde-47ea-a42f-40045488226c"
P1 = "1" * 32
_TENANTS = ("admin", P1, "2" * 32, "5" * 32, "a" * 32, "other", "é", "shape-empty", "fail-NotFound")
#: token -> project, of upstream/fake_keystone.py
_TOKENS = {
    **dict.fromkeys(("tok-member", "tok-manager", "tok-reader", "tok-admin-only", "tok-none", "tok-empty"), P1),
    **dict.fromkeys(("tok-member-only", "tok-service-p1", "tok-stackuser", "tok-stackowner", "tok-upper"), P1),
    **dict.fromkeys(("tok-stackuser-member", "tok-admin-notproj", "tok-admin-proj", "tok-unicode", "tok-trust"), P1),
    **dict.fromkeys(("tok-nocatalog", "tok-expired", "tok-domain", "tok-system", "tok-system-reader"), P1),
    **dict.fromkeys(("tok-unscoped", "nobody", "", "tok-ks401", "tok-ks403", "é"), P1),
    "tok-member-p2": "2" * 32,
    "tok-admin": "a" * 32,
    "tok-service": "5" * 32,
}
_FAILURES = [
    *("EntityNotFound", "StackExists", "ActionInProgress", "NotSupported", "RequestLimitExceeded", "Invalid"),
    *("StackValidationFailed", "Forbidden", "ForbiddenAction", "NotFound", "ValueError", "KeyError", "TypeError"),
    *("AttributeError", "Weird", "WeirdMultiline", "EntityNotFoundUnicode", "EntityNotFoundMultiline", "RuntimeError"),
    *("EntityNotFoundPercent", "UnsupportedVersion", "NoSuchMethod", "DBError", "UnicodeError", "OSError"),
    *("ActionNotComplete", "ResourceNotFound", "SnapshotNotFound", "StackValidationFailedMsg", "NotAuthenticated"),
    *("HTTPExceptionDisguise", "WebobNotFound", "HeatExceptionBadFormat", "UnknownHeatClass", "ValueErrorEmpty"),
    *("ValueErrorMultiline", "NotFoundPositional", "NotFoundKeyword", "PermissionError", "TimeoutError", "Exception"),
    *("ImmutableParameterModified", "PhysicalResourceNameAmbiguity", "StopActionFailed", "ConcurrentTransaction"),
    *("DownloadLimitExceeded", "ResourceTypeUnavailable", "UserParameterMissing", "InvalidTenant", "Error"),
]
_SHAPES = ["none", "empty", "uni", "slash", "path", "othertenant", "full", "noaction", "error", "str", "float", "two"]
_SHAPES += ["updating", "root", "nested", "nometa"]
_PATH_TEXTS = st.one_of(
    st.sampled_from(["demo", "x", SID, "1", "detail", "preview", "metadata", "fail-StackExists", "a.b", "a.json"]),
    st.sampled_from([f"fail-{name}" for name in _FAILURES] + [f"shape-{name}" for name in _SHAPES]),
    st.sampled_from(
        [
            *("%C3%A9", "%e9", "%ff", "%00", "%20", "a%2Fb", "a%252Fb", "a+b", "a;b", "a:b", "a=b", "a,b", "a%25"),
            *("~x", "a'b", "a(b)", "{x}", "%7Bx%7D", "a%3Fb", "a%23b", "%0A", "...", "a..", "$x", "a@b", "*", "|"),
            *["é"] * 3,
            *("..", ".", "%2e%2e", "%", "%zz", "日本", "None", "null", "true", "x" * 300, "arn", "%5Cx", "^", "`"),
            *('"', "%22", "[1]", "<b>", "%25s"),
        ]
    ),
    st.sampled_from(
        [
            f"arn:openstack:heat::admin:stacks/demo/{SID}",
            f"arn:openstack:heat::{P1}:stacks/demo/1/resources/r",
            f"arn%3Aopenstack%3Aheat%3A%3Aadmin%3Astacks%2Fdemo%2F{SID}",
            *("arn:openstack:heat::t%20x:stacks/d%2520e/1", "arn:openstack:heat::t:stacks/demo", "arn:x", "arn:"),
            *("ARN:openstack:heat::admin:stacks/demo/1", "arn:aws:heat::t:stacks/a/b", "arn:openstack:heat::t:x/a/b"),
            *("arn:openstack:heat::%C3%A9:stacks/%C3%A9/1", "arn:openstack:heat:::stacks/a/b", "arn:openstack:heat"),
        ]
    ),
)
_PARAMETERS = [
    *("limit", "marker", "sort_dir", "sort_keys", "show_deleted", "show_nested", "show_hidden", "with_count"),
    *("global_tenant", "tags", "tags_any", "not_tags", "not_tags_any", "id", "status", "name", "action", "tenant"),
    *("username", "owner_id", "stack_name", "stack_status", "nested_depth", "with_detail", "with_attr", "type"),
    *("resource_name", "resource_status", "resource_action", "resource_type", "physical_resource_id", "server_id"),
    *("resolve_outputs", "ignore_errors", "with_description", "with_condition_func", "template_type", "version"),
    *("support_status", "ContentType", "_method", "x", "", "é", "%C3%A9", "%ff", "limit%20", "Limit", "format"),
    *("controller", "body", "tenant_id", "req", "path", "dry_run", "converge", "self", "identity", "request"),
]
_LISTING = ["limit", "marker", "sort_dir", "sort_keys", "show_deleted", "show_nested", "show_hidden", "with_count"]
_LISTING += ["global_tenant", "tags", "tags_any", "not_tags", "not_tags_any", "id", "status", "name", "tenant"]
#: The parameters that a route reads, drawn more often than others.
_READ = {
    "stack_index": _LISTING,
    "stack_detail": _LISTING,
    "stack_lookup": ["a", "b", "x", "with_attr"],
    "stack_lookup_subpath": ["a", "b", "x", "with_attr"],
    "resource_index": ["nested_depth", "with_detail", "type", "status", "name", "action", "id", "physical_resource_id"],
    "resource_show": ["with_attr"],
    "stack_show": ["resolve_outputs"],
    "template_validate": ["show_nested", "ignore_errors"],
    "preview_stack_update": ["show_nested"],
    "preview_stack_update_patch": ["show_nested"],
    "resource_types": ["support_status", "name", "version", "with_description"],
    "resource_schema": ["with_description"],
    "generate_template": ["template_type"],
    "template_functions": ["with_condition_func"],
    "event_index_stack": [
        *("limit", "marker", "sort_dir", "sort_keys", "nested_depth", "resource_name", "resource_status"),
    ],
    "event_index_resource": ["limit", "sort_keys", "nested_depth", "resource_name", "resource_type", "resource_action"],
    "software_config_index": ["limit", "marker", "global_tenant"],
    "software_deployment_index": ["server_id"],
}
_QUERY_VALUES = st.sampled_from(
    [
        *("1", "2", "0", "-1", "01", "+1", "%2B1", "1.0", "abc", "", "true", "false", "True", "FALSE", "yes", "1%20"),
        *("99999999999999999999", "%C3%A9", "%e9", "%ff", "a,b", "a%2Cb", ",", "x" * 90, "shape-empty", "cfn", "HOT"),
        *("fail-ValueError", "demo", SID, "%00", "a+b", "a%20b", "asc", "desc", "é", "%", "%zz", "a=b", "%26", "a;b"),
        *("GET", "put", "DELETE", "OPTIONS", "HEAD", "application/json", "JSON", "text/plain", "None", "%D9%A1", "1_0"),
        *("CREATE_COMPLETE", "%F0%9F%94%A5", "%22", "%3Cb%3E", "%0A", "0x1", "1e1", "%EF%BC%91", "true%20", "t"),
    ]
)
_CONTENT_TYPES = st.sampled_from(
    [
        *["application/json"] * 70,
        *("JSON", "text/plain", "text/plain; charset=utf-8", "application/json; charset=latin-1", "application/xml"),
        *("application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "APPLICATION/JSON", "text/html", ""),
        *("application/jsonx", "application/json;", "text/plainer", "multipart/form-data", "a", "application/json, x"),
        *("application/xml; charset=utf-8", "application/yaml", " application/json", ";", "application/octet-stream"),
    ]
)
_ACCEPTS = st.sampled_from(
    [
        *["application/json"] * 20,
        *("*/*", "text/html", "text/plain", "application/xml", "", "x", "application/json;q=0.1, text/html", "text/*"),
        *("application/vnd.openstack.orchestration-v1", "application/vnd.openstack.orchestration-v2", ", ,", "*"),
        *("application/vnd.openstack.orchestration-", "application/vnd.openstack.orchestration-x", "text/html;q=0"),
        *("application/json;q=x", "image/png", "application/vnd.openstack.orchestration-v1.0+json", "application/*"),
    ]
)
_IDENTITY = (
    *("X-Roles", "X-Role", "X-User-Id", "X-User-Name", "X-Project-Id", "X-Project-Name", "X-Tenant-Id"),
    *("X-Tenant", "X-Tenant-Name", "X-User-Domain-Id", "X-User-Domain-Name", "X-Project-Domain-Id"),
    *("X-Domain-Id", "X-Is-Admin-Project", "X-Identity-Status", "X-Service-Catalog", "X-Auth-User"),
    *("X-Auth-Key", "X-Auth-Url", "X-Auth-EC2-Creds", "X-Region-Name", "X-System-Scope"),
    *("Openstack-System-Scope", "X-Trust-Id", "X-User", "X-Service-Roles", "X-Service-Identity-Status"),
    *("X-Service-User-Id", "X-Service-Project-Id", "X-Storage-Token", "X-Service-Token"),
    *("X-Project-Domain-Name", "X-Domain-Name", "X-Auth-Project", "X-Service-User-Name"),
    *("X-Service-User-Domain-Id", "X-Service-Project-Name", "X-Global-Request-Id"),
)
_TEXTS = st.sampled_from(
    ["admin", "member", "True", "False", "", "x", "alice", "é", "[]", "{}", "null", "Confirmed", "admin,member", P1]
    + ["http://127.0.0.1:9/v3", "all", "tok-member", "tok-service", "0", "a\tb", "a b", "fail-NotFound", '{"a":1}']
)
_OTHERS: dict[str, Any] = {
    "X-Forwarded-Proto": st.sampled_from(["https"] * 4 + ["http", "http", "", "x", "HTTPS", "https, http"]),
    "X-Forwarded-Host": st.sampled_from(["pub.example.test", "pub.example.test:1", "a, b", ""]),
    "X-Forwarded-For": st.sampled_from(["192.0.2.1", "192.0.2.1, 10.0.0.1", "x"]),
    "X-Forwarded-Port": st.sampled_from(["443", "x", ""]),
    "X-Forwarded-Prefix": st.sampled_from(["/heat", "heat/", "/", ""]),
    "X-Forwarded-SSL": st.sampled_from(["on", "off"]),
    "Forwarded": st.sampled_from(["for=192.0.2.1;proto=https;host=pub.example.test", "proto=http", "x", 'host="a"']),
    "X-Script-Name": st.just("/s"),
    "Origin": st.sampled_from(["https://horizon.example.test", "http://localhost:8080", "null", "", "*", "x"]),
    "Access-Control-Request-Method": st.sampled_from(["GET", "PUT", "get", "", "X"]),
    "Access-Control-Request-Headers": st.sampled_from(["X-Auth-Token", "x-custom, x-y", "", ","]),
    "X-Openstack-Request-Id": st.sampled_from([f"req-{SID}", "req-x", "", SID, f"req-{SID}" * 2, "é"]),
    "X-Trace-Info": st.sampled_from(["e30=", "x", ""]),
    "X-Trace-HMAC": st.sampled_from(["0" * 40, "x", ""]),
    "Accept-Language": st.sampled_from(["de", "*", "xx;q=1", "en, de;q=0.5", ""]),
    "Host": st.sampled_from(["heat.example.test", "heat.example.test:80", "heat.example.test:443", "[::1]:8004", "a"]),
    "Cookie": st.just("a=b"),
    "If-None-Match": st.just("*"),
    "Range": st.just("bytes=0-1"),
    "User-Agent": st.sampled_from(["x", "é"]),
    "Authorization": st.just("Basic eDp5"),
    "X-HTTP-Method-Override": st.just("DELETE"),
    "X-Auth-Token": st.sampled_from(sorted(_TOKENS)),
}
#: Headers that mean something together.
_TOGETHER = (
    ("Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"),
    ("Origin", "Access-Control-Request-Method"),
    ("X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-For", "X-Forwarded-Prefix"),
    ("X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"),
    ("X-Trace-Info", "X-Trace-HMAC"),
)
_METHODS = ("GET", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "GE", "FOO", "get", "TRACE")
_PREFIXES = st.sampled_from(
    [
        *["/v1"] * 150,
        *("/v1.0", "/v01", "/v1x", "/v2", "", "/V1", "/v1.1", "/v0", "//v1", "/v", "/v1.", "/versions", "/v11"),
        *("/v1/v1", "/v1//", "/%761", "/v1.00", "/vé"),
    ]
)
_KINDS = {
    **dict.fromkeys(
        ("stack_create", "stack_preview", "stack_update", "stack_update_patch", "template_validate"), "stack"
    ),
    **dict.fromkeys(("preview_stack_update", "preview_stack_update_patch"), "stack"),
    **dict.fromkeys(("software_deployment_create", "software_deployment_update"), "deployment"),
    "action_stack": "action",
    "software_config_create": "config",
    "stack_snapshot": "snapshot",
    "resource_mark_unhealthy": "unhealthy",
    "resource_signal": "any",
}
#: Name, methods and path of every route; those that take a body, and the listings, more often.
_ROUTES = st.sampled_from(
    [
        (route.name, route.methods, group.prefix + route.path)
        for group in ROUTES
        for route in group.routes
        for _ in range(
            8 if _KINDS.get(route.name) == "stack" else 3 if route.name in _KINDS or route.name in _READ else 1
        )
    ]
)
_OUTSIDE = st.sampled_from(
    [
        *("/", "/healthcheck", "/healthcheck/", "/versions", "/v1", "/v1/", "/v1/admin", "/v1/admin/", "/foo"),
        *("/healthcheck/x", "//", "/v1/admin/stacks/", "/v1/admin//stacks", "/v1/admin/stack", "/?x", "/v1/admin/foo"),
    ]
)


# Strategies are kept, not made for every draw: making and checking one takes longer than drawing from it.
@cache
def _below(bound: int) -> Any:
    return st.integers(0, bound - 1)


@cache
def _one_of(values: tuple[Any, ...]) -> Any:
    return st.sampled_from(values)


@cache
def _some_of(values: tuple[Any, ...], most: int) -> Any:
    return st.lists(_one_of(values), max_size=most, unique=True)


def _often(draw: Any, of: int) -> bool:
    """True in all but one of so many."""
    return bool(draw(_below(of)))


@cache
@st.composite
def _paths(draw: Any, template: str, tenant: str) -> str:
    path = draw(_PREFIXES)
    for segment in template.split("/")[1:]:
        if segment == "{tenant_id}":
            segment = tenant if _often(draw, 12) else draw(_one_of(_TENANTS))
        elif segment.startswith("{path:"):
            segment = draw(_one_of(tuple(segment[6:-1].split("|"))))
        elif segment.startswith("{stack_id") and _often(draw, 3):
            segment = SID
        elif segment.startswith("{"):
            segment = draw(_PATH_TEXTS) if _often(draw, 2) else "demo"
        path += "/" + segment
    slip = draw(_below(31))
    if slip == 0:
        path += draw(_one_of(("/", "//", "/x", ".json", "%20", "/.", ";a=b", "%2F")))
    elif slip == 1:
        path = path.rpartition("/")[0] or "/"
    elif slip == 2:
        at = 1 + draw(_below(max(1, len(path) - 1)))
        path = path[:at] + draw(_one_of(("/", "x", "%2F", "%41"))) + path[at:]
    return path


@cache
def _items(route: str) -> Any:
    """Items of a query, of those parameters that a route reads, or of all and some oddities."""
    item = st.tuples(st.sampled_from(_READ.get(route, _PARAMETERS)), _QUERY_VALUES).map("=".join)
    if route not in _READ:
        item |= st.sampled_from(["", "limit", "x=y=z", "=", "show_deleted", "tags"])
    return st.lists(item, min_size=1, max_size=4)


@cache
@st.composite
def _queries(draw: Any, route: str = "") -> str:
    if route not in _READ and _often(draw, 3) or not _often(draw, 3):
        return ""
    items = draw(_items(route if _often(draw, 5) else ""))
    return "?" + draw(_one_of(("&",) * 15 + (";", "&&"))).join(items)


@cache
@st.composite
def _headers(draw: Any, flavor: str, tenant: str, token: str, with_body: bool) -> list[list[str]]:
    headers = []
    if _often(draw, 10):
        headers.append(["Accept", draw(_ACCEPTS)])
    if flavor == "default":
        if _often(draw, 25):
            headers.append(["X-Auth-Token", token])
    elif tenant != "admin":
        headers.append(["X-Auth-Project", tenant])
    if with_body and _often(draw, 20) or not _often(draw, 8):
        headers.append(["Content-Type", draw(_CONTENT_TYPES)])
    others = () if _often(draw, 2) else draw(_some_of(tuple(_OTHERS), 2))
    for name in others if _often(draw, 12) else draw(_one_of(_TOGETHER)):
        if name not in [header for header, _ in headers]:
            headers.append([name, draw(_OTHERS[name])])
    for name in () if _often(draw, 3) else draw(_some_of(_IDENTITY, 2)):
        if name not in [header for header, _ in headers]:
            headers.append([name, draw(_TEXTS)])
    return headers


@cache
@st.composite
def requests(draw: Any, flavor: str) -> dict[str, Any]:
    """Requests for a flavor of the pipeline (noauth, default), as cases without an id."""
    token = draw(_one_of(("tok-member", "tok-admin", "tok-admin") * 30 + tuple(_TOKENS)))
    if flavor == "default":
        tenant = _TOKENS[token]
    else:
        tenant = draw(_one_of(("admin",) * 20 + _TENANTS))
    name, methods, template = draw(_ROUTES)
    method = draw(_one_of(methods if _often(draw, 14) else _METHODS))
    if _often(draw, 40):
        path = draw(_paths(template, tenant)) + draw(_queries(name))
    else:
        path = draw(_OUTSIDE) + draw(_queries())
    body = None
    if name in _KINDS or not _often(draw, 12):
        body = draw(bodies(_KINDS.get(name, "any")))
    case = {"method": method, "path": path, "headers": draw(_headers(flavor, tenant, token, body is not None))}
    return with_body(case, body)


def with_body(case: dict[str, Any], body: bytes | None) -> dict[str, Any]:
    """The case with another body, as text where it is text."""
    case = {key: value for key, value in case.items() if key not in ("body", "body_b64")}
    if body is not None:
        try:
            case["body"] = body.decode()
        except UnicodeDecodeError:
            case["body_b64"] = base64.b64encode(body).decode()
    return case


def batches(flavor: str, seed: str, size: int) -> Iterator[tuple[dict[str, str], list[dict[str, Any]]]]:
    """Batches without end: a policy file's rules (none in the first) and requests; the same ones for the same seed.

    A batch is drawn whole, before the first is sent.
    """
    number = 0
    while True:
        drawn = draw_many(requests(flavor), size, f"{seed} {number}")
        policy = draw_many(POLICIES, 1, f"{seed} {number}")[0] if number % 3 == 2 else {}
        yield policy, drawn
        number += 1


def draw_many(strategy: Any, count: int, seed: str) -> list[Any]:
    """Values of a strategy, always the same for the same seed.

    Drawn straight from Hypothesis' source of choices: its engine looks for failures by varying one example in small
    steps, which takes ten times as long here and asks the same thing over and over.
    """
    source = Random(seed)
    found: list[Any] = []
    while len(found) < count:
        try:
            data = ConjectureData(random=source)
            with BuildContext(data, wrapped_test=draw_many):
                found.append(data.draw(strategy))
        except StopTest:  # it grew too large
            continue
    return found

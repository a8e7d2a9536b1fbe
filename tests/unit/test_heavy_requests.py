"""Requests with large bodies through the whole pipeline: a helper changes nothing that clients or engines can see."""

import json
import os
import tempfile

import pytest
from helper_rig import Helper
from pipeline_rig import OPEN, Engine, Worker, configuration

from heatperf import jsontext
from heatperf.helper.client import Helpers
from heatperf.jsontext import Encoded
from heatperf.pipeline import deploy
from heatperf.pipeline.parts import Parts
from heatperf.policy import Policy
from heatperf.rpc import envelope
from heatperf.rpc.client import EngineClient
from heatperf.rpc.raw import RawReply

IDENTITY = {"tenant": "admin", "stack_name": "s", "stack_id": "1", "path": ""}
SMALL_LIMITS = "[DEFAULT]\nmax_template_size = 200000\n"


class Taking(Engine):
    """A transport that takes parts of messages as they are."""

    takes_encoded = True

    def __init__(self, answer):
        super().__init__(answer)
        self.encoded = []

    def call(self, context, method, arguments, version, timeout=None):
        self.encoded.append({name for name, value in arguments.items() if isinstance(value, Encoded)})
        return super().call(context, method, jsontext.decoded(arguments), version, timeout)


def answer(method, _arguments, _context):
    return IDENTITY if method == "create_stack" else {}


@pytest.fixture(scope="module")
def helper():
    with tempfile.TemporaryDirectory() as folder:
        found = Helper(os.path.join(folder, "s"), tasks="api")
        yield found
        found.kill()


@pytest.fixture
def serving(tmp_path, helper):
    """Start a worker with this engine, and a helper or none."""
    workers = []

    def start(engine, helpers=True, path=None):
        (tmp_path / "policy.yaml").write_text('"stacks:global_index": "@"')
        conf = configuration(tmp_path, f"{OPEN}policy_file = {tmp_path}/policy.yaml\n{SMALL_LIMITS}")
        parts = Parts(conf, Policy(conf), EngineClient(engine))
        parts.helpers = Helpers([path or helper.path]) if helpers else None
        workers.append(Worker(deploy.load_paste_app(parts)))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


TEMPLATE = {"heat_template_version": "2021-04-16", "resources": {f"r{n}": {"type": "é" * 20} for n in range(700)}}
YAML = "heat_template_version: 2021-04-16\nresources:\n" + "".join(f"  r{n}: {{type: é{n}}}\n" for n in range(700))
FILES = {"a.yaml": "x" * 50_000, "b": "\u2028"}
BODIES = {
    "object": {"template": TEMPLATE, "files": FILES},
    "yaml": {"template": YAML, "files": FILES, "environment": "parameters:\n" + "  {a: b}\n" + " " * 5000},
    "json text": {"template": json.dumps(TEMPLATE)},
    "numbers": {"template": {**TEMPLATE, "outputs": {"a": 10**30, "b": float("nan")}}},
    "yaml keys": {"template": YAML + "  x: {1: a, true: b}\n"},
    "adopted": {"adopt_stack_data": json.dumps({"template": TEMPLATE, "name": "x"})},
    "no version": {"template": YAML.replace("heat_template_version", "x")},
    "bad yaml": {"template": YAML + "  x: ["},
    "bad adopted": {"adopt_stack_data": "x: " + "y" * 5000},
    "too large": {"template": {**TEMPLATE, "more": "x" * 200_000}},
    "too large text": {"template": YAML + " " * 200_000},
    "ring": {"template": YAML + "  x: &a [*a]\n"},
    "environment": {"template": YAML, "environment": "parameters: {a: 1}\nbogus: 1\n" + "#" * 5000},
    "parameters": {"template": TEMPLATE, "parameters": {"a": "b"}, "environment": {"parameters": {"c": 1}}},
    "null": {"template": None, "files": FILES | {"x": "y" * 100_000}},
    "deep": {"template": {**TEMPLATE, "deep": json.loads("[" * 300 + "]" * 300)}},
}
REQUESTS = (("POST", "/validate"), ("POST", "/stacks"), ("PATCH", "/stacks/s/1"))


@pytest.mark.parametrize("name", BODIES)
def test_clients_and_engines_see_no_difference(serving, name):
    engines = [Engine(answer), Engine(answer), Taking(answer), Taking(answer)]
    workers = [serving(engine, helpers) for engine, helpers in zip(engines, (False, True, False, True), strict=True)]
    body = {"stack_name": "s", **BODIES[name]}
    for method, path in REQUESTS:
        answers = [worker.request(method, f"/v1/admin{path}", {"Host": "h"}, body) for worker in workers]
        assert len({(each.status, each.body) for each in answers}) == 1
    calls = [repr([(method, arguments) for method, arguments, _context in engine.calls]) for engine in engines]
    assert len(set(calls)) == 1
    wanted = {"object": {"template", "files"}, "yaml": {"template"}, "json text": {"template"}}
    assert set().union(*engines[3].encoded) >= wanted.get(name, set())


def test_without_its_helper_only_large_templates_are_refused(serving, tmp_path, monkeypatch):
    monkeypatch.setattr(Helpers, "CONNECT_DEADLINE", 0.2)
    worker = serving(Engine(answer), path=str(tmp_path)[:50] + "/none")
    refused = worker.request("POST", "/v1/admin/validate", {}, {"template": YAML})
    assert refused.status == 503 and refused.headers["retry-after"] == "1"
    assert worker.request("POST", "/v1/admin/validate", {}, {"template": YAML[:46] + "  a: {type: b}"}).status == 200
    assert worker.get("/v1/admin/stacks").status != 503


class Giving(Engine):
    """A transport that gives results as they come."""

    gives_raw = True

    def __init__(self, answer):
        super().__init__(answer)
        self.raw = []

    def call(self, context, method, arguments, version, timeout=None, raw_above=None):
        result = super().call(context, method, arguments, version, timeout)
        inner = json.dumps({"result": result, "failure": None, "ending": True, "_msg_id": "1f" * 16})
        body = json.dumps({"oslo.version": "2.0", "oslo.message": inner}).encode()
        assert envelope.success_of(body)
        self.raw.append(method if raw_above is not None else None)
        return RawReply(body) if raw_above is not None else json.loads(inner)["result"]


KINDS = {
    "stacks": ("stack_identity", ""),
    "resources": ("resource_identity", "/resources/r"),
    "events": ("event_identity", "/resources/r/events/5"),
}
PATHS = (
    ("stacks", "/stacks"),
    ("stacks", "/stacks?limit=60&a=b"),
    ("stacks", "/stacks?with_count=true&limit=60"),
    ("stacks", "/stacks?global_tenant=true"),
    ("stacks", "/stacks?with_count=true&global_tenant=true&marker=x"),
    ("resources", "/stacks/s/1/resources"),
    ("events", "/stacks/s/1/events"),
    ("events", "/stacks/s/1/resources/r/events"),
)


def listed(kind, number, **changes):
    """A row as Heat's engine lists it, where it is a stack."""
    field, path = KINDS[kind]
    found = {field: {**IDENTITY, "stack_id": str(number), "path": path}}
    if kind == "stacks":
        members = ("description", "stack_action", "stack_status", "stack_status_reason", "creation_time")
        found |= {"stack_name": "s"} | dict.fromkeys(members, "x")
        found |= dict.fromkeys(("updated_time", "deletion_time", "stack_owner", "parent"))
        found |= {"stack_user_project_id": "p", "tags": None}
    else:
        found |= {"stack_name": "s", "resource_name": "r", "resource_action": "CREATE", "resource_status": "FAILED"}
    return found | changes


#: What an engine may list, from its rows.
RESULTS = {
    "ordinary": lambda rows: rows,
    "nothing": lambda rows: [],
    "null": lambda rows: None,
    "a mapping": lambda rows: {"a": rows},
    "a text": lambda rows: "x",
    "no mappings": lambda rows: [*rows, 5],
    "no identity": lambda rows: [*rows[:-1], {name: rows[-1][name] for name in list(rows[-1])[1:]}],
    "a strange identity": lambda rows: [*rows, {**rows[0], next(iter(rows[0])): {"tenant": 5}}],
    "slashes": lambda rows: [*rows, {**rows[0], next(iter(rows[0])): {**IDENTITY, "stack_name": "a/b"}}],
    "no text": lambda rows: [*rows, {**rows[0], "stack_action": 5, "resource_action": 5}],
    "quotes": lambda rows: [*rows, {**rows[0], "stack_status_reason": '"a" \\ \n', "resource_status": 'é"'}],
    "NaN": lambda rows: [*rows, {**rows[0], "tags": float("nan"), "description": float("inf"), "x": float("nan")}],
    "large numbers": lambda rows: [{**row, "tags": 10**30, "physical_resource_id": "1" * 32} for row in rows],
    "surrogates": lambda rows: [*rows, {**rows[0], "description": "\ud800", "event_time": "\ud800"}],
}


@pytest.mark.parametrize("name", RESULTS)
def test_listings_are_what_they_are_in_the_worker(serving, name):
    count = 60

    def listing(method, _arguments, _context):
        if method == "count_stacks":
            return 7
        kind = {"list_stacks": "stacks", "list_events": "events"}.get(method, "resources")
        return RESULTS[name]([listed(kind, number) for number in range(count)])

    engines = [Engine(listing), Engine(listing), Giving(listing), Giving(listing)]
    workers = [serving(engine, helpers) for engine, helpers in zip(engines, (False, True, False, True), strict=True)]
    for _kind, path in PATHS:
        answers = [worker.get(f"/v1/admin{path}", Host="h") for worker in workers]
        assert len({(each.status, each.body) for each in answers}) == 1
        assert answers[0].status == 200 or name not in ("ordinary", "quotes", "large numbers", "NaN", "surrogates")
    calls = [repr([call[:2] for call in engine.calls]) for engine in engines]
    assert len(set(calls)) == 1
    # Without a helper nobody asks for bytes; with one, for those of listings alone.
    assert set(engines[2].raw) == {None} and "count_stacks" not in engines[3].raw
    assert set(engines[3].raw) == {"list_stacks", "list_stack_resources", "list_events", None}


def test_listings_need_no_helper(serving, tmp_path, monkeypatch):
    """Who has the engine's answer is not refused: none runs, or they have enough to do."""
    monkeypatch.setattr(Helpers, "CONNECT_DEADLINE", 0.2)
    engine = Giving(lambda *_: [listed("stacks", number) for number in range(60)])
    right = serving(Engine(engine.answer)).get("/v1/admin/stacks", Host="h")
    assert right.status == 200
    alone = serving(engine, path=str(tmp_path)[:50] + "/none").get("/v1/admin/stacks", Host="h")
    monkeypatch.setattr(Helpers, "MOST_UNDER_WAY", 0)
    busy = serving(engine, True).get("/v1/admin/stacks", Host="h")
    assert engine.raw == ["list_stacks"] * 2
    assert (alone.status, alone.body) == (busy.status, busy.body) == (right.status, right.body)


def test_a_reply_that_is_another_s_after_all_is_nobody_s(serving):
    """What no engine has written; the worker only looks at the ends of what it does not read."""
    inner = json.dumps({"result": [{"secret": "x"}], "failure": None, "ending": True, "_msg_id": "2e" * 16})
    other = json.dumps({"oslo.version": "2.0", "oslo.message": inner})[:-1]
    own = json.dumps(inner.replace("2e", "1f")) + "}"
    raw = RawReply(f'{other}, "x": {own}'.encode())
    assert envelope.success_of(raw.body) == "1f" * 16
    for helpers in (False, True):
        found = serving(Engine(lambda *_: raw), helpers).get("/v1/admin/stacks", Host="h")
        assert found.status == 500 and b"secret" not in found.body

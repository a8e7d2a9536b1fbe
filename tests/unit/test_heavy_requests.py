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
from heatperf.rpc.client import EngineClient
from heatperf.rpc.raw import RawReply

IDENTITY = {"tenant": "admin", "stack_name": "s", "stack_id": "1", "path": ""}
SMALL_LIMITS = OPEN + "[DEFAULT]\nmax_template_size = 200000\n"


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
        conf = configuration(tmp_path, SMALL_LIMITS)
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


@pytest.mark.parametrize("kind", ["stacks", "resources", "events"])
def test_a_large_listing_is_what_it_is_in_the_worker(serving, kind):
    path = {"stacks": "", "resources": "/s/1/resources", "events": "/s/1/events"}[kind]
    field = {"stacks": "stack_identity", "resources": "resource_identity", "events": "event_identity"}[kind]
    tail = {"stacks": "", "resources": "/resources/r", "events": "/resources/r/events/5"}[kind]
    replies = [
        {
            field: {**IDENTITY, "path": tail},
            "stack_name": "s",
            "stack_action": "CREATE",
            "stack_status": "FAILED",
            "n": n,
        }
        for n in range(3000)
    ]
    inner = json.dumps({"result": replies, "failure": None, "_msg_id": "1", "ending": True})
    raw = RawReply(json.dumps({"oslo.version": "2.0", "oslo.message": inner}).encode())
    query = "?limit=1000&a=b" if kind == "stacks" else ""
    found = [
        serving(Engine(lambda *_: reply), helpers).get(f"/v1/admin/stacks{path}{query}", Host="h").body  # noqa: B023
        for reply, helpers in ((replies, False), (raw, True), (raw, False))
    ]
    assert found[0] == found[1] == found[2] and json.loads(found[0])[kind][999]["links"]

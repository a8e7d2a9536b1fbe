"""Bodies that are too large, too slow or of a kind nobody expects: the client hears of it, the others do not."""

import threading
import time

import pytest
from pipeline_rig import OPEN, Engine, running

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    text = OPEN + "[DEFAULT]\nmax_json_body_size = 5000\nmax_template_size = 400000\n"
    with running(tmp_path_factory.mktemp("bodies"), text, transport=Engine(lambda *_: {})) as worker:
        yield worker


@pytest.mark.parametrize("size", [5001, 1_114_112, 3_000_000])
def test_json_beyond_the_limit_is_told_by_heat_itself(worker, size):
    """Up to what the server buffers, and beyond, where nobody has read it."""
    answer = worker.request("POST", "/v1/admin/stacks", JSON, b"{" + b" " * (size - 2) + b"}")
    assert (answer.status, answer.json["error"]["type"]) == (400, "RequestLimitExceeded")
    assert f"({size} bytes)" in answer.json["error"]["message"] and "(5000 bytes)" in answer.json["error"]["message"]


def test_json_at_the_limit_is_read(worker):
    answer = worker.request("POST", "/v1/admin/validate", JSON, b"{" + b" " * 4998 + b"}")
    assert answer.json["error"]["message"] == "No template specified"


@pytest.mark.parametrize(
    ("content_type", "body", "read"),
    [
        ("application/json", b"{}", True),
        ("text/plain; charset=utf-8", b"{}", True),
        ("", b"{}", True),
        ("application/json", b" {}", False),  # only what begins with a brace is a body
        ("application/json", b"[]", False),
        ("application/octet-stream", b"{}", False),
        ("application/json-patch+json", b"{}", False),
    ],
)
def test_which_bodies_count(worker, content_type, body, read):
    answer = worker.request("POST", "/v1/admin/validate", {"Content-Type": content_type}, body)
    assert answer.status == 400
    assert (answer.json["error"]["message"] == "No template specified") is read


def test_form_that_was_not_read(worker):
    answer = worker.request("POST", "/v1/admin/stacks", FORM, b"a=" + b"x" * 3_000_000)
    assert answer.status in (400, 413)


def test_a_large_broken_template_delays_nobody_else(tmp_path):
    template = "heat_template_version: '2018-08-31'\nr:\n" + "  a: {b: [1,2,3,4,5,6,7,8,9]}\n" * 6000 + " x: ["
    with running(tmp_path, transport=Engine(lambda *_: {})) as worker:
        sent = threading.Thread(
            target=worker.request, args=("POST", "/v1/admin/validate", JSON), kwargs={"body": {"template": template}}
        )
        sent.start()
        time.sleep(0.1)  # no condition tells that parsing has begun: nothing else runs then
        began = time.monotonic()
        assert worker.get("/").status == 300
        waited = time.monotonic() - began
        sent.join(30)
    assert waited < 0.5


ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{level}: &a{level}\n  <<: [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)
RING = "a: &a [*a]\n"


@pytest.mark.parametrize(
    ("bomb", "status", "kind"),
    [
        (ALIASES, 400, "RequestLimitExceeded"),
        (MERGES, 400, "RequestLimitExceeded"),
        (RING, 500, "RecursionError"),
    ],
)
@pytest.mark.parametrize("part", ["template", "environment"])
def test_yaml_that_stands_for_far_more_than_it_holds(worker, bomb, status, kind, part):
    """Written out, the first two are 10^10 values; a worker that tried would be killed."""
    body = {"stack_name": "s", "template": "heat_template_version: 2021-04-16\n"}
    if part == "template":
        body["template"] += bomb
    else:
        body["environment"] = "parameters:\n" + "".join(f"  {line}\n" for line in bomb.splitlines())
    answer = worker.request("POST", "/v1/admin/stacks", JSON, body=body)
    assert (answer.status, answer.json["error"]["type"]) == (status, kind)
    assert worker.get("/").status == 300


NO_MAPPING = "Template not in valid format: The template is not a JSON object or YAML mapping."
NO_VERSION = "Template not in valid format: Template format version not found."
NO_SECTION = 'Environment not in valid format: environment has wrong section "a"'


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"template": "&a [*a]"}, 400, NO_MAPPING),
        ({"template": "&a {b: *a}"}, 400, NO_VERSION),
        ({"template": {}, "environment": RING}, 400, NO_SECTION),
        ({"adopt_stack_data": RING}, 400, "Invalid adopt data: 'template'"),
        # what is outside of the template goes to the engine as the text it is
        ({"adopt_stack_data": "template: {heat_template_version: x}\n" + RING}, 200, None),
        ({"adopt_stack_data": "template: &a {b: *a}\n"}, 500, None),
    ],
)
def test_yaml_that_contains_itself_is_refused_after_what_is_plainly_wrong(worker, body, status, message):
    answer = worker.request("POST", "/v1/admin/stacks/preview", JSON, body={"stack_name": "s", **body})
    assert answer.status == status
    if message:
        assert answer.json["error"]["message"] == message


def test_aliases_of_ordinary_size_are_fine(worker):
    resources = "resources:\n  a: &one {type: 'OS::Heat::None'}\n  b: *one\n  c: *one\n"
    template = f"heat_template_version: 2021-04-16\n{resources}"
    assert worker.request("POST", "/v1/admin/validate", JSON, body={"template": template}).status == 200

"""make compare without its servers: what it draws, how it shrinks, groups, accepts and keeps."""

import json
from itertools import islice
from types import SimpleNamespace

import pytest
from differential import causes, own, requests
from differential.causes import Known, same_cause, signature
from differential.shrink import shrink

GET = {"id": "generated-1", "group": "generated", "variant": "base", "method": "GET", "path": "/v1/a", "headers": []}


@pytest.mark.parametrize("flavor", ["noauth", "default"])
def test_a_seed_always_gives_the_same_requests(flavor):
    first = list(islice(requests.batches(flavor, "7", 15), 3))
    assert list(islice(requests.batches(flavor, "7", 15), 3)) == first
    assert list(islice(requests.batches(flavor, "8", 15), 3)) != first
    assert not first[0][0]  # the first batch has the default policy


def test_every_route_is_drawn_and_requests_can_be_kept():
    drawn = requests.draw_many(requests.requests("noauth"), 700, "1")
    for segment in (
        "validate",
        "template_versions",
        "software_configs",
        "snapshots",
        "actions",
        "build_info",
        "outputs",
    ):
        assert any(f"/{segment}" in case["path"] for case in drawn), segment
    assert {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} <= {case["method"] for case in drawn}
    assert json.loads(json.dumps(drawn)) == drawn
    for case in drawn:  # nothing that ends the request's head early
        assert not any(mark in text for text in (case["path"], *sum(case["headers"], [])) for mark in "\r\n")


def test_shrinking_keeps_only_what_matters():
    case = {
        "method": "POST",
        "path": "/v1/admin/stacks?limit=1&x=long+text&y=2",
        "headers": [["Accept", "text/html"], ["X-Auth-Token", "tok"], ["Cookie", "a=b"]],
        "body": json.dumps({"a": [1, {"needle": 2, "b": "text"}], "c": None}),
    }

    def shows(smaller):
        return "x=" in smaller["path"] and "needle" in smaller.get("body", "") and len(smaller["headers"]) > 0

    small = shrink(case, shows)
    assert small["path"] == "?x="
    assert len(small["headers"]) == 1
    assert json.loads(small["body"]) == {"a": [{"needle": 1}]}


def test_shrinking_keeps_duplicate_keys_and_bytes():
    doubled = {**GET, "body": '{"a": 1, "b": 2, "a": 3}'}
    assert shrink(doubled, lambda case: case.get("body", "").count('"a"') == 2)["body"] == '{"a": 1, "a": 1}'
    broken = requests.with_body(GET, b"{" + b"x" * 50 + b"\xff" + b"y" * 50)
    assert shrink(broken, lambda case: "body_b64" in case)["body_b64"] == "/w=="


def test_shrinking_ends_when_its_attempts_do():
    asked = []
    shrink({**GET, "headers": [["A", "b"]] * 50}, lambda case: bool(asked.append(case)), attempts=10)
    assert len(asked) == 10


def test_signatures_are_the_same_for_the_same_cause():
    def looks(name):
        return signature(
            [("status", "expected 200 got 400"), ("rpc:args", f"f.args.a: expected {json.dumps(name)} got 12")]
        )

    assert looks("x") == looks('y "z"')
    assert looks("x") != signature([("status", "expected 200 got 404")])
    assert same_cause(looks("x"), signature([("status", "expected 200 got 400")]))
    assert not same_cause(looks("x"), signature([("status", "expected 200 got 404")]))
    assert not same_cause(looks("x"), ())


@pytest.fixture
def known(tmp_path, monkeypatch):
    entries = [
        {"group": "generated", "request": "^Cookie: a", "text": "^expected 200", "kinds": ["st*"], "reason": "r"}
    ]
    path = tmp_path / "known.yaml"
    path.write_text(json.dumps(entries))
    monkeypatch.setattr(causes, "KNOWN", path)
    return Known()


@pytest.mark.parametrize(
    "headers, kind, text, accepted",
    [
        ([["Accept", "x"], ["Cookie", "a=b"]], "status", "expected 200 got 400", True),
        ([["Cookie", "b"]], "status", "expected 200 got 400", False),
        ([["Cookie", "a"]], "body", "expected 200 got 400", False),
        ([["Cookie", "a"]], "status", "expected 300 got 400", False),
    ],
)
def test_accepted_differences_are_told_by_request_and_text(known, headers, kind, text, accepted):
    case = {**GET, "headers": headers}
    left, reasons = known.split(SimpleNamespace(case=case, differences=[(kind, text)]))
    assert (left, reasons) == (([], {"r"}) if accepted else ([(kind, text)], set()))


def test_what_is_found_is_kept_once(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "OWN", tmp_path)
    answer = {"response": {"status": 200}, "rpc": []}
    found = SimpleNamespace(case={**GET, "timeout": 10}, expected=answer)
    assert own.save([found, SimpleNamespace(case={**GET, "id": "generated-2"}, expected=answer)]) == 1
    assert own.save([found]) == 0
    (case,) = json.loads((tmp_path / "corpus" / "compared.json").read_text())
    (golden,) = json.loads((tmp_path / "golden" / "compared.json").read_text())
    assert case["id"] == golden["id"] and case["id"].startswith("compared-base-")
    assert case["group"] == "compared" and golden["response"] == {"status": 200}

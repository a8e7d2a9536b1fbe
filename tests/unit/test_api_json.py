"""JSON through the whole API: what a client sends, the engine gets; what an engine replies, the client gets.

The documents are text, so that they hold what only the standard library's json reads: NaN, duplicate keys, integers
beyond 64 bits, lone surrogates.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pipeline_rig import OPEN, Engine, Worker, configuration, loaded

STACK = "/v1/admin/stacks/s/1"
JSON_TYPE = {"Content-Type": "application/json"}
ONCE = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

SCALARS = st.one_of(
    st.sampled_from(
        ["NaN", "Infinity", "-Infinity", "1e999", "-0", "-0.0", "1.0", "1" * 30, '"\\ud800"', '"\\udfff x"']
    ),
    st.sampled_from(["null", "true", "false", '"null"', '"NaN"', '"\u2028\ufeff"', "18446744073709551616"]),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text(max_size=10).map(json.dumps),
    st.text(max_size=10).map(lambda text: json.dumps(text, ensure_ascii=False)),
)


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    keys = st.one_of(
        st.sampled_from(["a", "b", "\\ud800"]), st.text(max_size=3).map(lambda text: json.dumps(text)[1:-1])
    )
    pairs = st.lists(st.tuples(keys, inner), max_size=4)
    return pairs.map(lambda found: "{" + ", ".join(f'"{key}": {value}' for key, value in found) + "}")


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(objects(inner), st.lists(inner, max_size=4).map(lambda items: "[" + ",".join(items) + "]")),
    max_leaves=10,
)
DOCUMENTS = objects(VALUES)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="module")
def worker(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    made = Worker(loaded(configuration(tmp_path_factory.mktemp("json"), OPEN), engine))
    yield made
    made.close()


def same(left: Any, right: Any) -> bool:
    """Equal in value, type and order, NaN included."""
    return repr(left) == repr(right)


@ONCE
@given(DOCUMENTS)
@example('{"a": 1, "a": [NaN, 123456789012345678901234567890]}')
@example('{"a": ' + "[" * 300 + "]" * 300 + "}")
def test_a_body_reaches_the_engine_as_the_standard_library_reads_it(worker: Worker, engine: Engine, text: str) -> None:
    engine.calls.clear()
    assert worker.request("POST", f"{STACK}/resources/r/signal", JSON_TYPE, text.encode()).status == 200
    ((method, arguments, _context),) = engine.calls
    assert method == "resource_signal"
    assert same(arguments["details"], json.loads(text))


@ONCE
@given(DOCUMENTS)
@example('{"a": [NaN, -Infinity, 1e400], "b": "\\ud800", "c": 123456789012345678901234567890}')
@example('{"a": ' + "[" * 400 + "]" * 400 + "}")
@example('{"a": ' + '{"k": ' * 400 + "NaN" + "}" * 400 + "}")
def test_a_reply_reaches_the_client_as_the_standard_library_writes_it(
    worker: Worker, engine: Engine, text: str
) -> None:
    reply = json.loads(text)
    engine.answer = lambda *_: reply
    answer = worker.get(f"{STACK}/template")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert same(json.loads(answer.body), reply)
    assert same(json.loads(answer.body.decode("utf-8")), json.loads(json.dumps(reply)))


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf{}",  # a byte order mark: not a body that counts
        "{}".encode("utf-16"),
        "{}".encode("utf-16-le"),  # begins with "{" and is no UTF-8 JSON
        "{}".encode("utf-32-le"),
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": 1}\x00',
        b"{'a': 1}",
        b'{"a": 01}',
        b'{"a": ' + b"1" * 4301 + b"}",
        b"[1]",
        b" {}",
    ],
)
def test_what_upstream_does_not_read_is_refused(worker: Worker, engine: Engine, body: bytes) -> None:
    engine.calls.clear()
    answer = worker.request("POST", f"{STACK}/resources/r/signal", JSON_TYPE, body)
    if body.startswith(b"{"):  # else it does not count, and the action goes without one
        assert answer.status == 400
    assert not [call for call in engine.calls if call[1].get("details")]


@pytest.mark.parametrize("depth, status", [(450, 200), (500, 500), (5000, 500), (100_000, 500)])
def test_depth_ends_where_upstreams_client_ends(worker: Worker, engine: Engine, depth: int, status: int) -> None:
    engine.calls.clear()
    body = b'{"a": ' + b"[" * depth + b"]" * depth + b"}"
    answer = worker.request("POST", f"{STACK}/resources/r/signal", JSON_TYPE, body)
    assert answer.status == status
    assert len(engine.calls) == (status == 200)
    if status == 500:
        assert answer.json["error"]["type"] == "RecursionError"


def test_a_name_that_has_no_utf8_makes_no_link(worker: Worker, engine: Engine) -> None:
    identity = {"tenant": "admin", "stack_name": "a\ud800", "stack_id": "1", "path": ""}
    engine.answer = lambda *_: identity
    body = b'{"stack_name": "a\\ud800", "template": {"a": 1}}'
    answer = worker.request("POST", "/v1/admin/stacks", JSON_TYPE, body)
    assert (answer.status, answer.json["error"]["type"]) == (400, "UnicodeEncodeError")

"""JSON in and out: the meaning of the standard library's json, which is what upstream has, for every value there is."""

import contextlib
import datetime
import decimal
import json
import uuid
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heatperf.api import codec

NUMBERS = st.one_of(
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**30]),
    st.floats(allow_nan=True, allow_infinity=True),
)
TEXTS = st.text(st.characters(codec=None))  # lone surrogates included
SCALARS = st.one_of(
    st.none(), st.booleans(), NUMBERS, TEXTS, st.sampled_from(["null", "NaN", "\u2028", "\x00", "\x7f"])
)
KEYS = st.one_of(TEXTS, st.integers(), st.floats(), st.booleans(), st.none())


def containers(keys):
    return lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(keys, inner, max_size=4)
    )


VALUES = st.recursive(SCALARS, containers(TEXTS), max_leaves=12)
ODD_VALUES = st.recursive(SCALARS, containers(KEYS), max_leaves=12)


def plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime.datetime) else str(value)


def meaning(data: bytes) -> str:
    """What a reader gets: order, duplicates, NaN and the sign of zero included."""
    return repr(json.loads(data, object_pairs_hook=lambda pairs: ("object", pairs)))


@settings(max_examples=400, deadline=None)
@given(st.one_of(VALUES, ODD_VALUES))
@example({"a": None, "b": float("nan")})
@example([float("inf"), None, -0.0, 1e16, 1e-7, 5e-324])
@example({1: "a", "1": "b", False: "c", None: "d", 1.5: "e"})
@example({"\ud800": "\udfff"})
@example({"x": (1, [2, (3,)])})
def test_encode_means_what_the_standard_library_means(value):
    assert meaning(codec.encode(value)) == meaning(json.dumps(value, default=plain).encode())


@settings(max_examples=300, deadline=None)
@given(ODD_VALUES)
def test_decode_reads_what_the_standard_library_wrote(value):
    data = json.dumps(value)
    assert repr(codec.decode(data.encode())) == repr(json.loads(data))
    with contextlib.suppress(UnicodeEncodeError):  # lone surrogates have no UTF-8
        assert repr(codec.decode(json.dumps(value, ensure_ascii=False).encode())) == repr(json.loads(data))


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=40), st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace"))))
@example(b'{"a": 1, "a": 2}')
@example(b"[NaN, -Infinity, 1e999, 123456789012345678901234567890]")
@example(b'"\\ud800"')
@example("\ufeff{}".encode())
@example('{"a"\u00a0: 1}'.encode())
@example(b"[1,]")
@example(b"01")
@example(b'"\x01"')
@example(b"{} {}")
@example(b"\xff")
def test_decode_agrees_on_any_bytes(data):
    try:
        expected = repr(json.loads(data.decode("utf-8")))
    except ValueError as error:
        with pytest.raises(ValueError) as caught:
            codec.decode(data)
        assert str(caught.value) == str(error)  # clients are shown it
    else:
        assert repr(codec.decode(data)) == expected


@pytest.mark.parametrize("depth", [100, 253, 254, 255, 300, 900])
@pytest.mark.parametrize("kind", ["list", "map", "mixed"])
def test_depth(depth, kind):
    value: Any = 1
    for level in range(depth):
        value = [value] if kind == "list" or (kind == "mixed" and level % 2) else {"k": value}
    assert json.loads(codec.encode(value)) == codec.decode(json.dumps(value).encode()) == value


def test_endless_depth_is_an_error_and_no_crash():
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(RecursionError):
        codec.encode(value)
    with pytest.raises(RecursionError):
        codec.decode(b"[" * 100_000)
    while value:  # or its own deallocation would be the test
        value = value.pop()


def test_a_value_that_holds_itself():
    value: list[Any] = []
    value.append(value)
    with pytest.raises((ValueError, RecursionError)):
        codec.encode(value)


@pytest.mark.parametrize(
    "value",
    [
        datetime.datetime(2024, 1, 2, 3, 4, 5, 6),
        datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
        datetime.date(2024, 1, 2),
        datetime.time(1, 2, 3),
        datetime.timedelta(days=1),
        uuid.UUID(int=5),
        decimal.Decimal("1.10"),
        b"bytes",
        {1},
        object,
    ],
    ids=repr,
)
def test_values_json_has_no_word_for(value):
    assert json.loads(codec.encode({"v": value, "w": [value]})) == {"v": plain(value), "w": [plain(value)]}


def test_keys_json_has_no_word_for():
    with pytest.raises(TypeError):
        codec.encode({(1, 2): 3})


@pytest.mark.parametrize(
    "value", [[None, {"a": [1, (2.5, float("nan"))]}], {"null": float("-inf")}, ["null", None, float("nan")]]
)
def test_nan_is_found_wherever_it_is(value):
    assert codec.encode(value) == json.dumps(value).encode()

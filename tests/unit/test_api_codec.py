"""JSON in and out: the meaning of the standard library's json, which is what upstream has, for every value there is."""

import collections
import contextlib
import dataclasses
import datetime
import decimal
import json
import sys
import uuid
from typing import Any

import orjson
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


Pair = collections.namedtuple("Pair", "left right")


class Number(float):
    """A subclass, as libraries have them."""


@dataclasses.dataclass
class Thing:
    name: str = "x"


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
@example("{}".encode("utf-16"))
@example("{}".encode("utf-16-le"))
@example("{}".encode("utf-32-be"))
@example(b"\xef\xbb\xbf{}")
@example(b'{"a": "\xed\xa0\x80"}')  # a surrogate in UTF-8, which is none
@example(b'{"a": 1}\x00')
@example(b"1" * 4300)
@example(b"1" * 4301)  # Python's own limit for integers
@example(b"-0")
@example(b"-0.0")
@example(b"1E400")
@example(b'"\\ud83d\\ude00\\ud83d"')
@example(b"nan")
@example(b"Infinity")
def test_decode_agrees_on_any_bytes(data):
    try:
        expected = repr(json.loads(data.decode("utf-8")))
    except ValueError as error:
        with pytest.raises(ValueError) as caught:
            codec.decode(data)
        assert str(caught.value) == str(error)  # clients are shown it
    else:
        assert repr(codec.decode(data)) == expected


DOCUMENTS = st.recursive(
    st.one_of(
        st.sampled_from(
            ["NaN", "-Infinity", "1e999", "-0", "1" * 30, "true", "null", '"\\ud800"', '"\\udc00\\ud800"', "[]"]
        ),
        st.integers(min_value=-(10**40), max_value=10**40).map(str),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.text(max_size=8).map(lambda text: json.dumps(text, ensure_ascii=False)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: "[" + " ,\n".join(items) + "]"),
        # few keys, so that they repeat
        st.lists(st.tuples(st.sampled_from(["a", "b", "a\\u0000", "\\ud800"]), inner), max_size=4).map(
            lambda pairs: "{" + ",\t".join(f'"{key}": {value}' for key, value in pairs) + "}"
        ),
    ),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(DOCUMENTS, st.sampled_from(["", " ", ",", "}", "\x00", "\ufeff", "//"]), st.booleans())
def test_decode_agrees_on_documents_and_what_is_nearly_one(text, blot, before):
    data = (blot + text if before else text + blot).encode()
    try:
        expected = json.loads(data.decode())
    except ValueError as error:
        with pytest.raises(ValueError) as caught:
            codec.decode(data)
        assert str(caught.value) == str(error)
    else:
        assert repr(codec.decode(data)) == repr(expected)
        # what came in can go out again
        assert meaning(codec.encode(expected)) == meaning(json.dumps(expected).encode())


@settings(max_examples=200, deadline=None)
@given(st.one_of(VALUES, ODD_VALUES))
def test_encode_never_trusts_what_orjson_would_change(value):
    """Where orjson alone means something else, the answer is the standard library's, to the byte."""
    exact = json.dumps(value, default=plain).encode()
    try:
        alone = orjson.dumps(value)
    except TypeError:
        assert codec.encode(value) == exact
    else:
        same = meaning(alone) == meaning(exact)
        assert codec.encode(value) == (alone if same else exact)


@pytest.mark.parametrize("depth", [100, 253, 254, 255, 300, 900])
@pytest.mark.parametrize("kind", ["list", "map", "mixed"])
def test_depth(depth, kind):
    value: Any = 1
    for level in range(depth):
        value = [value] if kind == "list" or (kind == "mixed" and level % 2) else {"k": value}
    assert json.loads(codec.encode(value)) == codec.decode(json.dumps(value).encode()) == value


@pytest.mark.parametrize("opening, closing", [(b"[", b"]"), (b'{"k":', b"}")], ids=["list", "map"])
def test_both_give_up_at_the_same_depth(opening, closing):
    """No bound of our own: a document that upstream reads is read, on every Python."""

    def deepest(loads) -> int:
        for depth in range(sys.getrecursionlimit() - 300, sys.getrecursionlimit() + 1):
            try:
                loads(opening * depth + b"1" + closing * depth)
            except RecursionError:
                return depth
        return depth

    assert abs(deepest(codec.decode) - deepest(lambda data: json.loads(data))) <= 1


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
        Thing(),
        Ellipsis,
        1j,
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


@pytest.mark.parametrize(
    "value",
    [
        Pair(1, None),
        [Pair(1, (2,))],
        Number(1.5),
        Number("nan"),
        {"a": None, "b": Number("-inf")},
        collections.OrderedDict(b=1, a=None),
        collections.defaultdict(list, a=[1]),
    ],
    ids=repr,
)
def test_subclasses_are_what_they_derive_from(value):
    assert meaning(codec.encode(value)) == meaning(json.dumps(value).encode())

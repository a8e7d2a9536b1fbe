"""JSON that is read as the standard library reads it, and parts of messages that are JSON already."""

import gc
import json
import math

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heatperf import jsontext
from heatperf.engine.frames import Frames, encode_frame
from heatperf.jsontext import Encoded

#: What documents are made of, right and wrong.
TOKENS = st.sampled_from(
    [
        *'{}[],:" \n\t\r\x0b\x00',
        *("0", "-0", "-0.0", "1", "-", "+1", "01", "1.", ".5", "1e5", "1E+400", "1e-400", "-1E400", "0x1", "1_0"),
        *(str(2**63 - 1), str(2**63), str(2**64 - 1), str(2**64), str(-(2**63)), str(-(2**63) - 1), "9" * 18, "9" * 19),
        *("12345678901234567890.0", "0.12345678901234567890", "9" * 5000, "1.7976931348623159e308", "4.9e-324"),
        *("true", "false", "null", "NaN", "Infinity", "-Infinity", "nan", "True", "None", "undefined"),
        *('"a"', '"a":1', '"a":2', '"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\x"', '"\x01"', '"é"', "'a'"),
        *("\ufeff", "//c", "/*c*/", "\u2028", "\u0660"),
    ]
)  # fmt: skip


def outcome(function, data):
    try:
        return repr(function(data))
    except (ValueError, RecursionError) as error:
        return type(error), str(error) if isinstance(error, ValueError) else ""


def exactly(data):
    return json.loads(data.decode("utf-8"))


@settings(max_examples=500, deadline=None)
@given(st.lists(TOKENS, max_size=14).map("".join), st.sampled_from(["{}", '{{"k":{}}}', "[{}]", '{{"k":[{}],"k":1}}']))
def test_tokens_in_any_order(text, frame):
    data = frame.format(text).encode("utf-8", "surrogatepass")
    assert outcome(jsontext.decode_as_clients_know, data) == outcome(exactly, data)


@pytest.mark.parametrize("digits", ("9" * 19, "9" * 32))
def test_digits_within_a_string_are_for_orjson(digits):
    data = f'{{"id": "{digits}", "of": ["{digits}", "a{digits}"], "x-{digits}": 1.{digits}}}'.encode()
    assert jsontext.decode_certain(data) == exactly(data)
    for number in (digits, f"-{digits}", f"[{digits}]", f'{{"a":\n{digits}}}', f"[1,{digits}]"):
        with pytest.raises(orjson.JSONDecodeError):
            jsontext.decode_certain(number.encode())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
@example(b'{"a": "\xed\xa0\x80"}')
@example(b'{"a": "\xff"}')
@example(b'\xef\xbb\xbf{"a": 1}')
@example(b'{"a": "\xc0\x80"}')
def test_bytes_that_are_no_text(noise):
    for data in (noise, b'{"a": "' + noise + b'"}'):
        assert outcome(jsontext.decode_as_clients_know, data) == outcome(exactly, data)


@pytest.mark.parametrize(
    "value",
    [
        {"a": [{"b": n} for n in range(5000)]},
        {"a": "[{" * 50_000},
        {"a": ["x" * 50] * 3000, "b": "[" * 400},
        {"a": 10**30, "b": "x" * 100_000},
        {"a": math.nan, "b": "x" * 100_000},
    ],
)
def test_large_ones_and_the_collector_stays_as_it_was(value):
    data = json.dumps(value).encode()
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            assert repr(jsontext.decode_as_clients_know(data)) == repr(value)
            assert gc.isenabled() is enabled
        finally:
            gc.enable()


@pytest.mark.parametrize("depth", [10, 254, 255, 600])
def test_depth_beside_many_brackets(depth):
    data = b'{"a":' + b"[" * depth + b"]" * depth + b',"b":[' + b"[],{}," * 500 + b"1]}"
    assert outcome(jsontext.decode_as_clients_know, data) == outcome(exactly, data)


class TestEncoded:
    VALUE = {"a": [1, None, "é", {"b": 2.5}], "c": "\u2028\x00"}
    ENCODED = Encoded(orjson.dumps(VALUE))

    def test_it_stands_for_its_value(self):
        assert self.ENCODED.value() == self.VALUE and self.ENCODED.value() is not self.ENCODED.value()

    @pytest.mark.parametrize("beside", [None, 1, math.nan, 10**30, "\ud800", {1: 2}, {1, 2}])
    def test_it_is_written_as_its_value_whatever_is_beside_it(self, beside):
        wanted = jsontext.encode({"t": self.VALUE, "x": beside, "n": [self.VALUE]})
        written = jsontext.encode({"t": self.ENCODED, "x": beside, "n": [self.ENCODED]})
        assert repr(json.loads(written)) == repr(json.loads(wanted))

    @pytest.mark.parametrize("beside", [None, 1, math.nan, 10**30, "\ud800"])
    def test_plain_text_or_none(self, beside):
        wanted = jsontext.encode_plain({"t": self.VALUE, "x": beside})
        assert jsontext.encode_plain({"t": self.ENCODED, "x": beside}) == wanted
        assert (wanted is None) == (beside not in (None, 1))

    @pytest.mark.parametrize("beside", [None, math.nan, 10**30])
    def test_the_engine_gets_its_value(self, beside):
        [message] = Frames().feed(encode_frame({"id": 1, "args": {"template": self.ENCODED, "x": beside}}))
        assert message["args"]["template"] == self.VALUE and repr(message["args"]["x"]) == repr(beside)

    def test_arguments_for_those_who_cannot_take_it(self):
        given = {"template": self.ENCODED, "x": 1}
        assert jsontext.decoded(given) == {"template": self.VALUE, "x": 1} and given["template"] is self.ENCODED

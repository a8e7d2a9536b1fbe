"""The body of a message: equal to what stock oslo.messaging sends, whatever is in it and however it is put together."""

import contextlib
import contextvars
import datetime
import json
import string
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oslo_messaging._drivers import amqp, common
from oslo_serialization import jsonutils

from heatperf.context import Caller, RequestContext
from heatperf.rpc import envelope

PROPERTY = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

NAMES = st.text(string.ascii_lowercase + "_", min_size=1, max_size=6)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", '"\\', "\u2028\x00\x7f", "null"])
    | st.dates()
    | st.datetimes()
    | st.binary(max_size=4).filter(lambda data: data.isascii())
    | st.sampled_from([float("inf"), float("-inf")])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3)
        | st.dictionaries(st.dates() | st.binary(max_size=4).filter(lambda data: data.isascii()), inner, max_size=2)
        | st.tuples(inner)
        | st.sets(st.text(max_size=2), max_size=2)
    ),
    max_leaves=12,
)
ARGUMENTS = st.dictionaries(NAMES, VALUES, max_size=6)
TEXTS = st.none() | st.text(max_size=12)
TOKEN_INFO = st.none() | st.dictionaries(st.text(max_size=4), LEAVES | st.lists(st.text(max_size=3)), max_size=3)

CALLER_FIELDS = (
    "user_id", "project_id", "user_name", "project_name", "domain_id", "user_domain_id", "project_domain_id",
    "system_scope", "auth_token",
)  # fmt: skip
HEADERS = (
    "HTTP_X_AUTH_USER", "HTTP_X_AUTH_KEY", "HTTP_X_AUTH_EC2_CREDS", "HTTP_X_REGION_NAME", "HTTP_X_AUTH_URL",
    "openstack.global_request_id",
)  # fmt: skip


def aside(function: Any, *args: Any, **kwargs: Any) -> Any:
    """A new context becomes the current one of whoever makes it."""
    return contextvars.Context().run(function, *args, **kwargs)


CONTEXTS = st.builds(
    lambda fields, roles, info: aside(RequestContext, roles=roles, auth_token_info=info, **fields),
    st.fixed_dictionaries({}, optional=dict.fromkeys(CALLER_FIELDS, TEXTS)),
    st.lists(st.text(max_size=5), max_size=3),
    TOKEN_INFO,
)
#: What stations may do to a context of one request.
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "is_admin": st.booleans(),
        "show_deleted": st.booleans(),
        "read_only": st.booleans(),
        "resource_uuid": TEXTS,
        "trust_id": TEXTS,
        "trustor_user_id": TEXTS,
        "trace_info": st.none() | st.dictionaries(NAMES, TEXTS, max_size=3),
    },
)
ENVIRONS = st.lists(
    st.fixed_dictionaries({"openstack.request_id": NAMES}, optional=dict.fromkeys(HEADERS, TEXTS)),
    min_size=1,
    max_size=4,
)


def stock(context: dict[str, Any], message: dict[str, Any]) -> Any:
    """What an engine reads of a message that a stock client has sent."""
    message = dict(message)
    amqp.pack_context(message, SimpleNamespace(to_dict=lambda: dict(context)))
    return read(jsonutils.dumps(common.serialize_msg(message)).encode())


def read(body: bytes) -> Any:
    return common.deserialize_msg(jsonutils.loads(body))


def encoded(context: RequestContext, arguments: dict[str, Any]) -> Any:
    return read(envelope.encode_call(context, "create_stack", arguments, "1.36", "m" * 32, "reply_x", "u" * 32))


@PROPERTY
@given(CONTEXTS, ARGUMENTS)
def test_what_an_engine_reads_is_what_a_stock_client_sends(context: RequestContext, arguments: dict[str, Any]) -> None:
    expected = {
        "method": "create_stack",
        # what Heat's serializer makes of each
        "args": {name: jsonutils.to_primitive(value, convert_instances=True) for name, value in arguments.items()},
        "version": "1.36",
        "_msg_id": "m" * 32,
        "_reply_q": "reply_x",
        "_timeout": None,
        "_unique_id": "u" * 32,
    }
    assert encoded(context, arguments) == stock(context.to_rpc(), expected)


@PROPERTY
@given(CONTEXTS, ENVIRONS, CHANGES)
def test_the_caller_s_part_is_shared_and_nothing_else(
    context: RequestContext, environs: list[dict[str, Any]], changes: dict[str, Any]
) -> None:
    """Whatever of a context may differ between requests of one caller is what this request says."""
    caller = Caller({})
    context.remember(caller)
    requests = [aside(RequestContext.of_caller, caller, environ) for environ in environs]
    for name, value in changes.items():
        setattr(requests[-1], name, value)
    for request in [context, *requests, *reversed(requests)]:
        content = encoded(request, {})
        found = {name.removeprefix("_context_"): v for name, v in content.items() if name.startswith("_context_")}
        assert found == jsonutils.loads(jsonutils.dumps(request.to_rpc()))
    assert caller.encoded


def test_everything_a_context_says_is_accounted_for() -> None:
    said = aside(RequestContext, user_id="u").to_rpc()
    assert set(said) == envelope.OF_CALLER | set(envelope.OF_REQUEST)


def test_a_context_that_says_more_is_encoded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    context = aside(RequestContext, user_id="u")
    context.caller = caller = Caller({})
    said = context.to_rpc()
    monkeypatch.setattr(RequestContext, "to_rpc", lambda _self: said | {"new_in_some_release": 1})
    assert encoded(context, {})["_context_new_in_some_release"] == 1 and caller.encoded is None


def test_a_cast_asks_for_no_reply() -> None:
    body = envelope.encode_cast(aside(RequestContext), "delete_stack", {"a": 1}, "1.0", "u" * 32)
    assert {"_msg_id", "_reply_q", "_timeout"}.isdisjoint(read(body)) and read(body)["_unique_id"] == "u" * 32


def test_a_nan_stays_one() -> None:
    args = encoded(aside(RequestContext), {"a": [None, float("nan")], "b": None})["args"]
    assert args["b"] is None and args["a"][0] is None and args["a"][1] != args["a"][1]


def test_what_yaml_makes_of_a_template() -> None:
    template = {"s": {"a", "b"}, "d": datetime.date(2018, 8, 31), "b": b"x", 1: "one", None: 2}
    args = encoded(aside(RequestContext), {"template": template})["args"]["template"]
    expected = json.loads(jsonutils.dumps(template))
    args["s"].sort()
    expected["s"].sort()
    assert args == expected


def test_ids_do_not_meet() -> None:
    one, other = envelope.Ids(), envelope.Ids()
    ids = [ids.next() for _ in range(1000) for ids in (one, other)]
    assert len(set(ids)) == 2000 and {len(text) for text in ids} == {32}


@pytest.mark.parametrize("how", sorted(set(envelope.COMPRESSIONS) - {"bz2"}))
def test_compression_is_kombu_s(how: str) -> None:
    from kombu import compression

    data, name = b'{"a": 1}' * 50, envelope.COMPRESSIONS[how]
    assert compression.compress(data, how)[1] == name
    assert compression.decompress(envelope.compressed(data, how), name) == data
    assert envelope.plain(compression.compress(data, how)[0]) == data


def reply(**parts: Any) -> bytes:
    inner = {"result": None, "failure": None, "ending": True, "_msg_id": "m", "_unique_id": "u"} | parts
    return json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(inner)}).encode()


MSG_ID, UNIQUE_ID = "1f" * 16, "e2" * 16
#: What an engine may have put into a result: text that looks like the end of the reply, once or twice escaped.
_END = f', "failure": null, "ending": true, "_msg_id": "{"2e" * 16}", "_unique_id": "{UNIQUE_ID}"}}"}}'
RESULTS = st.recursive(
    LEAVES.filter(lambda leaf: leaf is None or isinstance(leaf, (bool, int, float, str)))
    | st.sampled_from([_END, json.dumps(_END), json.dumps(json.dumps(_END)), "\\" + _END, _END[:-2], "\\", '"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.just(_END), inner, max_size=3),
    max_leaves=8,
)
SEPARATORS = st.sampled_from([None, (",", ":")])


@st.composite
def replies(draw: Any) -> bytes:
    """As engines of this and other releases might write them: any result, any order of members."""
    members = {
        "result": draw(RESULTS),
        "failure": draw(st.sampled_from([None, None, None, json.dumps({"class": "X"}), _END])),
        "ending": draw(st.sampled_from([True, True, True, False])),
        "_msg_id": draw(st.sampled_from([MSG_ID, MSG_ID, MSG_ID.upper(), _END])),
        "_unique_id": UNIQUE_ID,
        **draw(st.dictionaries(st.sampled_from(["result", "x", "ending_"]), RESULTS, max_size=1)),
    }
    names = list(members)
    if draw(st.integers(0, 3)) == 0:
        names = draw(st.permutations(names))
    ascii_only = draw(st.booleans())
    text = json.dumps({name: members[name] for name in names}, separators=draw(SEPARATORS), ensure_ascii=ascii_only)
    outer = {"oslo.version": "2.0", "oslo.message": text}
    if draw(st.integers(0, 5)) == 0:
        outer = dict(reversed(outer.items()))
    body = json.dumps(outer, separators=draw(SEPARATORS), ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    return envelope.compressed(body, "gzip") if draw(st.integers(0, 5)) == 0 else body


class TestRawReplies:
    @PROPERTY
    @given(replies())
    def test_what_their_ends_say_is_what_they_say(self, body: bytes) -> None:
        found = envelope.success_of(body)
        try:
            reply = envelope.decode_reply(body)
        except envelope.MalformedReply:  # a lone surrogate, outside of ASCII; a failure that is none
            assert found is None or "\ud800".encode("utf-8", "surrogatepass") in body
            return
        if found is not None:
            assert (reply.msg_id, reply.failure, reply.ending) == (found, None, True)
            assert repr(envelope.result_of(body)) == repr(reply.result)

    @pytest.mark.parametrize("separators", [None, (",", ":")])
    def test_those_of_oslo_messaging_are_known(self, separators: Any) -> None:
        for members in ({}, {"_unique_id": UNIQUE_ID}):
            inner = {"result": [_END], "failure": None, "ending": True, "_msg_id": MSG_ID, **members}
            stock = jsonutils.dumps(common.serialize_msg(inner), separators=separators).encode()
            assert envelope.success_of(stock) == MSG_ID and envelope.result_of(stock) == [_END]

    @PROPERTY
    @given(replies(), replies())
    def test_whoever_decodes_it_finds_out_what_else_it_is(self, one: bytes, other: bytes) -> None:
        """Bytes that no encoder has written, with the beginning of one reply and the end of another."""
        for body in (one[:-1] + b', "x": ' + other.partition(b":")[2], one[: len(one) // 2] + other):
            found = envelope.success_of(body)
            with contextlib.suppress(envelope.MalformedReply):
                result = envelope.result_of(body)
                reply = envelope.decode_reply(body)
                assert found == reply.msg_id and reply.failure is None and repr(result) == repr(reply.result)

    def test_noise(self) -> None:
        for body in (b"", b"{}", b"x\x9c", reply(), b'{"oslo.version": "2.0", "oslo.message": "{"}'):
            assert envelope.success_of(body) is None
            with pytest.raises(envelope.MalformedReply):
                envelope.result_of(body)

    def test_what_only_the_standard_library_reads(self) -> None:
        for result in (float("inf"), 10**30, "\ud800"):
            inner = {"result": [result], "failure": None, "ending": True, "_msg_id": MSG_ID}
            body = jsonutils.dumps(common.serialize_msg(inner)).encode()
            assert envelope.result_of(body) == [result]
            with pytest.raises(envelope.MalformedReply):
                envelope.result_of(body, only_plain=True)


class TestReplies:
    def test_results(self) -> None:
        found = envelope.decode_reply(reply(result={"big": 10**30, "nan": [float("inf")]}))
        assert found == ("m", {"big": 10**30, "nan": [float("inf")]}, None, True)

    def test_failures(self) -> None:
        found = envelope.decode_reply(reply(failure=json.dumps({"class": "X"})))
        assert found.failure == {"class": "X"}

    @given(st.binary(max_size=60))
    @settings(max_examples=200, deadline=None, derandomize=True)
    def test_noise(self, data: bytes) -> None:
        with pytest.raises(envelope.MalformedReply):
            envelope.decode_reply(data)

    @pytest.mark.parametrize(
        "body",
        [
            reply(_msg_id=None),
            reply(_msg_id=["m"]),
            reply(failure="no JSON"),
            reply(failure={"class": "X"}),
            reply(failure="[]"),
            b'{"oslo.message": 5}',
            b'{"oslo.message": "[]"}',
            b"[" * 100_000,
            orjson.dumps({"oslo.version": "2.0", "oslo.message": "[" * 100_000}),
            b"x\x9c\x00",
            b"BZh9",
        ],
    )
    def test_malformed(self, body: bytes) -> None:
        with pytest.raises(envelope.MalformedReply):
            envelope.decode_reply(body)

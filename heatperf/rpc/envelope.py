"""The body of an RPC message on RabbitMQ, as oslo.messaging's version 2.0 has it. Pure.

In: method, arguments, context; bytes of a reply. Out: bytes; the reply's parts. Raised: MalformedReply.

The envelope is JSON that holds JSON as text, so everything is encoded twice. What a token says of its bearer is the
largest part of a small call and the same each time: it is encoded once per token, in the form it has inside the text.
Escaping goes character by character, so pieces that were escaped apart may be put together.
"""

from __future__ import annotations

import bz2
import functools
import json
import os
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson
from oslo_serialization import jsonutils

from heatperf import jsontext
from heatperf.context import Caller, RequestContext
from heatperf.rpc import nesting

_BEGIN = b'{"oslo.version":"2.0","oslo.message":"'
_END = b'}"}'

#: What a context says of the Caller; equal in all contexts that share one, see RequestContext.of_caller.
OF_CALLER = frozenset(
    (
        "user",
        "user_id",
        "user_domain",
        "user_domain_id",
        "user_identity",
        "project",
        "project_id",
        "project_name",
        "tenant_id",
        "project_domain",
        "project_domain_id",
        "domain",
        "system_scope",
        "is_admin_project",
        "auth_token",
        "auth_token_info",
        "roles",
    )
)
#: What comes from headers of the request, or may be set by a station: attributes of the context under the same names.
OF_REQUEST = (
    "request_id",
    "global_request_id",
    "username",
    "password",
    "aws_creds",
    "auth_url",
    "region_name",
    "is_admin",
    "show_deleted",
    "read_only",
    "resource_uuid",
    "trust_id",
    "trustor_user_id",
)
_REQUEST_MEMBERS = [(f"_context_{name}", name) for name in OF_REQUEST]


# A result as oslo.messaging writes it: JSON of a mapping, in it the text of another, whose members always come in this
# order. Within a string of the inner one a quote would have three backslashes here, and those of the pattern have one,
# with something else before it. So each of them begins or ends a string; from the last brace on, which closes the inner
# mapping, the rest follows. Of members that come twice the last one counts.
_RESULT_BEGINS = re.compile(rb'\{"oslo\.version": ?"2\.0", ?"oslo\.message": ?"\{').match
_RESULT_ENDS = re.compile(
    rb', ?\\"failure\\": ?null, ?\\"ending\\": ?true, ?\\"_msg_id\\": ?\\"([0-9a-f]{32})\\"'
    rb'(?:, ?\\"_unique_id\\": ?\\"[0-9a-f]{32}\\")?\}"\}\Z'
).search
_LONGEST_END = 256
_IDS = re.compile(rb'\\?"_msg_id\\?": ?\\?"([0-9a-f]{32})\\?"').findall
_LIST_BEGINS = re.compile(rb'\{"oslo\.version": ?"2\.0", ?"oslo\.message": ?"\{\\"result\\": ?\[').match


class MalformedReply(Exception):
    """What came is no reply of an engine."""


class Reply(NamedTuple):
    """One reply. ``failure`` is the engine's exception as it describes it, None where ``result`` counts."""

    msg_id: str
    result: Any
    failure: dict[str, Any] | None
    ending: bool


class Ids:
    """Ids of messages, as unlikely to meet again as random ones, at the price of a counter. Make it after the fork."""

    def __init__(self) -> None:
        self._prefix = os.urandom(10).hex()
        self._last = 0

    def next(self) -> str:
        """32 hexadecimal digits."""
        self._last += 1
        return f"{self._prefix}{self._last:012x}"


# Encoding


def escaped(data: bytes) -> bytes:
    """JSON text as it stands inside a JSON string, without the quotes."""
    return orjson.dumps(data.decode())[1:-1]


def members(values: Mapping[str, Any]) -> bytes:
    """Members of a JSON object, without its braces.

    :raises RecursionError: one is nested more deeply than an engine may get
    """
    # A null in the text may be a NaN that orjson has written so; with all that are None apart, that is rarely in doubt.
    given = {name: value for name, value in values.items() if value is not None}
    text = jsontext.encode_plain(given)
    if text is None:
        given = jsontext.decoded(given)
        nesting.measure(given)
        # Templates in YAML may hold sets, dates and bytes: they become what oslo.messaging makes of them.
        try:
            text = jsonutils.dumps(given).encode("ascii")
        except TypeError:  # a key that only Heat's serializer has a word for
            text = jsonutils.dumps(jsonutils.to_primitive(given, convert_instances=True)).encode("ascii")
    text = text[1:-1]
    if len(given) == len(values):
        return text
    nothing = _nulls(tuple([name for name, value in values.items() if value is None]))
    return text + b"," + nothing if text else nothing


@functools.lru_cache(1024)  # of names in the program, never of names that came with a request
def _nulls(names: tuple[str, ...]) -> bytes:
    return b",".join([orjson.dumps(name) + b":null" for name in names])


def context_of(context: RequestContext) -> tuple[bytes, dict[str, Any]]:
    """What a context says: the Caller's part, ready for the envelope with a comma before it, out of the Caller's memo;
    and the request's part as members of the message. A context without a Caller is all the second.
    """
    caller = context.caller
    encoded = None if caller is None else caller.encoded or _encode_caller(caller, context)
    if encoded is None:
        return b"", {f"_context_{name}": value for name, value in context.to_rpc().items()}
    values = {wire: getattr(context, name) for wire, name in _REQUEST_MEMBERS}
    if context.trace_info:
        values["_context_trace_info"] = context.trace_info
    return encoded, values


def _encode_caller(caller: Caller, context: RequestContext) -> bytes | None:
    """Fill the memo; None if the context says something that neither list above knows."""
    values = context.to_rpc()
    if not OF_CALLER.union(OF_REQUEST, ("trace_info",)).issuperset(values):
        return None
    own = {f"_context_{name}": value for name, value in values.items() if name in OF_CALLER}
    encoded: bytes = b"," + escaped(members(own))
    caller.keep_encoded(encoded)
    return encoded


def encode_call(
    context: RequestContext,
    method: str,
    arguments: dict[str, Any],
    version: str,
    msg_id: str,
    reply_queue: str,
    unique_id: str,
) -> bytes:
    """The body of a call.

    :raises TypeError, ValueError: an argument has no form in JSON
    :raises RecursionError: it is nested more deeply than an engine may get
    """
    head = (
        f'{{"method":"{method}","version":"{version}","_msg_id":"{msg_id}","_reply_q":{_text(reply_queue)},'
        f'"_timeout":null,"_unique_id":"{unique_id}","args":{{'
    )
    return _body(head.encode(), arguments, context)


def encode_cast(context: RequestContext, method: str, arguments: dict[str, Any], version: str, unique_id: str) -> bytes:
    """The body of a message that nobody answers. Raises as encode_call."""
    head = f'{{"method":"{method}","version":"{version}","_unique_id":"{unique_id}","args":{{'
    return _body(head.encode(), arguments, context)


def _text(value: str) -> str:
    return orjson.dumps(value).decode()


def _body(head: bytes, arguments: dict[str, Any], context: RequestContext) -> bytes:
    # The names in the head are ours and need no escapes of their own.
    encoded, values = context_of(context)
    text = b"%b%b},%b" % (head, members(arguments), members(values))
    return b"%b%b%b%b" % (_BEGIN, escaped(text), encoded, _END)


_GZIP, _BZIP = "application/x-gzip", "application/x-bz2"
#: What kombu_compression may say -> what the header of a message says. oslo.messaging's description names bz2, but
#: kombu knows it by other names only.
COMPRESSIONS = {
    "gzip": _GZIP, "zlib": _GZIP, _GZIP: _GZIP, "bz2": _BZIP, "bzip": _BZIP, "bzip2": _BZIP, _BZIP: _BZIP
}  # fmt: skip


def compressed(body: bytes, how: str) -> bytes:
    """:param how: a key of COMPRESSIONS"""
    return zlib.compress(body) if COMPRESSIONS[how] == _GZIP else bz2.compress(body)


def plain(body: bytes) -> bytes:
    """Undo a compression, if there is one. Its first bytes tell; no JSON begins like that.

    :raises MalformedReply:
    """
    try:
        if body.startswith(b"BZh"):
            return bz2.decompress(body)
        if body.startswith(b"x"):
            return zlib.decompress(body)
    except (OSError, ValueError, zlib.error, EOFError) as error:
        raise MalformedReply("compressed in a way that cannot be undone") from error
    return body


# Decoding


def decode_reply(body: bytes) -> Reply:
    """:raises MalformedReply:"""
    return _reply(_message(body))


def _reply(message: dict[str, Any]) -> Reply:
    msg_id = message.get("_msg_id")
    failure = message.get("failure")
    if not isinstance(msg_id, str):
        raise MalformedReply("a reply to nothing")
    if failure is not None:
        try:
            failure = json.loads(failure)
        except (TypeError, ValueError, RecursionError):
            failure = None
        if not isinstance(failure, dict):
            raise MalformedReply("a failure that cannot be read")
    # oslo.messaging's clients take a reply for the last one only if it says so.
    return Reply(msg_id, message.get("result"), failure, bool(message.get("ending", False)))


def success_of(body: bytes) -> str | None:
    """The _msg_id of a reply that holds a result, by its two ends alone; None where these do not say it for certain.

    What is certain: that it is this reply, and a result, if it is JSON with one ``oslo.message``. So whoever decodes it
    later looks again, see ``result_of``.
    """
    if _RESULT_BEGINS(body) is None:
        return None
    end = _end_of(body)
    return None if end is None else end[1].decode()


def _end_of(body: bytes) -> re.Match[bytes] | None:
    return _RESULT_ENDS(body, max(0, len(body) - _LONGEST_END))


def elements_of(body: bytes) -> tuple[int, int] | None:
    """Where in a reply the text of a list's elements begins and ends; it is escaped once more, as text in JSON.

    :returns: None where there is no such list, or nothing in it, or ``success_of`` does not know the reply. What is
        between the two is not looked at
    """
    begin, end = _LIST_BEGINS(body), _end_of(body)
    if begin is None or end is None or body[end.start() - 1] != ord("]") or begin.end() >= end.start() - 1:
        return None
    return begin.end(), end.start() - 1


def result_of(body: bytes, only_plain: bool = False) -> Any:
    """Decode a reply of which ``success_of`` has said whose it is.

    :param only_plain: refuse NaN, lone surrogates and the like, of which orjson is not sure
    :raises MalformedReply: it is something else after all
    """
    reply = _reply(_message(body, jsontext.decode_certain if only_plain else jsontext.decode))
    if reply.msg_id != success_of(body) or reply.failure is not None or not reply.ending:
        raise MalformedReply("a reply whose end says something else")
    return reply.result


def id_in(body: bytes) -> str | None:
    """The id of the call that a malformed reply is meant for; None where that is not certain."""
    try:
        found = set(_IDS(body if body.startswith(b"{") else plain(body)))
    except MalformedReply:
        return None
    return found.pop().decode() if len(found) == 1 else None


def unique_id_of(body: bytes) -> str | None:
    """The id of a message of ours that the broker has sent back; None if it is not one."""
    try:
        found = _message(body).get("_unique_id")
    except MalformedReply:
        return None
    return found if isinstance(found, str) else None


def _message(body: bytes, decode: Callable[[bytes], Any] = jsontext.decode) -> dict[str, Any]:
    try:
        # Texts alone are wanted of this one, so it does not matter how numbers in it are read.
        envelope = orjson.loads(body if body.startswith(b"{") else plain(body))
        message = decode(envelope["oslo.message"].encode("utf-8", "surrogatepass"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MalformedReply("no message of oslo.messaging") from error
    if not isinstance(message, dict):
        raise MalformedReply("no message of oslo.messaging")
    return message

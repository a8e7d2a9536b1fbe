"""Large listings of stacks out of the text of the engine's reply, without parsing it: what views.stack_page makes of
it, as JSON, the same to the byte.

In: a reply as it came from the broker. Out: the JSON of the answer, or None where something in it has another form than
Heat's engine gives it. Pure; runs in a helper process.

Parsing JSON in JSON into ten thousand mappings, making as many others, writing and forgetting both takes three times as
long as what is done here. That is exact, as every byte is accounted for: a row is matched whole, from the brace that
begins an element of the list, and its strings hold printable ASCII without a quote or a backslash. A row of another
form (a reason with a quote in it, tags) is cut out, parsed and rendered as anywhere else.
"""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

import orjson

from heatperf import jsontext
from heatperf.api import links, views
from heatperf.rpc import envelope

_PLAIN = rb"[ !#-\[\]-~]"
_TEXT = rb'\\"(%b*)\\"' % _PLAIN
#: An empty group is a null, so an empty string is not matched.
_TEXT_OR_NULL = rb'(?:null|\\"(%b+)\\")' % _PLAIN
#: A segment of a URL that needs no escapes, see links.
_SEGMENT = rb'\\"([0-9A-Za-z_~-][0-9A-Za-z_.~-]*)\\"'
#: Members of a row after its identity, in the engine's order, and their form.
_MEMBERS = {
    b"stack_name": _TEXT,
    b"description": _TEXT,
    b"stack_action": _TEXT,
    b"stack_status": _TEXT,
    b"stack_status_reason": _TEXT,
    b"creation_time": _TEXT,
    b"updated_time": _TEXT_OR_NULL,
    b"deletion_time": _TEXT_OR_NULL,
    b"stack_owner": _TEXT_OR_NULL,
    b"parent": _TEXT_OR_NULL,
    b"stack_user_project_id": _TEXT_OR_NULL,
    b"tags": rb"null",
}
_BEGIN = rb'\{\\"stack_identity\\": \{'
_ROW = b"".join(
    (
        _BEGIN,
        rb'\\"tenant\\": %b, \\"stack_name\\": %b, \\"stack_id\\": %b, \\"path\\": \\"\\"\}' % ((_SEGMENT,) * 3),
        *(rb', \\"%b\\": %b' % member for member in _MEMBERS.items()),
        rb"\}",
    )
)
# What is no such row goes to where the next one begins, or to the end: nothing is left between two matches.
_ROWS = re.compile(rb"(?s:%b|(\{.*?\}))(?:, (?=%b)|\Z)" % (_ROW, _BEGIN))

# If most of the first rows have another form, another engine has sent them, and parsing all at once is faster.
_SAMPLE = 16
# The same where a fourth of the bytes, or more, is in such rows.
_MOST_ODD = 4


def stack_page(body: bytes, base: str, with_project: bool, **page: Any) -> bytes | None:
    """Render a page of stacks.

    :param body: of a RawReply
    :param page: the rest of what views.stack_page is told
    :returns: JSON; None where the reply has to be parsed
    :raises Exception: a row that is none, or that views.stack does not take
    """
    span, start = envelope.elements_of(body), links.prefix(base)
    if span is None or start is None or body[span[0]] != ord("{") or body[span[1] - 1] != ord("}"):
        return None
    if sum(match[match.re.groups] is not None for match in islice(_ROWS.finditer(body, *span), _SAMPLE)) > _SAMPLE // 2:
        return None
    found = _ROWS.findall(body, *span)
    if len(found) > _SAMPLE and sum([len(row[-1]) for row in found]) > len(body) // _MOST_ODD:
        return None
    pieces = _pieces(found, start, base, with_project)
    last_id, odd = found[-1][2], found[-1][-1]
    last = orjson.loads(_odd(odd, base, with_project)) if odd else {"id": last_id.decode()}
    end = orjson.dumps(views.page_end(last, len(found), **page))
    pieces[-1] = pieces[-1].removesuffix(b",")
    pieces += (b"]", b"" if end == b"{}" else b",", end[1:])
    return b"".join(pieces)


def _pieces(found: Iterable[tuple[bytes, ...]], start: str, base: str, with_project: bool) -> list[bytes]:
    """The text of all rows, in pieces: joining them all at once takes a third less than making a row of each."""
    href = b'","links":[{"href":"%b' % orjson.dumps(start)[1:-1]
    pieces: list[bytes] = [b'{"stacks":[']
    add = pieces.extend
    for tenant, name, id_, shown, text, action, status, why, made, updated, gone, owner, parent, project, odd in found:
        if odd:
            add((_odd(odd, base, with_project), b","))
            continue
        add(
            (
                b'{"id":"', id_, href, tenant, b"/stacks/", name, b"/", id_, b'","rel":"self"}]',
                b',"project":"%b"' % tenant if with_project else b"",
                b',"stack_name":"', shown, b'","description":"', text,
                b'","stack_status":"', action, b"_", status, b'","stack_status_reason":"', why,
                b'","creation_time":"', made,
                b'","updated_time":',
                b'"%b","deletion_time":' % updated if updated else b'null,"deletion_time":',
                b'"%b","stack_owner":' % gone if gone else b'null,"stack_owner":',
                b'"%b","parent":' % owner if owner else b'null,"parent":',
                b'"%b","stack_user_project_id":' % parent if parent else b'null,"stack_user_project_id":',
                b'"%b","tags":null},' % project if project else b'null,"tags":null},',
            )
        )  # fmt: skip
    return pieces


def _odd(row: bytes, base: str, with_project: bool) -> bytes:
    """Render a row of any form, from its text inside the text.

    :raises Exception: it is none, or for the worker
    """
    text: str = orjson.loads(b'"%b"' % row)
    return orjson.dumps(views.stack(base, jsontext.decode_certain(text.encode()), True, with_project))

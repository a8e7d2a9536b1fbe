"""The request reader gives the same requests, and refuses at the same place, however its input is cut."""

import functools
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from heatperf.loops.base import HttpLimits
from heatperf.loops.http import KnownFields, ProtocolError, RequestReader
from heatperf.loops.wsgi import base_environ, build_environ

LIMITS = HttpLimits(max_request_line=200, max_header_line=120, max_header_bytes=300, max_headers=8, max_body=64)

HEADS = [
    b"GET /a HTTP/1.1\r\nHost: h\r\n",
    b"brew /\xc3\xa9?x=\xff HTTP/1.1\r\n",
    b"HEAD * HTTP/1.0\r\nConnection: keep-alive\r\n",
    b"\r\nPOST //x HTTP/1.1\r\nExpect: 100-continue\r\n",
    b"PUT / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n",
    b"GET /" + b"l" * 210 + b" HTTP/1.1\r\n",
    b"GET / HTTP/1.1\r\nA: " + b"v" * 130 + b"\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 9,
    b"GET / HTTP/2.0\r\n",
    b"G@T / HTTP/1.1\r\n",
]
ENDS = [
    b"\r\n",
    b"Content-Length: 4\r\n\r\n\r\n\r\n",
    b"Content-Length: 64\r\n\r\n" + b"0123456789abcdef" * 4,
    b"Content-Length: 65\r\n\r\n" + b"x" * 65,
    b"Transfer-Encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n1;e\r\na\r\n00\r\nT: u\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n41\r\n" + b"y" * 65 + b"\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
    b"Transfer-Encoding: gzip\r\n\r\n",
    b"Connection: close\r\n\r\n",
    b" folded\r\n\r\n",
    b"A\x00B: c\r\n\r\n",
    b"",
]

messages = st.builds(bytes.__add__, st.sampled_from(HEADS), st.sampled_from(ENDS))
streams = st.lists(messages, min_size=1, max_size=4).map(b"".join)


def read_all(pieces, known=None):
    """Every request and how it ended, as the connection drives the reader.

    A message with two mistakes may be refused for either, depending on which was complete first: the status is no
    part of the result (tests/wire has it for single mistakes).
    """
    reader = RequestReader(LIMITS, known)
    seen = []
    try:
        for piece in pieces:
            request = reader.receive(piece)
            while request is not None:
                if request.unread and request.chunked:
                    return seen, "refused"  # too large, or damaged: the same holds
                body = None if request.unread else request.body
                seen.append((request.method, request.target, request.version, tuple(request.headers), body))
                if request.unread or not request.keep_alive:
                    return seen, "closed"
                request = reader.receive(b"") if reader.started else None
    except ProtocolError:
        return seen, "refused"
    return seen, "more"


@settings(max_examples=400, deadline=None)
@given(streams, st.lists(st.integers(0, 600), max_size=6))
@example(HEADS[3] + ENDS[4] + HEADS[0] + ENDS[0], list(range(200)))
def test_cutting_changes_nothing(stream, places):
    places = sorted({0, len(stream), *(place for place in places if place < len(stream))})
    pieces = [stream[a:b] for a, b in zip(places, places[1:], strict=False)]
    assert read_all(pieces) == read_all([stream])


@settings(max_examples=400, deadline=None)
@given(messages, st.integers(0, 400), st.binary(max_size=3))
def test_damaged_input_is_refused_or_understood_alike(message, place, noise):
    damaged = message[:place] + noise + message[place + len(noise) :] + HEADS[0] + ENDS[0]
    whole = read_all([damaged])
    bytewise = read_all([damaged[i : i + 1] for i in range(len(damaged))])
    assert whole == bytewise


@given(st.binary(max_size=300))
def test_nothing_but_protocol_errors_escapes(data):
    read_all([data, data])


LINES = st.one_of(
    st.sampled_from([head.partition(b"\r\n")[0] for head in HEADS]),
    st.builds(
        b"%b %b HTTP/%b".__mod__,
        st.tuples(
            st.sampled_from([b"GET", b"HEAD", b"DELETE", b"POST", b"CONNECT", b"get", b""]),
            st.one_of(
                st.sampled_from([b"/", b"*", b"/a?b=c&d", b"http://h/a", b"/%41#f", b" /", b"/ ", b"/a b", b"", b"?"]),
                st.binary(max_size=4).map(b"/".__add__),
            ),
            st.sampled_from([b"1.1", b"1.1", b"1.0", b"2.0", b"1.1 ", b"1.10"]),
        ),
    ),
)
FIELDS = st.lists(
    st.sampled_from(
        [
            b"Host: h", b"hOST: i", b"X-A: 1", b"X-A: 2 ", b"X_A: 3", b"Cookie: a", b"Cookie: b",
            b"Connection: close", b"Connection: Upgrade", b"Upgrade: h2c", b"Expect: 100-continue",
            b"Content-Length: 0",
            b"Content-Length: 2", b"Transfer-Encoding: chunked", b"X-Forwarded-Proto: https", b"Content-Type: x",
            b"B\xc3: c", b" folded", b"",
        ]
    ),
    max_size=9,
)  # fmt: skip


@given(LINES, FIELDS)
def test_known_fields_change_nothing(line, fields):
    """A request after others with the same header section, against one that is the first of its connection."""
    section = b"".join(b"\r\n" + field for field in fields) + b"\r\n\r\n"
    known = KnownFields()
    told = []
    for warm in (True, False):
        reader = RequestReader(LIMITS, known)
        try:
            for _ in range(3 * warm):
                request = reader.receive(b"GET /warm HTTP/1.1" + section)
                if request is not None:
                    build_environ(request, base_environ(("", ""), ("", ""), "http"))
                if request is None or not request.keep_alive:
                    reader = RequestReader(LIMITS, known)
        except ProtocolError:
            reader = RequestReader(LIMITS, known)
        if not warm:
            known.clear()
        try:
            request = reader.receive(line + section)
        except ProtocolError as error:
            told.append((error.status, str(error)))
            continue
        if request is None:
            told.append((reader.started, reader.in_body))
            continue
        environ = build_environ(request, base_environ(("", ""), ("", ""), "http"))
        assert environ.pop("wsgi.input").read() == request.body
        told.append((request.keep_alive, request.chunked, request.headers, environ, reader.started))
    assert told[0] == told[1]


@functools.cache
def all_sections_known():
    known = KnownFields()
    for head in HEADS:
        for end in ENDS:
            section = (head + end).lstrip().partition(b"\r\n")[2]
            for line in (b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"HEAD / HTTP/1.1\r\n"):
                read_all([line + section], known)
    assert known
    return known


@settings(max_examples=400, deadline=None)
@given(streams, st.lists(st.integers(0, 600), max_size=6))
def test_known_fields_change_nothing_in_a_stream_that_is_cut_anywhere(stream, places):
    """Also in pieces that end where messages end, which are those that are looked up."""
    warm = all_sections_known()
    ends = [match.end() for match in re.finditer(rb"\r\n\r\n", stream)]
    for cuts in (places, [*places, *ends], ends):
        cuts = sorted({0, len(stream), *(place for place in cuts if place < len(stream))})
        pieces = [stream[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
        assert read_all(pieces, warm) == read_all(pieces)


def test_sections_are_known_from_the_third_request_on():
    known = KnownFields()
    reader = RequestReader(LIMITS, known)
    data = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
    assert [reader.receive(data).known is not None for _ in range(4)] == [False, False, True, True]
    other = RequestReader(LIMITS, known)
    assert other.receive(data.replace(b"GET /a", b"HEAD /b")).target == b"/b"
    for number in range(2000):
        for _ in range(2):
            RequestReader(LIMITS, known).receive(b"GET / HTTP/1.1\r\nX: %d\r\n\r\n" % number)
    assert 0 < len(known) <= 500 and len(known._once) <= 2000

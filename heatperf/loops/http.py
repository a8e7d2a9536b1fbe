"""Bytes to requests: HTTP/1.1 framing and limits, without any I/O.

Comes in: whatever the socket delivered, through ``RequestReader.receive``. Goes out: one complete Request at a time;
bytes that belong to the next one stay inside until receive is called again. Raises ProtocolError with the status to
answer; the connection is of no use afterwards. Loop thread; one reader per connection.

llhttp (through httptools, strict as it comes) does the parsing. It is fed so that no piece ever reaches past the end
of a head or of a body, which gives exact message boundaries without reading its position:

* a head is fed up to CRLFCRLF, a body of known length up to that length;
* a chunked body, trailers included, can only end with CRLFCRLF too (RFC 9112 7.1), so it is fed from one such place to
  the next until llhttp says that it is complete.

The request line is looked at before llhttp sees it, for two things llhttp refuses and upstream's servers pass on:
method tokens it does not know, and bytes above 0x7f in the target.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any, NoReturn

import httptools

from heatperf.errors import BodyTooLarge, HeatperfError
from heatperf.loops.base import HttpLimits

# Methods whose name has no influence on llhttp's framing. All others are shown to it as POST: CONNECT and PRI would
# change its state, RTSP's are refused, and so is what it has never heard of.
PLAIN_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")  # RFC 9110 5.6.2; the length is ours
NOT_ASCII = re.compile(rb"[\x80-\xff]")
CRLFCRLF = b"\r\n\r\n"
# Chunk sizes, extensions and trailers are overhead; a chunk of one byte costs five more.
CHUNK_OVERHEAD_PER_BYTE = 8

HEAD, BODY, CHUNKS = "head", "body", "chunks"
# Sections of headers that are remembered per worker, and for which requests that may be: see KnownFields.
MAX_KNOWN = 500
BODILESS_METHODS = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS"})
NOT_KEPT = frozenset({b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"te", b"trailer"})
ORDINARY = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/?&=%:,+"  # in a target
VERSION_1_1 = b" HTTP/1.1"
# Lengths of the names of the headers that framing depends on: Host, Expect, Content-Length, Transfer-Encoding.
FRAMING_SIZES = frozenset({4, 6, 14, 17})


class ProtocolError(HeatperfError):
    """What the client sent is not acceptable HTTP; answer ``status`` and close."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class UnreadBody:
    """wsgi.input of a request whose body stays on the wire: reading it raises BodyTooLarge."""

    def __init__(self, length: int | None) -> None:
        """:param length: as declared, None for a chunked body"""
        self._length = length

    def _refuse(self, *args: Any) -> NoReturn:
        raise BodyTooLarge(self._length)

    read = readline = readlines = __iter__ = __next__ = _refuse

    def close(self) -> None:
        """As files have it."""


class Request:
    """One request: the head, and the body unless ``unread``."""

    # Defaults of the class cost nothing per request.
    keep_alive = True
    chunked = False
    length = 0
    body = b""
    unread = False
    known: Fields | None = None

    def __init__(self, method: bytes, target: bytes, version: str, headers: list[tuple[bytes, bytes]]) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers


class Fields:
    """The header fields of a request, as they have been parsed once.

    :ivar environ: what they are in a WSGI environ, for wsgi.build_environ to keep
    """

    __slots__ = ("fields", "environ")

    def __init__(self, fields: list[tuple[bytes, bytes]]) -> None:
        self.fields = fields
        self.environ: dict[str, Any] | None = None


class KnownFields(dict[bytes, Fields]):
    """Header sections that came more than once, byte for byte, with requests that have no body.

    A client sends the same section with each request of a kind, and parsing it takes most of the time that a request
    costs here. Equal bytes after a request line of HTTP/1.1 mean the same, so llhttp needs not see them again. One for
    each worker; they hold tokens, as the token cache does, and are as many as MAX_KNOWN.
    """

    def __init__(self) -> None:
        super().__init__()
        # Hashes of sections that came once: most of those of clients that never send the same again stay out.
        self._once: set[int] = set()

    def meet(self, section: bytes, request: Request) -> None:
        """A request has come with this section, which llhttp has found to be right; the second time it is kept."""
        mark = hash(section)
        if mark in self._once:
            self._once.discard(mark)
            self._keep(section, request)
            return
        if len(self._once) >= 4 * MAX_KNOWN:
            self._once.clear()
        self._once.add(mark)

    def _keep(self, section: bytes, request: Request) -> None:
        if request.version != "1.1" or not request.keep_alive:
            return
        if any(name.lower() in NOT_KEPT for name, _value in request.headers):
            return  # framing depends on it
        if len(self) >= MAX_KNOWN:
            self.clear()
        self[section] = Fields(request.headers)


class RequestReader:
    """See the module's text. ``started`` tells a half-received request from an idle connection.

    :param known: shared by the readers of a worker
    """

    __slots__ = (
        "_limits", "_parser", "_pending", "_small_head", "_fresh", "_phase", "_line_done", "_method", "_target",
        "_headers", "_request", "_error", "_head_bytes", "_tail", "_body", "_body_bytes", "_raw_bytes", "_complete",
        "_expects", "_known", "on_header",
    )  # fmt: skip

    def __init__(self, limits: HttpLimits, known: KnownFields | None = None) -> None:
        self._limits = limits
        self._known = KnownFields() if known is None else known
        self._headers: list[tuple[bytes, bytes]] = []
        # The one thing that is called for each header; a closure is faster than a method.
        add = self._headers.append
        self.on_header: Callable[[bytes, bytes], None] = lambda name, value: add((name, value))
        self._parser = httptools.HttpRequestParser(self)
        self._pending = b""
        # A head that is smaller as a whole needs no look at its lines.
        self._small_head = min(limits.max_header_line, limits.max_header_bytes, limits.max_request_line)
        self._begin()

    def _begin(self) -> None:
        self._fresh = True  # nothing below has changed
        self._phase = HEAD
        self._line_done = False
        self._method = b""
        self._target = b""
        self._headers.clear()
        self._request: Request | None = None
        self._error: ProtocolError | None = None
        self._head_bytes = 0
        self._tail = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._raw_bytes = 0
        self._complete = False
        self._expects = False

    @property
    def started(self) -> bool:
        """Some of the next request has arrived."""
        return bool(self._pending) or self._head_bytes > 0

    @property
    def in_body(self) -> bool:
        """The head is complete and the body is being received."""
        return self._request is not None

    def take_continue(self) -> bool:
        """True once per request that waits for 100 Continue and whose body we are going to read (RFC 9110 10.1.1)."""
        expects, self._expects = self._expects, False
        return expects and self._request is not None and not self._raw_bytes

    def receive(self, data: bytes) -> Request | None:
        """
        :param data: bytes from the client; b"" to look at what is already here
        :returns: the next complete request, or None when more bytes are needed
        :raises ProtocolError: see the class
        """
        if self._pending:
            data = self._pending + data
            self._pending = b""
        if self._fresh and data:
            request = self._receive_whole(data)
            if request is not None:
                return request
            if not self._fresh:
                data = b""
        if self._phase is HEAD and data:
            self._fresh = False
            data = self._receive_head(data)
        request = self._request
        if request is None:
            return None
        if not self._complete and not request.unread:
            if self._phase is BODY:
                data = self._receive_body(data, request)
            elif self._phase is CHUNKS:
                data = self._receive_chunks(data, request)
        if not self._complete and not request.unread:
            return None
        self._pending = data
        if not request.unread:
            if self._body:
                request.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._begin()
        return request

    # Head

    def _receive_whole(self, data: bytes) -> Request | None:
        """Nearly all requests come as one small piece, and have no body and nothing to be made palatable.

        :returns: None for all others. ``_fresh`` tells whether the bytes are yet to be taken in
        """
        size = len(data)
        if size > self._small_head or data.find(CRLFCRLF) != size - 4:
            return None
        line_end = data.find(b"\r\n")
        section = data[line_end:]
        fields = self._known.get(section)
        if fields is not None and (request := request_with(data[:line_end], fields)) is not None:
            return request
        method = data[: data.find(b" ", 0, 9)]
        if method not in PLAIN_METHODS or not data.isascii():
            return None
        self._method = method
        upgrade = self._feed(data)
        if self._error is not None:
            raise self._error
        request = self._request
        if request is None or not self._complete or request.length or len(request.headers) > self._limits.max_headers:
            self._fresh = False
            self._line_done = True
            self._head_bytes = size
            if request is not None:
                self._finish_head(request, upgrade)
            return None
        # The rest of what _begin() does would change nothing.
        self._target = b""
        self._request = None
        self._complete = self._expects = False
        self._known.meet(section, request)
        return request

    def _receive_head(self, data: bytes) -> bytes:
        if not self._line_done:
            prepared = self._prepare_line(data)
            if prepared is None:
                return b""
            data = prepared
        piece, rest = self._split(data)
        self._head_bytes += len(piece)
        upgrade = self._feed(piece)
        request = self._request
        if len(self._target) > self._limits.max_request_line:
            raise ProtocolError(414, "The request target is too long")
        if self._error is not None:
            raise self._error
        if request is None:
            if self._head_bytes > self._limits.max_request_line + self._limits.max_header_bytes:
                raise ProtocolError(431, "The request head is too large")
            return b""
        self._finish_head(request, upgrade)
        return rest

    def _prepare_line(self, data: bytes) -> bytes | None:
        """Hold the first line back until it is whole, note method and target, and make it palatable to llhttp."""
        if data[0] in b"\r\n":  # RFC 9112 2.2: empty lines before a request are ignored
            data = data.lstrip(b"\r\n")
        end = data.find(b"\n")
        if end < 0:
            if len(data) > self._limits.max_request_line + 128:
                raise ProtocolError(414, "The request line is too long")
            space = data.find(b" ", 0, 65)
            if not TOKEN.fullmatch(data if space < 0 else data[:space]) and data:
                raise ProtocolError(400, "The request line does not start with a method")
            self._pending = data
            return None
        space = data.find(b" ", 0, 65)
        method = data[: max(space, 0)]
        line = data[:end]
        if method not in PLAIN_METHODS:
            if not TOKEN.fullmatch(method):
                raise ProtocolError(400, "The request line does not start with a method")
            data = b"POST" + data[space:]
            end += 4 - space
        if not line.isascii():
            line = NOT_ASCII.sub(lambda match: b"%%%02X" % match[0][0], data[:end])
            data = line + data[end:]
        self._method = method
        self._line_done = True
        return data

    def _finish_head(self, request: Request, upgrade: bool) -> None:
        limits = self._limits
        if self._head_bytes > self._small_head or len(request.headers) > limits.max_headers:
            self._check_headers(request.headers)
        if request.length > limits.max_body:
            request.unread = True
        elif request.chunked or request.length:
            self._phase = CHUNKS if request.chunked else BODY
            self._tail = b""
            if upgrade:
                self._restart_for_body(request)

    def _check_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        sizes = [0] + [len(name) + len(value) + 4 for name, value in headers]  # ": " and CRLF
        if max(sizes) > self._limits.max_header_line:
            raise ProtocolError(431, "A header line is too long")
        if sum(sizes) > self._limits.max_header_bytes or len(headers) > self._limits.max_headers:
            raise ProtocolError(431, "The request headers are too large")

    def _restart_for_body(self, request: Request) -> None:
        # httptools takes a request that offers an upgrade (curl --http2 does) for complete at the end of its head,
        # and would parse the body as the next request. We never upgrade, so a fresh parser reads the body.
        self._complete = False
        self._parser = httptools.HttpRequestParser(self)
        framing = b"Transfer-Encoding: chunked" if request.chunked else b"Content-Length: %d" % request.length
        self._feed(b"POST / HTTP/1.1\r\n" + framing + CRLFCRLF)

    # Body

    def _receive_body(self, data: bytes, request: Request) -> bytes:
        missing = request.length - self._raw_bytes
        piece, rest = (data, b"") if len(data) <= missing else (data[:missing], data[missing:])
        self._raw_bytes += len(piece)
        self._feed(piece)
        return rest

    def _receive_chunks(self, data: bytes, request: Request) -> bytes:
        limits = self._limits
        while data and not self._complete:
            piece, data = self._split(data)
            self._raw_bytes += len(piece)
            self._feed(piece)
            if self._body_bytes > limits.max_body:
                request.unread = True
                return b""
            overhead = self._raw_bytes - self._body_bytes
            if overhead > limits.max_header_bytes + CHUNK_OVERHEAD_PER_BYTE * self._body_bytes:
                raise ProtocolError(400, "The chunked body has too much overhead")
        return data

    # Feeding

    def _split(self, data: bytes) -> tuple[bytes, bytes]:
        """Cut after the first CRLFCRLF, also where it began in an earlier piece."""
        tail = self._tail
        end = (tail + data).find(CRLFCRLF) if tail else data.find(CRLFCRLF)
        if end < 0:
            self._tail = (tail + data)[-3:]
            return data, b""
        end += 4 - len(tail)
        self._tail = b""
        if end == len(data):
            return data, b""
        return data[:end], data[end:]

    def _feed(self, piece: bytes) -> bool:
        """Returns whether llhttp stopped for an upgrade."""
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            return True
        except httptools.HttpParserError as exc:
            if self._error is not None:
                raise self._error from None
            raise refusal(exc) from None
        return False

    # What llhttp calls

    def on_url(self, url: bytes) -> None:
        if self._request is None:
            self._target += url

    def on_headers_complete(self) -> None:
        if self._request is not None:
            return
        version = self._parser.get_http_version()
        # Trailers arrive in the list too; nobody reads them, and they must not pass for headers (RFC 9110 6.5.1).
        headers = self._headers.copy()
        self._headers.clear()
        request = Request(self._method, self._target, version, headers)
        request.keep_alive = self._parser.should_keep_alive()
        if version == "1.1":
            pass
        elif version != "1.0":
            self._error = ProtocolError(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here")
        hosts = 0
        for name, value in headers:
            # Only names of these lengths matter to framing; looking at the length first spares most of the lowering.
            if len(name) in FRAMING_SIZES:
                lowered = name.lower()
                if lowered == b"host":
                    hosts += 1
                elif lowered == b"content-length":
                    request.length = int(value)
                elif lowered == b"transfer-encoding":
                    self._check_coding(request, value)
                elif lowered == b"expect" and value.strip().lower() == b"100-continue":
                    self._expects = version == "1.1"
        if hosts > 1:
            self._error = ProtocolError(400, "There is more than one Host header")
        self._request = request

    def _check_coding(self, request: Request, value: bytes) -> None:
        request.chunked = True
        if request.version == "1.0":
            # RFC 9112 6.1: faulty framing, and a favourite of request smuggling.
            self._error = ProtocolError(400, "Transfer-Encoding does not exist in HTTP/1.0")
        elif value.strip().lower() != b"chunked":
            # RFC 9112 6.1: 501 for a transfer coding that is not understood.
            self._error = ProtocolError(501, "The only transfer coding understood is chunked")

    def on_body(self, data: bytes) -> None:
        self._body.append(data)
        self._body_bytes += len(data)

    def on_message_complete(self) -> None:
        self._complete = True


def request_with(line: bytes, fields: Fields) -> Request | None:
    """A request of known fields; None unless its request line is an ordinary one, which llhttp would not object to."""
    space = line.find(b" ")
    method = line[:space]
    target = line[space + 1 : -9]
    if (
        line[-9:] != VERSION_1_1
        or method not in BODILESS_METHODS
        or target[:1] != b"/"
        or target.translate(None, ORDINARY)
    ):
        return None
    request = Request(method, target, "1.1", fields.fields)
    request.known = fields
    return request


def refusal(error: httptools.HttpParserError) -> ProtocolError:
    """llhttp's complaint as an answer; its texts name the rule, never the client's bytes."""
    text = ""
    with contextlib.suppress(IndexError):
        text = str(error.args[0])
    if "HTTP version" in text:
        return ProtocolError(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here")
    return ProtocolError(400, text or "The request cannot be understood")

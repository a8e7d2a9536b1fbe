"""PEP 3333 on both sides: a Request becomes an environ, what the application answers becomes bytes.

Comes in: Request, the connection's constant environ entries, the application. Goes out: bytes through the ``send``
callable that Response was given. Raises what the application raises, and ResponseError when the application breaks
PEP 3333 in a way that must not reach the wire. Loop thread, in the connection's greenlet.
"""

from __future__ import annotations

import logging
import sys
import time
import types
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from heatperf.errors import HeatperfError
from heatperf.loops.http import Request, UnreadBody

LOG = logging.getLogger("heatperf.http")

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], None]]
WSGIApplication = Callable[[Environ, StartResponse], Iterable[bytes]]
ExcInfo = tuple[type[BaseException], BaseException, types.TracebackType] | tuple[None, None, None]

# Hop-by-hop headers are the server's business (PEP 3333, "Other HTTP Features").
OWN_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer"})
NOTED_HEADERS = OWN_HEADERS | {"content-length", "date", "x-openstack-request-id"}
KNOWN_STATUSES = {f"{status.value} {status.phrase}" for status in HTTPStatus if status >= 200}
# What a proxy that has terminated TLS says, and uWSGI believes from everybody. All that follows is the scheme of the
# links in the answer to this very request; the http_proxy_to_wsgi filter decides on all else that proxies say.
# Where both are there and disagree, uWSGI goes by the scheme that is named.
FORWARDED_SCHEME, FORWARDED_SSL = "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_SSL"
MAX_KNOWN_NAMES = 2000


class ResponseError(HeatperfError):
    """The application's answer cannot be put on the wire."""


class ClientGone(HeatperfError):
    """The answer could not be delivered. Told apart from an OSError of the application's own."""


# Request


class HeaderKeys(dict[bytes, str | None]):
    """Header name as received -> environ key, or None for names that are dropped; filled as names are met.

    A name with an underscore would become the same key as its twin with a hyphen: X_Auth_Key could pass for
    X-Auth-Key, which proxies in front may be relied upon to remove. nginx drops them too.
    """

    def __missing__(self, name: bytes) -> str | None:
        key: str | None
        if b"_" in name:
            key = None
        else:
            key = name.decode("latin-1").upper().replace("-", "_")
            if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                key = "HTTP_" + key
        if len(self) < MAX_KNOWN_NAMES and len(name) <= 64:  # clients choose names: bounded memory
            self[name] = key
        return key


HEADER_KEYS = HeaderKeys()


def base_environ(peer: tuple[str, str], local: tuple[str, str], scheme: str) -> Environ:
    """The entries that are the same for all requests of a connection; addresses are ("", "") on a unix socket."""
    return {
        "SCRIPT_NAME": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "heatperf",
        "SERVER_NAME": local[0] or "localhost",
        "SERVER_PORT": local[1] or ("443" if scheme == "https" else "80"),
        "REMOTE_ADDR": peer[0],
        "REMOTE_PORT": peer[1],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def build_environ(request: Request, base: Environ) -> Environ:
    """The environ of one request.

    PATH_INFO is percent-decoded and then read as latin-1 (PEP 3333, "Unicode Issues"). CONTENT_LENGTH is absent with a
    chunked body; the decoded bytes are in wsgi.input and wsgi.input_terminated says that it ends by itself. That flag
    is set in no other case, because WebOb takes it for a body of unknown length.
    """
    environ = base.copy()
    text = request.target.decode("latin-1")
    environ["REQUEST_METHOD"] = request.method.decode("latin-1")
    if request.version != "1.1":
        environ["SERVER_PROTOCOL"] = "HTTP/" + request.version
    environ["RAW_URI"] = environ["REQUEST_URI"] = text
    path, _, query = (text.partition("#")[0] if "#" in text else text).partition("?")
    if path[:1] != "/" and path != "*":
        path = path_of_absolute(path)
    if "%" in path:
        path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = query
    known = request.known
    if known is None:
        _add_headers(environ, request.headers)
    else:
        if known.environ is None:
            headers: Environ = {}
            _add_headers(headers, request.headers)
            known.environ = headers  # only when it is complete
        environ.update(known.environ)
    if request.unread:
        environ["wsgi.input"] = UnreadBody(None if request.chunked else request.length)
    else:
        environ["wsgi.input"] = BytesIO(request.body)
    if request.chunked:
        environ["wsgi.input_terminated"] = True
    return environ


def _add_headers(environ: Environ, headers: list[tuple[bytes, bytes]]) -> None:
    keys = HEADER_KEYS
    for name, value in headers:
        key = keys[name]
        if key is None:
            continue
        content = value.decode("latin-1").rstrip(" \t")
        if key in environ:
            # RFC 9110 5.3, and 6265 4.2.1 for the one header whose parts are parted by semicolons.
            content = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + content
        environ[key] = content
    if FORWARDED_SCHEME in environ or FORWARDED_SSL in environ:
        forwarded = environ.get(FORWARDED_SCHEME)
        if forwarded == "https" or (not forwarded and environ.get(FORWARDED_SSL) == "on"):
            environ["wsgi.url_scheme"] = "https"


def path_of_absolute(target: str) -> str:
    """The path of an absolute-form target, "http://host/path" (RFC 9112 3.2.2).

    The Host header stays as received: upstream builds its links from it whatever the request line says.
    """
    rest = target.partition("://")[2]
    _, slash, path = rest.partition("/")
    return slash + path if slash else "/"


# Response


class NotedNames(dict[str, str | None]):
    """Header name as the application writes it -> in small letters if the server takes note of it; filled as met."""

    def __missing__(self, name: str) -> str | None:
        lowered = name.lower()
        noted = lowered if lowered in NOTED_HEADERS else None
        if len(self) < MAX_KNOWN_NAMES and len(name) <= 64:
            self[name] = noted
        return noted


NOTED_NAMES = NotedNames()


def _check_status(status: str) -> None:
    if len(status) < 4 or not status[:3].isdigit() or status[3] != " " or status[0] == "1":
        raise ResponseError(f"The status {status!r} is not three digits, a space and a reason")


class Clock:
    """The Date header, formatted once per second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = ""

    def line(self) -> str:
        """ "Date: ...\\r\\n" """
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._line = f"Date: {formatdate(now, usegmt=True)}\r\n"
        return self._line


CLOCK = Clock()


class Response:
    """One answer: start_response, write, and the serialising.

    :param send: takes bytes to the client; called once for an answer whose size is known
    :param head_only: the request is a HEAD
    :param version: "1.0" or "1.1", as the client speaks
    :param keep_alive: whether the connection may go on; read it again afterwards
    """

    # Defaults of the class cost nothing per request.
    status = ""
    body_bytes = 0
    request_id = "-"
    started = False  # the head is on the wire
    _bodiless = False
    _headers: list[tuple[str, str]] | None = None
    _length: int | None = None
    _dated = False
    _chunked = False

    def __init__(self, send: Callable[[bytes], None], head_only: bool, version: str, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self._deliver = send
        self._head_only = head_only
        self._http10 = version != "1.1"

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333. Headers may be replaced with exc_info as long as none has been sent."""
        if exc_info is not None:
            try:
                if self.started and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # PEP 3333: avoid the circular reference
        elif self._headers is not None:
            raise ResponseError("start_response was called twice without exc_info")
        if status not in KNOWN_STATUSES:
            _check_status(status)
        self.status = status
        self._bodiless = self._head_only or status[:3] in ("204", "304")
        self._headers = headers
        return self.write

    def write(self, data: bytes) -> None:
        """PEP 3333's imperative way out: what it is given leaves before it returns."""
        if not self.started:
            self._start(None)
        self._send_part(data)

    def finish(self, result: Iterable[bytes]) -> None:
        """Send what the application returned, in one piece where its size is known."""
        if isinstance(result, list | tuple) and not self.started:
            self._send_whole(result[0] if len(result) == 1 else b"".join(result))
            return
        for part in result:
            if part:
                self.write(part)
        if not self.started:
            self._send_whole(b"")
        elif self._chunked:
            self._send(b"0\r\n\r\n")
        elif self._length is not None and not self._head_only and self.body_bytes != self._length:
            self._wrong_length(self.body_bytes)

    def answer_plainly(self, status: str, text: str, extra: str) -> None:
        """Send the server's own words in place of an answer that has not begun; see plain_answer for ``extra``."""
        if self._http10 and self.keep_alive:
            extra += "Connection: keep-alive\r\n"
        answer = plain_answer(status, text, self.keep_alive, extra, self._head_only)
        self.status = status
        self.started = True
        self.body_bytes = 0 if self._head_only else len(text) + 1
        self._send(answer)

    def _send(self, data: bytes) -> None:
        try:
            self._deliver(data)
        except OSError as exc:
            raise ClientGone(str(exc)) from exc

    def _send_whole(self, body: bytes) -> None:
        size = len(body)
        head = self._head(size)
        if self._bodiless:
            body = b""
        elif self._length != size and self._length is not None:
            self._wrong_length(size)
            body = body[: self._length]
        self.body_bytes = len(body)
        self.started = True
        self._send(head + body)

    def _start(self, size: int | None) -> None:
        head = self._head(size)
        self.started = True
        self._send(head)

    def _send_part(self, data: bytes) -> None:
        if not data or self._bodiless:
            return
        if self._length is not None:
            room = self._length - self.body_bytes
            if len(data) > room:
                self._wrong_length(self.body_bytes + len(data))
                data = data[:room]
        self.body_bytes += len(data)
        if data:
            self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def _wrong_length(self, real: int) -> None:
        # The client would wait for the rest, or take the surplus for the next answer.
        LOG.error("The application announced %s bytes of body and delivered %s", self._length, real)
        self.keep_alive = False

    def _head(self, size: int | None) -> bytes:
        """Status line and headers. ``size`` is that of the body where it is known."""
        if self._headers is None:
            raise ResponseError("The application did not call start_response")
        lines = [f"HTTP/1.1 {self.status}\r\n"]
        noted = NOTED_NAMES
        for name, value in self._headers:
            lowered = noted[name]
            if lowered is None or self._note(lowered, value):
                lines.append(f"{name}: {value}\r\n")
        if not self._dated:
            lines.append(CLOCK.line())
        if self._length is None or self._http10 or not self.keep_alive:
            self._frame(size, lines)
        head = "".join(lines)
        # Counting finds a line break inside any of them without looking at each (response splitting).
        if head.count("\n") != len(lines) or head.count("\r") != len(lines) or "\0" in head:
            raise ResponseError("A response header contains a line break or NUL")
        try:
            return head.encode("latin-1") + b"\r\n"
        except UnicodeEncodeError:
            raise ResponseError("A response header is not latin-1") from None

    def _note(self, lowered: str, value: str) -> bool:
        """Take note of a header that concerns the server; False drops it from the application's list."""
        if lowered == "content-length":
            # RFC 9110 8.6: none with 204; and one that is no number would desynchronise the connection.
            if self.status[:3] == "204":
                return False
            if not (value.isascii() and value.isdigit()):
                raise ResponseError("Content-Length of the response is not a number")
            self._length = int(value)
        elif lowered == "date":
            self._dated = True
        elif lowered == "x-openstack-request-id":
            self.request_id = value
        else:
            if lowered == "connection" and value.lower() == "close":
                self.keep_alive = False
            return False
        return True

    def _frame(self, size: int | None, lines: list[str]) -> None:
        """How the client finds the end of the body (RFC 9112 6.3)."""
        if self._length is None and self.status[:3] not in ("204", "304"):
            if size is not None:
                self._length = size
                lines.append(f"Content-Length: {size}\r\n")
            elif self._http10:
                self.keep_alive = False
            else:
                self._chunked = not self._head_only
                lines.append("Transfer-Encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append("Connection: close\r\n")
        elif self._http10:
            lines.append("Connection: keep-alive\r\n")


def plain_answer(status: str, text: str, keep_alive: bool, extra: str = "", head_only: bool = False) -> bytes:
    """A complete text/plain answer of the server itself.

    :param extra: further header lines, each with its CRLF
    """
    body = text.encode("utf-8", "replace") + b"\n"
    connection = "" if keep_alive else "Connection: close\r\n"
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        f"{CLOCK.line()}{extra}{connection}\r\n"
    )
    return head.encode("latin-1") + (b"" if head_only else body)

"""One greenlet per connection: read a request, call the application, send the answer, again.

Comes in: a Stream from the loop. Goes out: answers, and a line in the access log for each. Raises nothing: a client's
mistakes become 4xx answers, an application's exception a 500 with its traceback in the log, and the worker lives.
Each request runs in a contextvars.Context of its own, so nothing it sets is seen by the next request on the connection
or by other greenlets.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import time
from http import HTTPStatus

from heatperf.errors import BodyTooLarge, Overloaded
from heatperf.loops import access_log
from heatperf.loops.base import INFINITE, HttpLimits, Interrupted, Loop, Stream, Waiter
from heatperf.loops.http import ProtocolError, Request, RequestReader
from heatperf.loops.wsgi import (
    ClientGone,
    Environ,
    Response,
    WSGIApplication,
    base_environ,
    build_environ,
    plain_answer,
)

LOG = logging.getLogger("heatperf.http")

RECEIVE = 65_536
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
monotonic = time.monotonic


class HttpServer:
    """What the connections of one worker share. ``handle`` is the handler for Loop.serve."""

    def __init__(self, loop: Loop, wsgi: WSGIApplication, limits: HttpLimits, access_log: bool = True) -> None:
        self.loop = loop
        self.wsgi = wsgi
        self.limits = limits
        self.access_log = access_log
        self.draining = False
        self.connections: set[Connection] = set()
        self._empty: Waiter | None = None

    def handle(self, stream: Stream) -> None:
        """Serve one connection to its end, and close it; parks, raises nothing."""
        connection = Connection(self, stream)
        self.connections.add(connection)
        try:
            connection.run()
        finally:
            self.connections.discard(connection)
            stream.close()
            if self._empty is not None and not self.connections:
                self._empty.wake()

    def drain(self) -> None:
        """Let requests in flight end, close idle connections; park until none is left."""
        self.draining = True
        self.loop.sleep(0)  # connections accepted a moment ago get to start
        for connection in list(self.connections):
            connection.drain()
        if self.connections:
            self._empty = self.loop.waiter()
            self._empty.wait()


class Connection:
    """See the module's text."""

    __slots__ = ("server", "stream", "_reader", "_environ", "_idle", "_client", "_response")

    def __init__(self, server: HttpServer, stream: Stream) -> None:
        self.server = server
        self.stream = stream
        self._reader = RequestReader(server.limits)
        self._environ: Environ = {}
        self._idle = False
        self._client = stream.peer[0]
        self._response: Response | None = None

    def run(self) -> None:
        """Handshake, then request after request, until one side has enough. Does not close the stream."""
        stream = self.stream
        limits = self.server.limits
        stream.send_timeout = limits.send_timeout
        try:
            stream.deadline = monotonic() + limits.header_deadline
            stream.start()
            self._environ = base_environ(stream.peer, stream.local, stream.scheme)
            while self._serve_one():
                pass
        except ProtocolError as exc:
            self._refuse(exc)
        except (OSError, Interrupted) as exc:
            LOG.debug("Connection of %s ended: %r", self._client, exc)
        except Exception:
            LOG.exception("Unexpected error on a connection of %s", self._client)

    def drain(self) -> None:
        """The worker is leaving: an idle connection ends now, a busy one after its answer, which says so."""
        if self._idle:
            self.stream.interrupt()
        if self._response is not None:
            self._response.keep_alive = False

    # Reading

    def _serve_one(self) -> bool:
        """Returns whether the connection goes on."""
        request = self._next_request()
        if request is None:
            return False
        self.stream.deadline = INFINITE
        going_on = contextvars.Context().run(self._answer, request)
        if not going_on and (request.unread or self._reader.started):
            self._linger()
        return going_on

    def _next_request(self) -> Request | None:
        """The next request; None at the client's end, after the idle timeout, or when the worker drains."""
        reader = self._reader
        stream = self.stream
        request = reader.receive(b"") if reader.started else None
        if request is None and not reader.started:
            data = self._first_bytes()
            if not data:
                return None
            request = reader.receive(data)
        if request is not None:
            return request
        stream.deadline = monotonic() + self.server.limits.header_deadline
        in_body = False
        while request is None:
            if not in_body and reader.in_body:
                in_body = True
                stream.deadline = monotonic() + self.server.limits.body_deadline
                if reader.take_continue():
                    stream.send_all(CONTINUE)
            try:
                data = stream.recv(RECEIVE)
            except TimeoutError:
                raise ProtocolError(408, "The request did not arrive in time") from None
            if not data:
                return None
            request = reader.receive(data)
        return request

    def _first_bytes(self) -> bytes:
        stream = self.stream
        if self.server.draining:
            return stream.recv_ready(RECEIVE)
        stream.deadline = monotonic() + self.server.limits.idle_timeout
        self._idle = True
        try:
            return stream.recv(RECEIVE, True)
        except Interrupted:
            # A request may have arrived while the worker decided to leave.
            return stream.recv_ready(RECEIVE)
        except TimeoutError:
            return b""
        finally:
            self._idle = False

    # Answering

    def _answer(self, request: Request) -> bool:
        """Call the application and send what it says. Runs inside the request's own Context."""
        server = self.server
        began = monotonic()
        keep_alive = request.keep_alive and server.limits.keep_alive and not server.draining and not request.unread
        response = Response(self.stream.send_all, request.method == b"HEAD", request.version, keep_alive)
        self._response = response
        try:
            self._call(request, response)
        except (Exception, SystemExit) as exc:
            self._fail(request, response, exc)
        self._response = None
        if server.access_log:
            access_log.log(
                self._client, request.method, request.target, request.version,
                response.status, response.body_bytes, monotonic() - began, response.request_id,
            )  # fmt: skip
        return response.keep_alive

    def _call(self, request: Request, response: Response) -> None:
        environ = build_environ(request, self._environ)
        result = self.server.wsgi(environ, response.start_response)
        try:
            response.finish(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _fail(self, request: Request, response: Response, error: BaseException) -> None:
        """Answer for an application that raised. What it raised goes to the log, never to the client."""
        extra = ""
        if isinstance(error, ClientGone):
            LOG.debug("%s left before its answer was sent: %s", self._client, error)
            response.keep_alive = False
            return
        if isinstance(error, Overloaded):
            LOG.info("%s", error)
            status, text = "503 Service Unavailable", f"{error}. Try again later."
            extra = f"Retry-After: {error.retry_after}\r\n"
        elif isinstance(error, BodyTooLarge):
            status, text = "413 Content Too Large", "The request body is too large"
        else:
            path = access_log.escape(request.target.partition(b"?")[0].decode("latin-1"))
            LOG.error("The application failed at %s %s", request.method.decode("latin-1"), path, exc_info=error)
            status, text = "500 Internal Server Error", "Internal Server Error"
        if response.started:
            response.keep_alive = False  # cut off: the client sees that the answer is not complete
            return
        try:
            response.answer_plainly(status, text, extra)
        except ClientGone:
            response.keep_alive = False

    def _refuse(self, error: ProtocolError) -> None:
        """Answer a protocol error and close."""
        status = f"{error.status} {HTTPStatus(error.status).phrase}"
        answer = plain_answer(status, str(error), keep_alive=False)
        try:
            self.stream.deadline = INFINITE
            self.stream.send_all(answer)
        except (OSError, Interrupted) as exc:
            LOG.debug("Connection of %s ended: %r", self._client, exc)
        if self.server.access_log:
            access_log.log(self._client, b"-", b"-", "-", status, len(str(error)) + 1, 0.0, "-")
        self._linger()

    def _linger(self) -> None:
        """Throw away what the client still sends, for a while, so that it gets to read the answer.

        Closing a socket with unread bytes sends a reset, which lets the client's kernel discard our answer
        (RFC 9112 9.6).
        """
        stream = self.stream
        with contextlib.suppress(OSError, Interrupted):
            stream.shutdown_write()
            end = stream.deadline = monotonic() + self.server.limits.linger_timeout
            while stream.recv(RECEIVE) and monotonic() < end:
                self.server.loop.sleep(0)  # a client that sends faster than this reads must not keep others waiting

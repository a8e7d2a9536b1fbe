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
from heatperf.loops.base import INFINITE, HttpLimits, Interrupted, Loop, Observer, Stream, Waiter
from heatperf.loops.http import KnownFields, ProtocolError, Request, RequestReader
from heatperf.loops.wsgi import (
    ClientGone,
    Environ,
    Response,
    WSGIApplication,
    base_environ,
    build_environ,
    path_of_absolute,
    plain_answer,
)

LOG = logging.getLogger("heatperf.http")

RECEIVE = 65_536
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# How often a drain looks whether the loop has got the rest of the listeners' queues, in seconds.
REST_INTERVAL = 0.05
monotonic = time.monotonic


class HttpServer:
    """What the connections of one worker share. ``handle`` is the handler for Loop.serve.

    :ivar draining: the answers that begin from now on are their connections' last
    :ivar grace_over: besides, nobody waits for requests any more
    """

    def __init__(
        self,
        loop: Loop,
        wsgi: WSGIApplication,
        limits: HttpLimits,
        access_log: access_log.Sink | None = access_log.record,
        observer: Observer | None = None,
    ) -> None:
        """
        :param access_log: where its lines go, None for nowhere
        :param observer: told of each request that reaches the application; not of those refused for their form
        """
        self.loop = loop
        self.wsgi = wsgi
        self.limits = limits
        self.access_log = access_log
        self.draining = False
        self.grace_over = False
        self.connections: set[Connection] = set()
        self.known = KnownFields()
        self._observer = observer
        # In order of beginning, because dicts keep theirs.
        self._in_flight: dict[Connection, tuple[float, bytes]] = {}
        self._empty: list[Waiter] = []

    def handle(self, stream: Stream) -> None:
        """Serve one connection to its end, and close it; parks, raises nothing."""
        connection = Connection(self, stream)
        self.connections.add(connection)
        try:
            connection.run()
        finally:
            self.connections.discard(connection)
            stream.close()
            if not self.connections:
                waiters, self._empty = self._empty, []
                for waiter in waiters:
                    waiter.wake()

    def in_flight(self) -> int:
        """How many requests the application is working on, or whose answers are being sent."""
        return len(self._in_flight)

    def oldest(self) -> tuple[float, bytes] | None:
        """Of those, the one that began first.

        :returns: when it began, in seconds of time.monotonic(), and the line that the observer was given
        """
        return next(iter(self._in_flight.values()), None)

    def began(self, connection: Connection, moment: float, line: bytes) -> None:
        """The connection calls the application."""
        self._in_flight[connection] = (moment, line)
        if self._observer is not None:
            self._observer.began(line)

    def ended(self, connection: Connection) -> None:
        """The connection is done with the request that it began."""
        del self._in_flight[connection]
        if self._observer is not None:
            self._observer.ended()

    def drain(self, grace: float = 0.0) -> None:
        """Bring all connections to their end; park until none is left. For after Loop.stop_accepting.

        Requests in flight are answered, and one that has begun to arrive is read under its usual deadlines: their
        answers say ``Connection: close``. Connections that wait for a request, or have not even finished their TLS
        handshake, may still bring one until the grace is over. A client that the answer has told so knows better than
        to reuse a connection; one that finds its idle connection closed may already have sent its next request.

        May be called again, by another greenlet, to shorten the grace.

        :param grace: seconds; with 0, idle connections end now, and handshakes still have their own deadline
        """
        self.draining = True
        self.loop.sleep(0)  # connections accepted a moment ago get to start
        for connection in list(self.connections):
            connection.drain()
        timer = None
        if grace > 0:
            timer = self.loop.call_later(grace, self._end_grace, True)
        else:
            self._end_grace(False)
        while self.connections or self.loop.accepting_rest:
            if self.connections:
                waiter = self.loop.waiter()
                self._empty.append(waiter)
                waiter.wait()
            else:
                self.loop.sleep(REST_INTERVAL)
        if timer is not None:
            timer.cancel()

    def _end_grace(self, handshakes: bool) -> None:
        self.grace_over = True
        for connection in list(self.connections):
            connection.end_grace(handshakes)


class Connection:
    """See the module's text."""

    __slots__ = ("server", "stream", "_reader", "_environ", "_idle", "_shaking", "_client", "_response")

    def __init__(self, server: HttpServer, stream: Stream) -> None:
        self.server = server
        self.stream = stream
        self._reader = RequestReader(server.limits, server.known)
        self._environ: Environ = {}
        self._idle = False
        self._shaking = False
        self._client = stream.peer[0]
        self._response: Response | None = None

    def run(self) -> None:
        """Handshake, then request after request, until one side has enough. Does not close the stream."""
        stream = self.stream
        limits = self.server.limits
        stream.send_timeout = limits.send_timeout
        try:
            stream.deadline = monotonic() + limits.header_deadline
            self._shaking = True
            stream.start()
            self._shaking = False
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
        """The worker is leaving: an answer that has not begun says that it is the last. One that has begun has
        promised to listen further, so the next will say it."""
        response = self._response
        if response is not None and not response.started:
            response.keep_alive = False

    def end_grace(self, handshakes: bool) -> None:
        """The worker waits for requests no longer: an idle connection ends now, a busy one after its answer.

        :param handshakes: an unfinished handshake ends now too
        """
        if self._response is not None:
            self._response.keep_alive = False
        if self._idle:
            # Bytes of a TLS record that come in this very moment take precedence over the interrupt; what they begin
            # has the deadline of a request that has begun.
            deadline = monotonic() + self.server.limits.header_deadline
            self.stream.deadline = min(self.stream.deadline, deadline)
            self.stream.interrupt()
        elif handshakes and self._shaking:
            self.stream.interrupt()

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
        request = None
        idle = not reader.started
        if not idle:
            self._give_way()
            request = reader.receive(b"")
            idle = request is None and not reader.started
        if idle:
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

    def _give_way(self) -> None:
        """A pipelining client's requests may be here faster than they are answered, without ever a wait for bytes."""
        self.server.loop.sleep(0)

    def _first_bytes(self) -> bytes:
        stream = self.stream
        if stream.buffered:
            self._give_way()
        if self.server.grace_over:
            return stream.recv_ready(RECEIVE)
        stream.deadline = monotonic() + self.server.limits.idle_timeout
        self._idle = True
        try:
            return stream.recv(RECEIVE, True)
        except Interrupted:
            # A request may have arrived while the grace ended.
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
        server.began(self, began, line_of(request))
        try:
            self._call(request, response)
        except (Exception, SystemExit) as exc:
            self._fail(request, response, exc)
        finally:
            server.ended(self)
        self._response = None
        if server.access_log is not None:
            access_log.log(
                server.access_log, self._client, request.method, request.target, request.version,
                response.status, response.body_bytes, monotonic() - began, response.request_id,
            )  # fmt: skip
        return response.keep_alive

    def _call(self, request: Request, response: Response) -> None:
        environ = build_environ(request, self._environ)
        result = self.server.wsgi(environ, response.start_response)
        if type(result) is list:  # no close() to look for
            response.finish(result)
            return
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
        sink = self.server.access_log
        if sink is not None:
            access_log.log(sink, self._client, b"-", b"-", "-", status, len(str(error)) + 1, 0.0, "-")
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


def line_of(request: Request) -> bytes:
    """Method and path for an Observer. Without the query and the authority, where clients put secrets."""
    target = request.target.partition(b"?")[0]
    if target[:1] != b"/" and target != b"*":
        target = path_of_absolute(target.decode("latin-1")).encode("latin-1")
    return request.method + b" " + target

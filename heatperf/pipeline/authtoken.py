"""Station authtoken: keystonemiddleware's AuthProtocol, with its waiting moved off the loop, and what it found kept.

In: X-Auth-Token and X-Service-Token. Out: the identity headers that keystonemiddleware documents, and a Caller in
``environ["heatperf.caller"]``. Runs on the loop but for the two steps that wait: asking memcached (pool "tokens") and
asking Keystone (pool "auth"). They are apart so that tokens nobody knows, and a Keystone that is slow about them, never
delay a token that is cached. Options are keystonemiddleware's, in [keystone_authtoken] or in the paste section.

Whom a token belongs to is always found out by keystonemiddleware. What it left in the environ is kept for the token's
next requests if it depends on nothing but the tokens (see ``_KeepingProtocol.keep``); every other request takes
keystonemiddleware's way again. [heatperf] stock_filters makes all do so: that is ``AuthToken``. Both are stricter in
two things: access rules hold for the method that the API carries out (``validate_allowed_request``), and who has not
been authenticated has no system scope (``_SCOPE``).
"""

import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC
from functools import partial
from typing import Any, NamedTuple

import webob.exc
from keystoneauth1 import _utils as times
from keystoneauth1 import access, exceptions

# The request class that AuthProtocol's methods expect; its own __call__ makes it by webob.dec.wsgify.
from keystonemiddleware import auth_token
from keystonemiddleware.auth_token import _request, _user_plugin
from oslo_serialization import jsonutils

from heatperf.api.router import overriding_method
from heatperf.context import CALLER
from heatperf.errors import DeadlineExceeded
from heatperf.pipeline.parts import App, Filter, Parts, current
from heatperf.pipeline.tokens import (
    ANSWER_OVERHEAD,
    ENTRY_OVERHEAD,
    IDENTITY_KEYS,
    INFINITE,
    Answer,
    Bounded,
    Entry,
    Refusals,
    SingleFlight,
    footprint,
)

#: Seconds for which a worker keeps what it may have from a memcached that it shares with others.
SHARED_LIFETIME = 5.0
#: AuthProtocol sets it with every token that is good, but leaves what a client says of itself with one that is not;
#: with delay_auth_decision such requests go on. Here nobody gets a scope but by Keystone.
_SCOPE = "HTTP_OPENSTACK_SYSTEM_SCOPE"
#: What AuthProtocol sets besides the identity headers.
_ALSO_SET = frozenset((_SCOPE, "keystone.token_auth", "keystone.token_info"))
#: Statuses of answers that cannot hold a Location, nor are 401: they pass as they are.
_AS_IS = frozenset(str(code) for code in (200, 204, *range(400, 600)) if code != 401)
#: Rewound by WebOb before it calls an application, if somebody above has read the body.
_SEEKABLE = "webob.is_body_seekable"


class _Protocol(auth_token.AuthProtocol):
    """AuthProtocol whose process_request may be called on the loop: only ``fetch_token`` waits, and it parks."""

    _www_authenticate_uri: Any

    def __init__(self, app: App, parts: Parts, conf: dict[str, str]) -> None:
        super().__init__(app, conf)
        self._parts = parts
        # `cache` names a key of the environ that holds a memcached client of another filter's
        self._cached_elsewhere = bool(self._conf.get("memcached_servers") or self._conf.get("cache"))

    def fetch_token(self, token: str, allow_expired: bool = False) -> Any:
        """Return the token's data from the cache, or else from Keystone.

        :raises keystonemiddleware.auth_token._exceptions.InvalidToken: Keystone does not know it
        :raises webob.exc.HTTPServiceUnavailable: Keystone cannot be reached
        :raises Overloaded: too many requests wait for the same
        """
        look_up = self._token_cache.get
        data = self._parts.token_pool.run(look_up, token) if self._cached_elsewhere else look_up(token)
        if data:
            return data[0] if len(data) == 2 else data  # an older release cached pairs of data and expiry
        return self._parts.auth_pool.run(super().fetch_token, token, allow_expired)

    def validate_allowed_request(self, request: Any, token: dict[str, Any]) -> None:
        """Hold the request against the access rules of an application credential.

        The API takes ``_method`` in a query or form for the method, so there may be two that have to be allowed.

        :raises keystonemiddleware.auth_token._exceptions.InvalidToken: no rule allows it
        """
        super().validate_allowed_request(request, token)
        if (token.get("application_credential") or {}).get("access_rules") is None:
            return
        method = overriding_method(request.environ)
        if method is not None:
            meant = _request._AuthTokenRequest({**request.environ, "REQUEST_METHOD": method})
            super().validate_allowed_request(meant, token)

    @property
    def www_authenticate_uri(self) -> Any:
        """Keystone's URL for clients. Where it is not configured, it has to be found out, once."""
        if not self._www_authenticate_uri:
            self._www_authenticate_uri = self._parts.auth_pool.run(self._discovered_uri)
        return self._www_authenticate_uri

    def _discovered_uri(self) -> Any:
        return self._identity_server.www_authenticate_uri


class AuthToken:
    """The filter as keystonemiddleware has it, each step for each request.

    :param conf: global and local keys of the paste section; they override [keystone_authtoken]
    """

    def __init__(self, app: App, parts: Parts, conf: dict[str, str]) -> None:
        self._app = app
        self._protocol = _Protocol(app, parts, conf)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ.pop(CALLER, None)
        environ.pop(_SCOPE, None)
        request = _request._AuthTokenRequest(environ)
        try:
            answer = self._protocol.process_request(request)
            if answer is None:
                answer = self._protocol.process_response(request.get_response(self._app))
        except webob.exc.HTTPException as refusal:
            answer = refusal
        return answer(environ, start_response)


class _NoCache:
    """Stands in for keystonemiddleware's in-process cache, which has no limit and is looked through at every use."""

    def initialize(self, _environ: dict[str, Any]) -> None:
        pass

    def get(self, _token: str) -> None:
        pass

    def set(self, _token: str, _data: Any) -> None:
        pass


class _KeepingProtocol(_Protocol):
    """A _Protocol that keeps what it has found out.

    Two caches: ``callers`` holds what process_request left in an environ, by the tokens in the request. ``answers``
    holds what Keystone said, by token, for requests of the kinds that are not in the first; with memcached that is its
    task, and ``answers`` is None.

    :ivar caching: False with token_cache_time = -1 (any negative number): each request asks Keystone, as upstream
    """

    def __init__(self, app: App, parts: Parts, conf: dict[str, str]) -> None:
        super().__init__(app, parts, conf)
        settings = parts.conf.heatperf
        seconds = int(self._conf.get("token_cache_time"))
        self.caching = seconds >= 0
        # 0 keeps a token as long as it is valid: so do memcached and keystonemiddleware
        lifetime = seconds if seconds else INFINITE
        self.lifetime = min(lifetime, SHARED_LIFETIME) if self._cached_elsewhere else lifetime
        self.monotonic: Callable[[], float] = time.monotonic
        self.wall: Callable[[], float] = time.time
        own = 0 if self._cached_elsewhere else settings.token_cache_bytes // 4
        self.callers: Bounded[Entry] = Bounded(settings.token_cache_bytes - own)
        self.answers: Bounded[Answer] | None = None
        if not self._cached_elsewhere:
            self.answers = Bounded(own)
            self._token_cache = _NoCache()
        self.refusals = Refusals(settings.token_negative_cache_time)
        self.flights = SingleFlight(lambda: parts.loop.waiter(), settings.auth_concurrency + settings.auth_queue)

    def _do_fetch_token(self, token: str, **options: Any) -> tuple[Any, access.AccessInfo]:
        token = token.strip()
        data, until = self._fetched(token, options.get("allow_expired", False))
        try:
            found = access.create(body=data, auth_token=token)
        except Exception:
            self.log.warning("Invalid token contents.", exc_info=True)
            raise auth_token.InvalidToken("Token authorization failed") from None
        found.heatperf_until = until  # type: ignore[attr-defined]
        return data, found

    def _fetched(self, token: str, allow_expired: bool) -> tuple[Any, float]:
        """Return the token's data and the moment until which it may be used.

        :raises Exception: see ``fetch_token``
        """
        if not self.caching:
            return self.fetch_token(token, allow_expired), 0.0
        key = token, allow_expired
        now = self.monotonic()
        if self.answers is not None and (answer := self.answers.entries.get(token)) is not None:
            if answer.until > now:
                answer.used = True
                return jsonutils.loads(answer.data), answer.until
            self.answers.drop(token)
        if self.refusals.holds(key, now):
            raise auth_token.InvalidToken("Token authorization failed")
        try:
            text, until = self.flights.run(key, self._asked, token, allow_expired)
        except DeadlineExceeded as error:
            if self._delay_auth_decision:
                raise auth_token.InvalidToken(f"Keystone unavailable: {error}") from None
            raise webob.exc.HTTPServiceUnavailable("The Keystone service is temporarily unavailable.") from None
        # each request has its own, as if it had asked itself
        return jsonutils.loads(text), until

    def _asked(self, token: str, allow_expired: bool) -> tuple[bytes, float]:
        # The time runs from the question, so that a revocation during it is heeded no later.
        began = self.monotonic()
        until = began + self.lifetime
        try:
            data = self.fetch_token(token, allow_expired)
        except auth_token.InvalidToken as error:
            # With delay_auth_decision a Keystone that cannot be reached looks the same but for this.
            if isinstance(error.__context__, exceptions.NotFound):
                self.refusals.add((token, allow_expired), self.monotonic())
            raise
        text = jsonutils.dump_as_bytes(data)
        if self.answers is not None:
            kept = Answer(text, until, len(text) + sys.getsizeof(token) + ANSWER_OVERHEAD)
            self.answers.put(token, kept, began)
        return text, until

    def keep(self, key: Any, environ: dict[str, Any], before: dict[str, Any]) -> Entry | None:
        """Keep what process_request has done, if it would do the same to every request with these tokens.

        That is: it has accepted all tokens there are, and nothing in them is about the request. Tokens that are bound
        to a Kerberos identity, application credentials with access rules and tokens of other versions are such.

        :param before: the environ before process_request, without identity headers
        :returns: what is kept, or None
        """
        plugin = environ["keystone.token_auth"]
        user, service = plugin.user, plugin.service
        if not self.caching or user is None or environ.get("HTTP_X_IDENTITY_STATUS") != "Confirmed":
            return None
        if not environ.get("HTTP_X_AUTH_TOKEN"):  # the token came as X-Storage-Token, which is not in the key
            return None
        if environ.get("HTTP_X_SERVICE_IDENTITY_STATUS", "Confirmed") != "Confirmed":
            return None
        found = [user] if service is None else [user, service]
        if any(token.version != "v3" or token.bind for token in found):
            return None
        credential = environ["keystone.token_info"]["token"].get("application_credential")
        if credential and credential.get("access_rules") is not None:
            return None
        known = self.callers.entries.get(key)
        if known is not None:  # from a request that asked at the same time
            environ.update(known.environ)
            return known
        expiring = found
        if service is not None and self._service_token_roles.intersection(service.role_names):
            expiring = [service]  # such a service may go on with the work of a user whose token has expired
        added = {
            name: value
            for name, value in environ.items()
            if name in _ALSO_SET or name not in before or before[name] is not value
        }
        size = footprint([key, added, *(token._data for token in found)]) + ENTRY_OVERHEAD
        until = min(token.heatperf_until for token in found)
        expires = min(times.normalize_time(token.expires).replace(tzinfo=UTC).timestamp() for token in expiring)
        entry = Entry(added, until, expires, size, partial(self.callers.grow, key))
        self.callers.put(key, entry, self.monotonic())
        return entry

    def refuses(self, token: str) -> bool:
        """Whether the token would be refused now without a question to anybody."""
        token, now = token.strip(), self.monotonic()
        if not self.refusals.holds((token, False), now):
            return False
        answer = self.answers.entries.get(token) if self.answers is not None else None
        return answer is None or answer.until <= now


class _Refusal(NamedTuple):
    """keystonemiddleware's 401, as it was answered."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


class LeanAuthToken:
    """The filter.

    :param conf: global and local keys of the paste section; they override [keystone_authtoken]
    """

    def __init__(self, app: App, parts: Parts, conf: dict[str, str]) -> None:
        self._app = app
        self._protocol = protocol = _KeepingProtocol(app, parts, conf)
        self._entries = protocol.callers.entries
        self._marked = IDENTITY_KEYS | {_SCOPE, _SEEKABLE}
        self._as_is = _AS_IS
        if parts.known_only:  # their Locations are complete
            self._as_is = frozenset(str(code) for code in range(100, 600)) - {"401"}
        self._debug = protocol.log.isEnabledFor(10)
        self._refusal: _Refusal | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if not self._marked.isdisjoint(environ):
            self._clean(environ)
        key: Any = environ.get("HTTP_X_AUTH_TOKEN")
        if "HTTP_X_SERVICE_TOKEN" in environ:
            key = key, environ["HTTP_X_SERVICE_TOKEN"]
        entry = self._entries.get(key)
        protocol = self._protocol
        if entry is None or entry.until <= protocol.monotonic() or entry.expires < protocol.wall():
            if entry is None and self._refusal is not None and self._is_refused(key, environ):
                return self._refuse(self._refusal, environ, start_response)
            entry, refusal = self._ask(key, environ)
            if refusal is not None:
                return refusal(environ, start_response)
        else:
            entry.used = True
            environ.update(entry.environ)
            if self._debug:
                protocol.log.debug("Received request from %s", environ["keystone.token_auth"]._log_format)
        if entry is not None:
            environ[CALLER] = entry

        as_is = self._as_is

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if status[:3] in as_is and exc_info is None:
                return start_response(status, headers)
            return self._start_other(environ, start_response, status, headers, exc_info)

        try:
            return self._app(environ, start)
        except webob.exc.HTTPException as answer:
            return answer(environ, start_response)

    @staticmethod
    def _clean(environ: dict[str, Any]) -> None:
        """Take away what clients may not say of themselves."""
        for name in IDENTITY_KEYS:
            environ.pop(name, None)
        environ.pop(_SCOPE, None)
        if environ.get(_SEEKABLE):
            environ["wsgi.input"].seek(0)

    def _ask(self, key: Any, environ: dict[str, Any]) -> tuple[Entry | None, Any]:
        """Have keystonemiddleware process the request.

        :returns: what is kept of it, or the answer in place of the application's, or nothing of both
        """
        environ.pop(CALLER, None)
        self._protocol.callers.drop(key)
        before = environ.copy()
        try:
            refusal = self._protocol.process_request(_request._AuthTokenRequest(environ))
        except webob.exc.HTTPException as answer:
            refusal = answer
            if self._refusal is None and isinstance(answer, webob.exc.HTTPUnauthorized):
                self._learn(answer, environ)
        if refusal is not None:
            return None, refusal
        return self._protocol.keep(key, environ, before), None

    def _learn(self, answer: Any, environ: dict[str, Any]) -> None:
        """Keep the answer to those who are not authenticated: nothing in it is about the request."""
        if not self._protocol._www_authenticate_uri:  # it names Keystone, whose URL is still to be found
            return
        begun: list[tuple[str, list[tuple[str, str]]]] = []
        body = b"".join(answer({**environ, "REQUEST_METHOD": "GET"}, lambda *began: begun.append(began)))
        self._refusal = _Refusal(*begun[0], body)

    def _is_refused(self, key: Any, environ: dict[str, Any]) -> bool:
        """Whether keystonemiddleware would refuse the request, and ask nobody.

        That is: it brings no token at all, or one that was refused just now; and no service token, whose own check
        comes first. A HEAD gets its 401 from keystonemiddleware.
        """
        if environ["REQUEST_METHOD"] == "HEAD" or key.__class__ is tuple:
            return False
        if key is None:
            return not environ.get("HTTP_X_STORAGE_TOKEN")
        return not key or (self._protocol.caching and self._protocol.refuses(key))

    def _refuse(self, refusal: _Refusal, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer, log and leave the environ as keystonemiddleware does, whose way there takes three times as long."""
        log = self._protocol.log
        if environ.get("HTTP_X_AUTH_TOKEN"):
            log.debug("Authenticating user token")
            log.info("Invalid user token")
        log.info("Rejecting request")
        environ["HTTP_X_IDENTITY_STATUS"] = "Invalid"
        environ["keystone.token_auth"] = _user_plugin.UserAuthPlugin(None, None)
        environ.pop(CALLER, None)
        start_response(refusal.status, [*refusal.headers])
        return [refusal.body]

    def _start_other(
        self, environ: dict[str, Any], start_response: Any, status: str, headers: list[tuple[str, str]], exc_info: Any
    ) -> Any:
        """Pass an answer on as keystonemiddleware does: name Keystone in a 401, complete a Location."""
        if exc_info is not None:
            raise exc_info[1].with_traceback(exc_info[2])
        response = _request._AuthTokenResponse(status=status, headerlist=list(headers), app_iter=[])
        response = self._protocol.process_response(response)
        return start_response(response.status, response._abs_headerlist(environ))


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    parts = current()
    conf = {**global_conf, **local_conf}
    return lambda app: LeanAuthToken(app, parts, conf)


def stock_filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build the filter that keeps nothing beyond what keystonemiddleware's own cache keeps."""
    parts = current()
    conf = {**global_conf, **local_conf}
    return lambda app: AuthToken(app, parts, conf)

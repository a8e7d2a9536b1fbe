"""Station faultwrap: exceptions become answers that clients can parse.

In: whatever the stations below raise. Out: ``{"code", "title", "explanation", "error": {"message", "traceback",
"type"}}``; just ``<code>404</code>`` where the request's content type is application/xml. The message is shown only for
exceptions marked safe, the traceback only with ``debug``. Runs on the worker's loop.
"""

import logging
import traceback
from collections.abc import Iterable
from typing import Any

import orjson
import webob
import webob.exc

from heatperf.api import codec
from heatperf.errors import BodyTooLarge, HeatperfError, Overloaded, heat
from heatperf.pipeline.links import linked
from heatperf.pipeline.parts import App, Filter, current

LOG = logging.getLogger(__name__)

#: Exception class name -> status. By name, up the chain of base classes, so that exceptions of libraries count too.
_STATUS_BY_NAME: dict[str, int] = {
    **{name: kind.status for name, kind in heat.BY_NAME.items() if "status" in vars(kind)},  # type: ignore[attr-defined]
    "AttributeError": 400,
    "ValueError": 400,
    "BodyTooLarge": 413,
    "Overloaded": 503,
    "EngineUnavailable": 503,
}
#: Refusals, and failures that were logged where they arose. An engine's RemoteError carries its own traceback.
_EXPECTED = (heat.HeatError, heat.HTTPExceptionDisguise, heat.EngineUnavailable, heat.MessagingTimeout, HeatperfError)
#: Of classes whose answer's beginning is kept; those of libraries count too, so that nobody knows all of them.
_MOST_KINDS = 500
_TRACEBACK = "Traceback (most recent call last)"


class ReferenceFaultWrapper:
    """The filter for all there is.

    :param conf: its ``debug`` says whether tracebacks are shown
    """

    def __init__(self, app: App, conf: Any) -> None:
        self._app = app
        self._debug: bool = conf.debug

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            return self._app(environ, start_response)
        except Exception as error:  # noqa: BLE001 - this is the place where every exception ends
            if not isinstance(error, _EXPECTED):
                LOG.error("Unexpected error occurred serving API: %s", error, exc_info=error)
            answer = self.render(error, environ)
        return answer(environ, start_response)

    def render(self, error: Exception, environ: dict[str, Any]) -> App:
        """Return the answer for ``error``, a WSGI application."""
        body = describe(error, self._debug)
        response = webob.Response(status=body["code"])
        if webob.Request(environ).content_type == "application/xml":
            # upstream serialises the first key of the mapping and nothing else
            response.content_type = "application/xml"
            response.body = b"<code>%d</code>" % body["code"]
        else:
            response.content_type = "application/json"
            response.body = codec.encode(body)
        retry_after = getattr(error, "retry_after", None)
        if retry_after is not None:
            response.headers["Retry-After"] = str(retry_after)
        return response


class FaultWrapper(ReferenceFaultWrapper):
    """The filter. Of an answer in JSON without a traceback, only the message is not known beforehand."""

    def __init__(self, app: App, conf: Any) -> None:
        super().__init__(app, conf)
        #: class of what was raised -> status line, and the document up to its message
        self._raised: dict[type[BaseException], tuple[str, bytes]] = {}
        #: the same for WebOb's answers in disguise
        self._disguised: dict[type[BaseException], tuple[str, bytes]] = {}

    def render(self, error: Exception, environ: dict[str, Any]) -> App:
        """Return the answer for ``error``, a WSGI application."""
        if self._debug or environ["REQUEST_METHOD"] == "HEAD" or "xml" in environ.get("CONTENT_TYPE", ""):
            return super().render(error, environ)
        told, kept = error, self._raised
        if isinstance(error, heat.HTTPExceptionDisguise) and isinstance(error.exc, webob.exc.HTTPException):
            told, kept = error.exc, self._disguised
            if not _is_like_its_class(told):
                return super().render(error, environ)
        status, body = kept.get(type(told)) or self._remember(error, type(told), kept)
        if _is_safe(error):
            try:
                body += b',"message":' + orjson.dumps(message_of(told))
            except TypeError:  # text that UTF-8 has no bytes for
                return super().render(error, environ)
        return _answer(status, body + b"}}", getattr(error, "retry_after", None))

    def _remember(self, error: Exception, kind: type, kept: dict[type[BaseException], tuple[str, bytes]]) -> Any:
        """Return status line and beginning of the document for ``error``, now also in ``kept``."""
        outcome, name = outcome_of(error)
        beginning = codec.encode(_fault(outcome, {"type": name, "traceback": None})).removesuffix(b"}}")
        found = (webob.Response(status=outcome.code).status, beginning)
        if len(kept) < _MOST_KINDS:
            kept[kind] = found
        return found


def _is_like_its_class(answer: Exception) -> bool:
    """Tell whether what a fault says of an answer of WebOb's, but for the message, is the same for its whole class."""
    own = answer.__dict__
    return "code" not in own and "title" not in own and "explanation" not in own


def _answer(status: str, body: bytes, retry_after: Any) -> App:
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if retry_after is not None:
        headers.append(("Retry-After", str(retry_after)))

    def answer(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response(status, headers)
        return [body]

    return answer


def describe(error: Exception, debug: bool) -> dict[str, Any]:
    """Return the fault body for ``error``.

    :param debug: whether the traceback is part of it
    """
    outcome, kind = outcome_of(error)
    told: Exception = outcome if isinstance(outcome, Exception) else error
    fault: dict[str, Any] = {"type": kind, "traceback": _trace(error, told) if debug else None}
    if _is_safe(error):
        fault["message"] = message_of(told)
    return _fault(outcome, fault)


def outcome_of(error: Exception) -> tuple[Any, str]:
    """Return what has code, title and explanation of the fault that ``error`` is, and the name of its class."""
    if isinstance(error, heat.HTTPExceptionDisguise) and isinstance(error.exc, webob.exc.HTTPException):
        return error.exc, type(error.exc).__name__
    return webob.exc.status_map[status_of(type(error))], type(error).__name__


def _fault(outcome: Any, fault: dict[str, Any]) -> dict[str, Any]:
    return {"code": outcome.code, "title": outcome.title, "explanation": outcome.explanation, "error": fault}


def _is_safe(error: Exception) -> bool:
    return bool(getattr(error, "safe", False)) or isinstance(error, (BodyTooLarge, Overloaded))


def status_of(kind: type[BaseException] | None) -> int:
    """Return the HTTP status of an exception class: its own name's, or the nearest base class's, at last 500."""
    while kind is not None and kind is not Exception:
        status = _STATUS_BY_NAME.get(kind.__name__)
        if status is not None:
            return status
        kind = kind.__base__
    return 500


def message_of(error: Exception) -> str:
    """Return the message; what crossed RPC may carry the engine's traceback behind it."""
    text = str(error)
    if getattr(error, "remote_trace", None) is None and _TRACEBACK in text:
        return text.partition(_TRACEBACK)[0].rstrip("\n")
    return text


def _trace(error: Exception, told: Exception) -> str:
    """Return the traceback as text; the engine's, where the exception crossed RPC."""
    if told is not error and error.__traceback__ is not None:
        return "".join(traceback.format_tb(error.__traceback__))
    remote: str | None = getattr(told, "remote_trace", None)
    if remote is not None:
        return remote
    text = str(told)
    if _TRACEBACK in text:
        return _TRACEBACK + text.partition(_TRACEBACK)[2]
    return "".join(traceback.format_exception(told))


def factory(app: App, conf: Any, **_local_conf: str) -> App:
    """Build the filter for ``heat.filter_factory``."""
    return FaultWrapper(linked(app, current()), conf)


def stock_factory(app: App, conf: Any, **_local_conf: str) -> App:
    """Build the reference for ``heat.filter_factory``."""
    return ReferenceFaultWrapper(linked(app, current()), conf)


def filter_factory(_global_conf: dict[str, str], **_local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    conf = current().conf
    return lambda app: factory(app, conf)


def stock_filter_factory(_global_conf: dict[str, str], **_local_conf: str) -> Filter:
    """Build the reference for ``paste.filter_factory``."""
    conf = current().conf
    return lambda app: stock_factory(app, conf)

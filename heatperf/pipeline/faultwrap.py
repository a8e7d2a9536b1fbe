"""Station faultwrap: exceptions become answers that clients can parse.

In: whatever the stations below raise. Out: ``{"code", "title", "explanation", "error": {"message", "traceback",
"type"}}``; just ``<code>404</code>`` where the request's content type is application/xml. The message is shown only for
exceptions marked safe, the traceback only with ``debug``.
"""

import logging
import traceback
from collections.abc import Iterable
from typing import Any

import webob
import webob.exc

from heatperf.api import codec
from heatperf.errors import BodyTooLarge, HeatperfError, Overloaded, heat
from heatperf.pipeline.links import relay
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
_TRACEBACK = "Traceback (most recent call last)"


class FaultWrapper:
    """The filter.

    :param debug: callable that tells whether tracebacks are shown
    """

    def __init__(self, app: App, conf: Any) -> None:
        self._app = app
        self._conf = conf

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            return relay(self._app, environ, start_response)
        except Exception as error:  # noqa: BLE001 - this is the place where every exception ends
            if not isinstance(error, _EXPECTED):
                LOG.error("Unexpected error occurred serving API: %s", error, exc_info=error)
            answer = self.render(error, environ)
        return answer(environ, start_response)

    def render(self, error: Exception, environ: dict[str, Any]) -> webob.Response:
        """Return the answer for ``error``."""
        body = describe(error, self._conf.debug)
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


def describe(error: Exception, debug: bool) -> dict[str, Any]:
    """Return the fault body for ``error``."""
    safe = getattr(error, "safe", False) or isinstance(error, (BodyTooLarge, Overloaded))
    trace = None
    if isinstance(error, heat.HTTPExceptionDisguise) and isinstance(error.exc, webob.exc.HTTPException):
        if debug:
            trace = "".join(traceback.format_tb(error.__traceback__))
        error = error.exc
        outcome: Any = error
    else:
        outcome = webob.exc.status_map[status_of(type(error))]
    message, text_trace = _split(error)
    if debug and not trace:
        trace = text_trace
    fault: dict[str, Any] = {"type": type(error).__name__, "traceback": trace}
    if safe:
        fault["message"] = message
    return {
        "code": outcome.code,
        "title": outcome.title,
        "explanation": outcome.explanation,
        "error": fault,
    }


def status_of(kind: type[BaseException] | None) -> int:
    """Return the HTTP status of an exception class: its own name's, or the nearest base class's, at last 500."""
    while kind is not None and kind is not Exception:
        status = _STATUS_BY_NAME.get(kind.__name__)
        if status is not None:
            return status
        kind = kind.__base__
    return 500


def _split(error: Exception) -> tuple[str, str]:
    """Return message and traceback text; an exception that crossed RPC carries the engine's."""
    text = str(error)
    remote = getattr(error, "remote_trace", None)
    if remote is not None:
        return text, remote
    if _TRACEBACK in text:
        message, _, rest = text.partition(_TRACEBACK)
        return message.rstrip("\n"), _TRACEBACK + rest
    return text, "".join(traceback.format_exception(error))


def factory(app: App, conf: Any, **_local_conf: str) -> App:
    """Build the filter for ``heat.filter_factory``."""
    return FaultWrapper(app, conf)


def filter_factory(_global_conf: dict[str, str], **_local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    conf = current().conf
    return lambda app: FaultWrapper(app, conf)

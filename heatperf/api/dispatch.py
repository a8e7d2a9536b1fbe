"""One API call: read the body, run the action, render its result.

In: a request, the action its route names, the path's variables. Out: a WSGI application (the answer). Refusals are
raised, for the fault filter above to render: WebOb's error answers disguised as HTTPExceptionDisguise, so that WebOb's
own decorators let them pass; exceptions of errors.heat, and anything unexpected, as they are.

The ordinary request (no parameters or plain ones, no body or a JSON one) is read without WebOb, and answered without it
if the answer is 200; what is anything else goes WebOb's way, which is the reference. Runs on the worker's loop.
"""

import io
import logging
from collections.abc import Callable, Iterable
from typing import Any

import webob
import webob.exc

from heatperf.api import codec, links
from heatperf.api.heavy import Heavy
from heatperf.api.params import NONE, Params, parse_query
from heatperf.context import context_of
from heatperf.errors import BodyTooLarge, heat

LOG = logging.getLogger(__name__)

MALFORMED = "The server could not comply with the request since it is either malformed or otherwise incorrect."

_JSON = "application/json"


class ApiRequest:
    """A request to the API, and what its action says about the answer besides the body.

    :param environ: the WSGI environ; ``context`` is what the context station left there
    """

    __slots__ = ("answer_headers", "answer_status", "context", "environ", "params")

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ
        self.context: Any = context_of(environ)
        #: query and form parameters; read_params fills them
        self.params: Any = NONE
        self.answer_status = 200
        self.answer_headers: dict[str, str] | None = None

    @property
    def base_url(self) -> str:
        """The URL of the API itself, which links are relative to."""
        return links.base_url(self.environ)

    @property
    def path_url(self) -> str:
        """The URL of the request without its query."""
        return webob.Request(self.environ).path_url

    def read_params(self) -> None:
        """Fill ``params``.

        :raises UnicodeDecodeError: the query or the form is no UTF-8
        """
        params = ordinary_params(self.environ)
        self.params = webob.Request(self.environ).params if params is None else params


class JsonAnswer:
    """The WSGI application that answers 200 with JSON, as webob.Response would.

    :param body: the JSON text
    """

    __slots__ = ("body",)

    def __init__(self, body: bytes) -> None:
        self.body = body

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", _JSON), ("Content-Length", str(len(self.body)))])
        return [self.body] if environ["REQUEST_METHOD"] != "HEAD" else []


def ordinary_params(environ: dict[str, Any]) -> Params | None:
    """Return a request's parameters, None where WebOb must find them: a form, a query with escapes."""
    content_type = environ.get("CONTENT_TYPE")
    if content_type != _JSON and (content_type or environ["REQUEST_METHOD"] == "POST"):
        return None  # WebOb reads a POST without a content type as a form
    query = environ.get("QUERY_STRING")
    return parse_query(query) if query else NONE


def call_action(
    request: ApiRequest, action: Callable[..., Any], arguments: dict[str, Any], limit: int, heavy: Heavy | None = None
) -> Any:
    """Run ``action`` and return its answer as a WSGI application.

    :param arguments: the path's variables
    :param limit: max_json_body_size, bytes
    :param heavy: reads large bodies for actions that take them Encoded; None where all are read in place
    :raises heat.HTTPExceptionDisguise: the action refuses
    """
    # Read before anything else, as upstream does: a query or form that cannot be decoded fails here, for every action.
    request.read_params()
    try:
        if heavy is not None and not getattr(action, "takes_encoded", False):
            heavy = None
        body = read_body(request, limit, heavy)
        result = action(request, **{**arguments, **body}) if body else action(request, **arguments)
    except TypeError as error:
        # arguments that do not fit the action (a body missing or unexpected), or values of the wrong type deeper down
        LOG.error("Malformed request: %s", error)
        raise heat.HTTPExceptionDisguise(webob.exc.HTTPBadRequest(MALFORMED)) from error
    except webob.exc.HTTPError as error:
        if isinstance(error, webob.exc.HTTPServerError):
            LOG.error("Returning %s to user: %s", error.code, error.explanation)
        raise heat.HTTPExceptionDisguise(error) from error
    except webob.exc.HTTPException as answer:
        return answer  # 2xx and 3xx are answers, not errors
    data = codec.encode(result)
    if request.answer_status == 200 and request.answer_headers is None:
        return JsonAnswer(data)
    response = webob.Response(body=data, status=request.answer_status, content_type=_JSON, charset=None)
    response.headers.update(request.answer_headers or {})
    return response


def read_body(request: ApiRequest, limit: int, heavy: Heavy | None = None) -> dict[str, Any]:
    """Return ``{"body": value}``, or ``{}`` where there is none that counts.

    :param limit: max_json_body_size, bytes
    :param heavy: may return parts of it Encoded
    :raises heat.RequestLimitExceeded: the body is larger
    :raises webob.exc.HTTPBadRequest: it is not JSON
    """
    environ = request.environ
    length = environ.get("CONTENT_LENGTH")
    if not length or length == "0":
        return {}
    data = _ordinary_body(request, length)
    if data is None:
        full = webob.Request(environ)
        if not (full.content_length or 0) > 0 or not _has_json_type(full, request.params):
            return {}
        try:
            data = full.body
        except BodyTooLarge as error:  # far beyond any limit: nobody has read it, and nobody will
            raise _too_large(error.length or 0, limit) from error
    if not data.startswith(b"{"):
        return {}
    if len(data) > limit:
        raise _too_large(len(data), limit)
    if heavy is not None and (found := heavy.read_body(data)) is not None:
        return {"body": found}
    try:
        return {"body": codec.decode(data)}
    except ValueError as error:
        raise webob.exc.HTTPBadRequest(str(error)) from error


def _ordinary_body(request: ApiRequest, length: str) -> bytes | None:
    """Return the body where it is JSON that lies ready and untouched in memory, else None."""
    environ = request.environ
    if environ.get("CONTENT_TYPE") != _JSON or "ContentType" in request.params:
        return None
    stream = environ.get("wsgi.input")
    if type(stream) is not io.BytesIO or stream.tell():
        return None
    data = stream.getvalue()
    return data if length == str(len(data)) else None


def _has_json_type(request: webob.Request, params: Any) -> bool:
    """Tell whether the content type is JSON, plain text or none.

    On GET the query parameter ContentType stands in for the header, a leftover of the AWS API.
    """
    content_type = request.content_type
    if request.method == "GET":
        content_type = params.get("ContentType") or content_type
    return not content_type or content_type in ("JSON", _JSON) or content_type.startswith("text/plain")


def _too_large(size: int, limit: int) -> heat.RequestLimitExceeded:
    return heat.RequestLimitExceeded(
        message=f"JSON body size ({size} bytes) exceeds maximum allowed size ({limit} bytes)."
    )

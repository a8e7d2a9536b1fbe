"""One API call: read the body, run the action, render its result.

In: a request, the action its route names, the path's variables. Out: a WSGI application (the answer). Refusals are
raised, for the fault filter above to render: WebOb's error answers disguised as HTTPExceptionDisguise, so that WebOb's
own decorators let them pass; exceptions of errors.heat, and anything unexpected, as they are.
"""

import logging
from collections.abc import Callable
from typing import Any

import webob
import webob.exc

from heatperf.api import codec
from heatperf.errors import BodyTooLarge, heat

LOG = logging.getLogger(__name__)

MALFORMED = "The server could not comply with the request since it is either malformed or otherwise incorrect."


class ApiRequest(webob.Request):
    """A request to the API, and what its action says about the answer besides the body."""

    answer_status: int = 200
    answer_headers: dict[str, str] = {}

    def __init__(self, environ: dict[str, Any]) -> None:
        super().__init__(environ)
        self.answer_headers = {}


def call_action(request: ApiRequest, action: Callable[..., Any], arguments: dict[str, Any], limit: int) -> Any:
    """Run ``action`` and return its answer as a WSGI application.

    :param arguments: the path's variables
    :param limit: max_json_body_size, bytes
    :raises heat.HTTPExceptionDisguise: the action refuses
    """
    # Read before anything else, as upstream does: a query or form that cannot be decoded fails here, for every action.
    request.params.get("ContentType")
    LOG.info("Processing request: %s %s", request.method, request.path)
    try:
        result = action(request, **{**arguments, **read_body(request, limit)})
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
    response = webob.Response(
        body=codec.encode(result), status=request.answer_status, content_type="application/json", charset=None
    )
    response.headers.update(request.answer_headers)
    return response


def read_body(request: webob.Request, limit: int) -> dict[str, Any]:
    """Return ``{"body": value}``, or ``{}`` where there is none that counts.

    :param limit: max_json_body_size, bytes
    :raises heat.RequestLimitExceeded: the body is larger
    :raises webob.exc.HTTPBadRequest: it is not JSON
    """
    if not (request.content_length or 0) > 0 or not _has_json_type(request):
        return {}
    try:
        data = request.body
    except BodyTooLarge as error:  # far beyond any limit: nobody has read it, and nobody will
        raise _too_large(error.length or 0, limit) from error
    if not data.startswith(b"{"):
        return {}
    if len(data) > limit:
        raise _too_large(len(data), limit)
    try:
        return {"body": codec.decode(data)}
    except ValueError as error:
        raise webob.exc.HTTPBadRequest(str(error)) from error


def _has_json_type(request: webob.Request) -> bool:
    """Tell whether the content type is JSON, plain text or none.

    On GET the query parameter ContentType stands in for the header, a leftover of the AWS API.
    """
    content_type = request.content_type
    if request.method == "GET":
        content_type = request.params.get("ContentType") or content_type
    return not content_type or content_type in ("JSON", "application/json") or content_type.startswith("text/plain")


def _too_large(size: int, limit: int) -> heat.RequestLimitExceeded:
    return heat.RequestLimitExceeded(
        message=f"JSON body size ({size} bytes) exceeds maximum allowed size ({limit} bytes)."
    )

"""EngineClient: calls and casts to heat-engine by method name, over whichever transport the worker runs.

In: a RequestContext, a method of rpc/methods.py and its arguments. Out: the engine's result. Raised: what the engine
raised, rebuilt from errors/heat.py (see rpc/remote.py); errors.heat.MessagingTimeout when nobody answered;
errors.Overloaded when the worker has too many calls under way. Runs on the worker's loop; a call parks its greenlet.
"""

from typing import Any, Protocol

from heatperf.context import RequestContext
from heatperf.rpc.methods import METHODS


class Transport(Protocol):
    """What EngineClient needs from a message transport.

    One with a true ``takes_encoded`` takes arguments that are Encoded (see jsontext). ``call`` of one with a true
    ``gives_raw`` has a further argument ``raw_above``, as EngineClient.call.
    """

    def start(self, loop: Any) -> None:
        """Called once per worker, after the fork and before the first request."""

    def stop(self) -> None:
        """Called after the drain: release connections. Pools are stopped by the loop that made them."""

    def call(
        self, context: RequestContext, method: str, arguments: dict[str, Any], version: str, timeout: float | None
    ) -> Any:
        """Send a call and park until its reply, at most ``timeout`` seconds (None: rpc_response_timeout).

        :raises RecursionError: the arguments are nested more deeply than rpc/nesting.py lets pass
        """

    def cast(self, context: RequestContext, method: str, arguments: dict[str, Any], version: str) -> None:
        """Send a message nobody answers. Raises as call."""


class EngineClient:
    """Client side of the engine's RPC API.

    :param transport: carries the messages
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._gives_raw: bool = getattr(transport, "gives_raw", False)

    def call(
        self,
        context: RequestContext,
        method: str,
        *,
        timeout: float | None = None,
        raw_above: int | None = None,
        **arguments: Any,
    ) -> Any:
        """Call ``method`` and return its result.

        :param timeout: seconds to wait for the reply; None means rpc_response_timeout. The one method that has an
            argument of this name is told it too: it shall give up when its caller does
        :param raw_above: a result whose message has more bytes than that may come as a RawReply; None: decoded always
        """
        spec = METHODS[method]
        if "timeout" in spec.arguments:
            arguments["timeout"] = timeout
        message = spec.message(method, arguments)
        if raw_above is not None and self._gives_raw:
            transport: Any = self.transport
            return transport.call(context, method, message, spec.version, timeout, raw_above)
        return self.transport.call(context, method, message, spec.version, timeout)

    def cast(self, context: RequestContext, method: str, **arguments: Any) -> None:
        """Send ``method`` without waiting for a result."""
        spec = METHODS[method]
        self.transport.cast(context, method, spec.message(method, arguments), spec.version)

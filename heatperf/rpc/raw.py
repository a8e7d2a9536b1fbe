"""A reply as it came from the broker, for whoever can do with its bytes.

In: the body of a message. Out: the engine's result, when it is needed in the worker after all. Pure.
"""

from typing import Any

from heatperf.errors import heat
from heatperf.rpc import envelope


class RawReply:
    """A result that has not been decoded, see envelope.success_of.

    :param body: the envelope, uncompressed
    """

    __slots__ = ("body",)

    def __init__(self, body: bytes) -> None:
        self.body = body

    def result(self) -> Any:
        """:raises heat.EngineLost: it is something else"""
        try:
            return envelope.result_of(self.body)
        except envelope.MalformedReply:
            raise heat.EngineLost("The engine's answer cannot be read") from None

"""A reply as it came from the broker, for whoever can do with its bytes.

In: the body of a message. Out: the engine's result, when it is needed in the worker after all. Pure.
"""

from typing import Any

from heatperf.rpc import envelope


class RawReply:
    """A successful reply that has not been decoded.

    :param body: the envelope, uncompressed
    """

    __slots__ = ("body",)

    def __init__(self, body: bytes) -> None:
        self.body = body

    def result(self) -> Any:
        """:raises envelope.MalformedReply:"""
        return envelope.decode_reply(self.body).result

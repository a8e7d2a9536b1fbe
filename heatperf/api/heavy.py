"""Where the worker sends what would hold up its loop: large texts, large bodies, large listings.

In: what controllers have. Out: what they would have got in place, the same to the byte, or the JSON of it (Encoded).
Raised: what the work raises in place; Overloaded (503) when too much of it waits. Runs on the worker's loop; parks.

A helper process does it; without one ([heatperf] helper_processes = 0) a native thread parses texts, and the rest is
done in place. Where the round trip begins to cost the loop less than the work is written in docs/decisions.md.
"""

from collections.abc import Callable
from typing import Any

import orjson

from heatperf import jsontext
from heatperf.api import tasks, template_format
from heatperf.errors import Overloaded
from heatperf.helper.client import Helpers
from heatperf.helper.frames import MAX_BODY
from heatperf.jsontext import Encoded

#: Characters of a text that is parsed in place. YAML takes 0.3 ms for a thousand.
PARSED_IN_PLACE = 2048
#: Bytes of a body that is read in place. Objects take up to 7 ms for a million.
READ_IN_PLACE = 65_536
#: Bytes of an engine's reply that is rendered in place; it is JSON in JSON, and takes 20 ms for a million.
RENDERED_IN_PLACE = 65_536
#: Seconds for all of it, waiting included: less than clients and proxies wait.
PATIENCE = 45.0
#: Seconds for a listing, which the worker can render as well.
LISTING_PATIENCE = 5.0

#: How a body begins to say that its template is an object, in the form that most clients write.
_OBJECTS = (b'"template": {', b'"template":{')


class Heavy:
    """One per worker.

    :param helpers: None to do without
    """

    def __init__(self, helpers: Helpers | None) -> None:
        self._helpers = helpers
        self._threads: Any = None

    def start(self, loop: Any) -> None:
        """Make the threads' pool: called after the fork."""
        # Two take turns with the loop, where the parser would not.
        self._threads = loop.pool("parse", 2, 128)

    def parse(self, task: str, text: Any, limit: int) -> Any:
        """Parse a template, an environment or adopted data.

        :param task: a key of tasks.PARSERS
        :param limit: max_template_size
        :returns: plain data, or the same as an Encoded
        """
        parse = tasks.PARSERS[task]
        if not isinstance(text, (str, bytes)) or len(text) <= PARSED_IN_PLACE:
            return parse(text, limit)
        if len(text) > limit and task == "parse_template":
            return parse(text, limit)  # which refuses it
        if self._helpers is not None:
            raw = isinstance(text, bytes)
            data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
            head, body = self._helpers.run(task, {"bytes": raw, "limit": limit}, data, PATIENCE)
            if head["form"] == tasks.PLAIN:
                return Encoded(body)
            if head["form"] == tasks.EXACT:
                return jsontext.decode_exactly(body)
        return self._threads.run(parse, text, limit)

    def read_body(self, data: bytes) -> dict[str, Any] | None:
        """Read a JSON body, for an action that takes its template and files Encoded.

        :returns: None where that is for the worker to do
        """
        if self._helpers is None or len(data) <= READ_IN_PLACE or not any(map(data.__contains__, _OBJECTS)):
            return None
        head, body = self._helpers.run("read_body", {}, data, PATIENCE)
        if head["form"] != tasks.PLAIN:
            return None
        found: dict[str, Any] = {}
        end = 0
        for name, size in head["pieces"]:
            piece, end = body[end : end + size], end + size
            if name is None:
                found |= orjson.loads(piece)
            else:
                found[name] = Encoded(piece, head["size"] if name == "template" else None)
        return found

    @property
    def raw_above(self) -> int | None:
        """For EngineClient.call, where ``render`` gets its result."""
        return None if self._helpers is None else RENDERED_IN_PLACE

    def render(self, kind: str, reply: bytes, given: dict[str, Any]) -> Encoded | None:
        """Render a listing.

        :param kind: a key of views.LISTINGS, ``given`` its arguments after the replies
        :param reply: of a RawReply
        :returns: None where that is for the worker to do, also because the helpers are too busy: the engine has done
            its part already
        """
        if self._helpers is None or len(reply) > MAX_BODY:
            return None
        try:
            head, body = self._helpers.run("list_view", {"kind": kind, "given": given}, reply, LISTING_PATIENCE)
        except Overloaded:
            return None
        return Encoded(body) if head["form"] == tasks.PLAIN else None

    def beside(self, function: Callable[[], Any]) -> Any:
        """Run in a native thread, which takes turns with the loop, what no helper has done.

        :returns: what the function returns; raises what it raises, and Overloaded
        """
        return self._threads.run(function)


def measured(template: Encoded, limit: int) -> None:
    """Hold a template of ``read_body`` against max_template_size.

    :raises heat.RequestLimitExceeded: it is larger
    """
    template_format.refuse_size(template.size or 0, limit)

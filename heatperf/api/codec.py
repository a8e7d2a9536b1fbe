"""JSON between clients and actions; see jsontext for what is special about it.

In: the bytes of a request's body; the plain data that an action returns, which is mostly what an engine replied. Out:
plain data; the bytes of an answer. Raised: what the standard library raises. Runs on the loop's thread.
"""

from typing import Any

from heatperf import jsontext

#: Returns the value of a JSON document, exactly as upstream reads it. Raises ValueError, whose text is shown to the
#: client, where it is not JSON or not UTF-8, and RecursionError where it is nested deeper than Python lets upstream go.
decode = jsontext.decode_as_clients_know


def encode(value: Any) -> bytes:
    """Return ``value`` as JSON; datetimes as ISO 8601, anything unknown as its str(), as upstream does.

    :param value: plain data; or the JSON itself, as an Encoded
    :raises TypeError: a key that JSON has no word for, such as a tuple
    :raises ValueError: the value holds itself
    :raises RecursionError: nested deeper than Python's recursion limit
    """
    return value.data if type(value) is jsontext.Encoded else jsontext.encode(value)

"""How deeply nested a message may be.

Upstream's client walks every argument recursively before sending it, and Python's recursion limit ends that walk: at
about 460 nested lists or 308 nested mappings the client answers 500 RecursionError. Engines count on never seeing
more, so the same bound holds here, whatever the encoder below could do.
"""

from typing import Any

import orjson

from heatperf import jsontext

#: Python frames that upstream's walk spends per level, and how many it has left when it starts (measured, 27.0.1).
_PER_LIST, _PER_MAPPING, _FRAMES = 2, 3, 927


def check(arguments: dict[str, Any]) -> None:
    """Let the arguments of a method pass if an engine may get them.

    :raises RecursionError: one is nested too deeply
    """
    try:
        orjson.dumps(arguments, default=jsontext.fragment)
    except TypeError:  # nested more than 254 deep, or something else that orjson does not encode
        measure(arguments)


def measure(arguments: dict[str, Any]) -> None:
    """As check, for what orjson has refused."""
    stack = [(value, 0) for value in arguments.values()]
    while stack:
        item, used = stack.pop()
        if isinstance(item, dict):
            used += _PER_MAPPING
            children: Any = item.values()
        elif isinstance(item, (list, tuple)):
            used += _PER_LIST
            children = item
        else:
            continue
        if used > _FRAMES:
            raise RecursionError("the request is nested too deeply")
        stack.extend((child, used) for child in children)

"""Rebuild what an engine raised, by name only.

In: the failure object of an RPC reply ({class, module, message, tb, args, kwargs}). Out: an exception for the caller
to raise. Nothing the wire says is ever imported: names are looked up in errors/heat.py and among Python's built-in
exceptions, and everything else becomes RemoteError, as it does for upstream's clients.
"""

import builtins
import logging
from typing import Any

from heatperf.errors import heat

LOG = logging.getLogger(__name__)

HEAT_MODULE = "heat.common.exception"
_BUILTIN_MODULES = ("builtins", "exceptions")  # the second is Python 2's name, still accepted by oslo.messaging


def rebuild(failure: dict[str, Any]) -> Exception:
    """Return the exception that ``failure`` describes.

    Positional and keyword arguments go to our class of the same name; where it does not take them, the failure is
    reported as a RemoteError, because that is what upstream's clients see.
    """
    name = failure.get("class") or ""
    module = failure.get("module")
    trace = failure.get("tb") or []
    text = failure.get("message", "")
    kind: Any = None
    if module == HEAT_MODULE:
        kind = heat.BY_NAME.get(name)
    elif module in _BUILTIN_MODULES:
        kind = getattr(builtins, name, None)
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            kind = None
    if kind is None:
        return heat.RemoteError(name, text, trace)
    try:
        error: Exception = kind(*failure.get("args", []), **failure.get("kwargs", {}))
    except (AttributeError, TypeError) as refusal:
        LOG.warning("The engine's %s cannot be rebuilt: %s", name, refusal)
        return heat.RemoteError(name, text, trace)
    joined = "\n".join(trace)
    if module == HEAT_MODULE:
        error.remote_trace = joined  # type: ignore[attr-defined]
    else:
        error.args = (f"{text}\n{joined}",) + error.args[1:]
    return error

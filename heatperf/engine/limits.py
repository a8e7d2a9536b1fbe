"""How much a template may ask of the embedded engine: bounds on depth, size and work, and the meters that hold them.

Comes in: documents and values from clients. Goes out: nothing; StackValidationFailed is raised when a bound is passed.
Upstream has most of these bounds only by accident (recursion limit, memory of the host), so their texts are our own.
Every call of the engine meters itself: a Budget lives in a context variable and is per thread and per call.
"""

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from heatperf.errors import heat

#: What one entry of a list or map costs, in characters: about the memory that CPython spends on it.
ENTRY = 64


@dataclass(frozen=True)
class Limits:
    """Bounds of one template. The defaults are far above what people write and far below what hurts the host.

    :param template_size: characters of a template or environment given as text; upstream's max_template_size
    :param depth: levels that lists and maps of a document or value may be nested
    :param values: entries of a document once aliases of YAML are written out
    :param repeated: elements that one ``repeat`` may produce
    :param resolved: characters that one call may make out of functions; an entry of a list or map counts as ENTRY
    :param conditions: conditions that may refer to each other in one chain
    """

    template_size: int = 524_288
    depth: int = 80
    values: int = 1_000_000
    repeated: int = 100_000
    resolved: int = 64 * 1024 * 1024
    conditions: int = 30


DEFAULT = Limits()


class Budget:
    """Counts down what functions make during one call.

    :param limits: ``resolved`` is the whole budget
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._left = limits.resolved

    def spend(self, characters: int) -> None:
        """Take from the budget.

        :raises heat.StackValidationFailed: it is used up
        """
        self._left -= characters
        if self._left < 0:
            raise heat.StackValidationFailed(
                message=f"The functions of the template make more than {self.limits.resolved} characters."
            )


_current: ContextVar[Budget | None] = ContextVar("heatperf_engine_budget", default=None)


def budget() -> Budget:
    """Return the budget of the call that is running, or a fresh one outside of any."""
    return _current.get() or Budget(DEFAULT)


@contextlib.contextmanager
def metered(limits: Limits) -> Iterator[Budget]:
    """Meter the block; inside another metered block, go on with that one's budget.

    :raises heat.StackValidationFailed: the block's data is nested beyond what Python can follow; last resort, the
        depth limit should have refused it before
    """
    running = _current.get()
    if running is not None:
        yield running
        return
    fresh = Budget(limits)
    token = _current.set(fresh)
    try:
        yield fresh
    except RecursionError:
        raise heat.StackValidationFailed(message="The template is nested too deeply.") from None
    finally:
        _current.reset(token)


def weigh(value: Any, most: int) -> int:
    """Return what ``value`` costs in characters; stop counting above ``most``.

    :param most: a value above it is as good as any other, so that the count itself stays cheap
    """
    total = 0
    stack = [value]
    while stack and total <= most:
        part = stack.pop()
        if isinstance(part, str):
            total += len(part)
        elif isinstance(part, Mapping):
            total += ENTRY * (len(part) + 1)
            stack.extend(part.keys())
            stack.extend(part.values())
        elif isinstance(part, (list, tuple)):
            total += ENTRY * (len(part) + 1)
            stack.extend(part)
        else:
            total += 8
    return total


def check_shape(value: Any, limits: Limits, what: str = "template") -> None:
    """Refuse data that is nested too deeply or holds too many values.

    Counts what aliases of YAML stand for once each time they are used, so a bomb is refused after ``limits.values``
    steps and a part that contains itself after ``limits.depth``.

    :param what: name of the data in the message
    :raises heat.StackValidationFailed: it is
    """
    seen = 0
    stack = [(value, 1)]
    while stack:
        part, depth = stack.pop()
        if not isinstance(part, (Mapping, list, tuple)):
            continue
        if depth > limits.depth:
            raise heat.StackValidationFailed(
                message=f"The {what} is nested too deeply: more than {limits.depth} levels."
            )
        seen += len(part)
        if seen > limits.values:
            raise heat.StackValidationFailed(message=f"The {what} holds more than {limits.values} values.")
        children = part.values() if isinstance(part, Mapping) else part
        stack.extend((child, depth + 1) for child in children)

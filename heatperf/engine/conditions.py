"""The conditions section: named truths about parameters.

Comes in: parsed definitions of conditions. Goes out: whether one holds. Raises ValueError for a name that does not
exist and StackValidationFailed for what is no condition or goes in circles. One object belongs to one Bound; it
remembers answers, which depend on parameters only. Callable from many threads.
"""

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from heatperf.engine.functions import base
from heatperf.engine.limits import Limits
from heatperf.errors import heat

_ERROR = "Condition validation error"


class Conditions:
    """The conditions of a template.

    :param definitions: name -> parsed definition
    :param limits: ``conditions`` is the longest chain that is followed
    :param lock: reentrant; a Bound gives its own, since functions of conditions ask it back and two locks would have
        an order to keep
    """

    def __init__(self, definitions: Mapping[str, Any], limits: Limits, lock: Any = None) -> None:
        self._definitions = definitions
        self._limits = limits
        self._known: dict[str, bool] = {}
        #: names whose evaluation has begun, of the thread that holds the lock
        self._open: list[str] = []
        self._lock = lock or threading.RLock()

    def __iter__(self) -> Iterator[str]:
        return iter(self._definitions)

    def validate(self) -> None:
        """Check every definition.

        :raises heat.StackValidationFailed: one is no condition, or has wrong functions
        """
        for name, definition in self._definitions.items():
            self._check(name, definition)
            base.validate(definition)

    def is_enabled(self, condition: Any) -> bool:
        """Tell whether a condition holds.

        :param condition: its name; a truth value stands for itself and None for "always"
        :raises ValueError: there is none of this name
        :raises heat.StackValidationFailed: it goes in circles, or is no condition after all
        """
        if condition is None:
            return True
        if isinstance(condition, bool):
            return condition
        if not isinstance(condition, str) or condition not in self._definitions:
            raise ValueError(f'Invalid condition "{condition}"')
        with self._lock:
            if condition not in self._known:
                self._known[condition] = self._evaluate(condition)
            return self._known[condition]

    def _evaluate(self, name: str) -> bool:
        if name in self._open:
            raise heat.StackValidationFailed(error=_ERROR, message=f'Circular definition for condition "{name}"')
        if len(self._open) >= self._limits.conditions:
            raise heat.StackValidationFailed(
                error=_ERROR, message=f"More than {self._limits.conditions} conditions refer to each other in a chain"
            )
        self._open.append(name)
        try:
            value = base.resolve(self._definitions[name])
        finally:
            self._open.pop()
        self._check(name, value)
        return bool(value)

    @staticmethod
    def _check(name: str, definition: Any) -> None:
        if not isinstance(definition, (bool, base.Function)):
            raise heat.StackValidationFailed(
                error=_ERROR, message=f'The definition of condition "{name}" is invalid: {definition}'
            )

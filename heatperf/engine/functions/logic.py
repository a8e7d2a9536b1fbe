"""Functions that compare, combine conditions and choose.

Comes in: parsed arguments (``if``: unparsed). Goes out: True or False, or the chosen part of the template. Raises what
base.py says, and StackValidationFailed where conditions go in circles.
"""

from collections.abc import Callable
from typing import Any

from heatperf.engine.functions.base import Function, Macro, Scope, is_list, resolve


class Equals(Function):
    """``equals: [one, other]``."""

    description = "Tells whether two values are equal."

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        if not isinstance(arguments, list) or len(arguments) != 2:
            raise ValueError(f'Arguments to "{name}" must be of the form: [value_1, value_2]')
        self._one, self._other = arguments

    def result(self) -> Any:
        return resolve(self._one) == resolve(self._other)


class If(Macro):
    """``if: [condition, then, else]``; only the chosen part is parsed, so the other may refer to what is not there."""

    description = "Returns one of two values, depending on a condition."

    def arms(self) -> tuple[Any, Any, Any]:
        """Return condition, value if it holds, value if not.

        :raises ValueError: there are not as many
        """
        condition, then, otherwise = self.arguments
        return condition, then, otherwise

    def expand(self, parse: Callable[[Any], Any]) -> Any:
        try:
            if not is_list(self.arguments):
                raise ValueError
            condition, then, otherwise = self.arms()
        except ValueError:
            raise ValueError(
                f'Arguments to "{self.name}" must be of the form: [condition_name, value_if_true, value_if_false]'
            ) from None
        parsed = self.scope.parse_condition(condition, self.name)
        return parse(then if self.scope.conditions.is_enabled(resolve(parsed)) else otherwise)


class IfNullable(If):
    """``if`` whose last part may be left out: the item that holds it is then left out too."""

    def arms(self) -> tuple[Any, Any, Any]:
        if len(self.arguments) == 2:
            condition, then = self.arguments
            return condition, then, Ellipsis
        return super().arms()


class _Boolean(Function):
    """Base of the functions that combine conditions."""

    def holds(self, condition: Any) -> bool:
        """Tell whether a condition holds, given by value or by name."""
        return self.scope.conditions.is_enabled(condition)


class Not(_Boolean):
    """``not: condition``."""

    description = "Tells whether a condition does not hold."

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        if arguments is None:
            raise ValueError(f'Argument to "{name}" must be a condition')

    def result(self) -> Any:
        return not self.holds(resolve(self.arguments))


class _Several(_Boolean):
    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        if not is_list(arguments):
            raise ValueError(f'Arguments to "{name}" must be a list of conditions')
        if len(arguments) < 2:
            raise ValueError(f'The minimum number of condition arguments to "{name}" is 2.')


class And(_Several):
    """``and: [condition, condition, ...]``."""

    description = "Tells whether all of several conditions hold."

    def result(self) -> Any:
        return all(self.holds(condition) for condition in resolve(self.arguments))


class Or(_Several):
    """``or: [condition, condition, ...]``."""

    description = "Tells whether one of several conditions holds."

    def result(self) -> Any:
        return any(self.holds(condition) for condition in resolve(self.arguments))

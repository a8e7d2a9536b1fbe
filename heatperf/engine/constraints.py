"""Constraints on the values of parameters (and properties), and the schema they belong to.

Comes in: values as clients sent them. Goes out: nothing, or the reason why a value is refused. Raises
InvalidSchemaError for a constraint that makes no sense, ValueError or StackValidationFailed for a value that breaks
one. Plain data, no threads.
"""

import json
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from heatperf.engine import checks
from heatperf.errors import heat

_TRUE = ("1", "t", "true", "on", "y", "yes")
_FALSE = ("0", "f", "false", "off", "n", "no")


def to_number(value: Any) -> int | float:
    """Return the number that ``value`` is or that its text says.

    :raises ValueError, TypeError: it is none
    """
    if isinstance(value, numbers.Number):
        return value  # type: ignore[return-value]
    try:
        return int(value)
    except ValueError:
        return float(value)


def to_bool(value: Any) -> bool:
    """Return the truth value that ``value`` is or that its text says.

    :raises ValueError: it is none
    """
    if isinstance(value, bool):
        return value
    text = str(value)
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    acceptable = ", ".join(f"'{word}'" for word in sorted(_TRUE + _FALSE))
    raise ValueError(f"Unrecognized value '{text}', acceptable values are: {acceptable}")


def to_type(value: Any, kind: str, name: str | None = None) -> Any:
    """Return ``value`` in the type that a schema asks for; lists and maps as they are.

    :param kind: ``string``, ``number``, ``integer``, ``boolean`` or another
    :param name: what the type is called in the message, where that differs
    :raises ValueError: it cannot be
    """
    try:
        if kind in ("number", "integer"):
            number = to_number(value)
            if kind == "integer" and isinstance(number, float):
                raise ValueError(f"{number} is not an integer.")
            return number
        if kind == "string":
            return str(value)
        if kind == "boolean":
            return to_bool(str(value))
    except ValueError:
        raise ValueError(f'Value "{value}" is invalid for data type "{name or kind}".') from None
    return value


class Constraint:
    """One constraint.

    :param description: told to the client instead of the constraint's own words
    """

    #: key in a schema
    key = ""
    #: name in messages about a schema
    title = ""
    #: types of parameters and properties it can be put on, in lower case
    types: tuple[str, ...] = ()

    def __init__(self, description: str | None = None) -> None:
        self.description = description

    def validate(self, value: Any, kind: str = "string") -> None:
        """Check a value.

        :param kind: type of the schema
        :raises ValueError: the value breaks the constraint
        :raises TypeError: the value is of a type the constraint cannot look at
        """
        if not self.holds(value, kind):
            raise ValueError(self.description or self.complaint(value))

    def holds(self, value: Any, kind: str) -> bool:
        """Tell whether a value is allowed."""
        raise NotImplementedError

    def complaint(self, value: Any) -> str:
        """Return what is wrong with a value."""
        raise NotImplementedError

    def content(self) -> Any:
        """Return the constraint as it stands in a schema, under ``key``."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """Return the whole entry of a schema."""
        entry = {} if self.description is None else {"description": self.description}
        return entry | {self.key: self.content()}


class Range(Constraint):
    """A number between two others."""

    key, title = "range", "Range"
    types: tuple[str, ...] = ("integer", "number")

    def __init__(self, low: Any = None, high: Any = None, description: str | None = None) -> None:
        super().__init__(description)
        self.min, self.max = low, high
        if not all(isinstance(bound, (int, float, type(None))) for bound in (low, high)):
            raise heat.InvalidSchemaError(message="min/max must be numeric")
        if low is None and high is None:
            raise heat.InvalidSchemaError(
                message=f"A {self.key} constraint must have a min value and/or a max value specified."
            )

    def holds(self, value: Any, kind: str) -> bool:
        number = to_number(value)
        return (self.min is None or not number < self.min) and (self.max is None or not number > self.max)

    def complaint(self, value: Any) -> str:
        return f"{value} is out of range (min: {self.min}, max: {self.max})"

    def content(self) -> Any:
        bounds = {"min": self.min, "max": self.max}
        return {key: bound for key, bound in bounds.items() if bound is not None}


class Length(Range):
    """A text, list or map whose length is between two numbers."""

    key, title = "length", "Length"
    types = ("string", "list", "comma_delimited_list", "map", "json")

    def __init__(self, low: Any = None, high: Any = None, description: str | None = None) -> None:
        super().__init__(low, high, description)
        if not all(isinstance(bound, (int, type(None))) for bound in (low, high)):
            raise heat.InvalidSchemaError(message="min/max length must be integral")

    def holds(self, value: Any, kind: str) -> bool:
        return super().holds(len(value), kind)

    def complaint(self, value: Any) -> str:
        return f"length ({len(value)}) is out of range (min: {self.min}, max: {self.max})"


class Modulo(Constraint):
    """A number of a series: offset, offset + step, offset + 2 * step ..."""

    key, title = "modulo", "Modulo"
    types = ("integer", "number")

    def __init__(self, step: Any = None, offset: Any = None, description: str | None = None) -> None:
        super().__init__(description)
        self.step, self.offset = step, offset
        if step is None or offset is None:
            raise heat.InvalidSchemaError(
                message="A modulo constraint must have a step value and an offset value specified."
            )
        for number in (step, offset):
            if not isinstance(number, (int, float)):
                raise heat.InvalidSchemaError(message="step/offset must be numeric")
            if isinstance(number, float) and not number.is_integer():
                raise heat.InvalidSchemaError(message="step/offset must be integer")
        if not step:
            raise heat.InvalidSchemaError(message="step cannot be 0.")
        if abs(offset) >= abs(step):
            raise heat.InvalidSchemaError(message="offset must be smaller (by absolute value) than step.")
        if step * offset < 0:
            raise heat.InvalidSchemaError(message="step and offset must be both positive or both negative.")

    def holds(self, value: Any, kind: str) -> bool:
        return bool(to_number(value) % self.step == self.offset)

    def complaint(self, value: Any) -> str:
        return f"{value} is not a multiple of {self.step} with an offset of {self.offset}"

    def content(self) -> Any:
        return {"step": self.step, "offset": self.offset}


class AllowedValues(Constraint):
    """One of some values; of a list, each item must be."""

    key, title = "allowed_values", "AllowedValues"
    types = ("string", "integer", "number", "boolean", "list", "comma_delimited_list")

    def __init__(self, allowed: Any, description: str | None = None) -> None:
        super().__init__(description)
        if not isinstance(allowed, Sequence) or isinstance(allowed, str):
            raise heat.InvalidSchemaError(message="AllowedValues must be a list")
        self.allowed = tuple(allowed)
        self._texts = {item for item in self.allowed if isinstance(item, str)}

    def holds(self, value: Any, kind: str) -> bool:
        if isinstance(value, list):
            return all(item in (self._texts if isinstance(item, str) else self.allowed) for item in value)
        return to_type(value, kind) in [to_type(item, kind) for item in self.allowed]

    def complaint(self, value: Any) -> str:
        allowed = ", ".join(json.dumps(item) for item in self.allowed)
        return f"{json.dumps(value)} is not an allowed value [{allowed}]"

    def content(self) -> Any:
        return list(self.allowed)


class AllowedPattern(Constraint):
    """A text that a regular expression matches as a whole.

    The expression is the template author's and runs without a time limit, as upstream's does.
    """

    key, title = "allowed_pattern", "AllowedPattern"
    types = ("string",)

    def __init__(self, pattern: Any, description: str | None = None) -> None:
        super().__init__(description)
        if not isinstance(pattern, str):
            raise heat.InvalidSchemaError(message="AllowedPattern must be a string")
        self.pattern = pattern
        try:
            self._compiled = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise heat.InvalidSchemaError(message=f"AllowedPattern is not a regular expression: {error}") from error

    def holds(self, value: Any, kind: str) -> bool:
        # not fullmatch: an alternation must match the whole text with its first choice that matches at all
        match = self._compiled.match(value)
        return match is not None and match.end() == len(value)

    def complaint(self, value: Any) -> str:
        return f'"{value}" does not match pattern "{self.pattern}"'

    def content(self) -> Any:
        return self.pattern


class CustomConstraint(Constraint):
    """A named check. Those that would ask a cloud do not exist here and refuse every value, as an unknown name does."""

    key, title = "custom_constraint", "CustomConstraint"
    types = ("string", "integer", "number", "boolean", "list", "comma_delimited_list")

    def __init__(self, name: Any, description: str | None = None) -> None:
        super().__init__(description)
        self.name = name

    def validate(self, value: Any, kind: str = "string") -> None:
        check = checks.CHECKS.get(self.name) if isinstance(self.name, str) else None
        if check is None:
            complaint = f'"{value}" does not validate {self.name} (constraint not found)'
        else:
            reason = check(value)
            if reason is None:
                return
            complaint = f"Error validating value '{value}'" + (f": {reason}" if reason else "")
        raise ValueError(self.description or complaint)

    def content(self) -> Any:
        return self.name


def check_all(
    constraints: Iterable[Constraint], value: Any, kind: str, skipped: type[Constraint] | None = None
) -> None:
    """Check a value against all constraints.

    :param skipped: kind of constraint that is left out
    :raises heat.StackValidationFailed: it breaks one
    """
    try:
        for constraint in constraints:
            if type(constraint) is not skipped:
                constraint.validate(value, kind)
    except (ValueError, TypeError) as error:
        raise heat.StackValidationFailed(message=str(error)) from error


def check_keys(entry: Any, allowed: Iterable[str], what: str) -> Mapping[str, Any]:
    """Return ``entry`` if it is a map with no other than the allowed keys.

    :param what: name of the entry in the message
    :raises heat.InvalidSchemaError: it is not
    """
    if not isinstance(entry, dict):
        raise heat.InvalidSchemaError(message=f"Invalid {what}, expected a mapping")
    for key in entry:
        if key not in allowed:
            raise heat.InvalidSchemaError(message=f"Invalid key '{key}' for {what}")
    return entry


def from_definition(definition: Any, modulo_known: bool) -> Constraint:
    """Return the constraint that an entry of a parameter's ``constraints`` says.

    :param modulo_known: whether the version has ``modulo``
    :raises heat.InvalidSchemaError: it says none, or a wrong one
    """
    names = ("description", "length", "range", "modulo", "allowed_values", "allowed_pattern", "custom_constraint")
    check_keys(definition, names, "parameter constraints")
    description = definition.get("description")

    def numbers_of(key: str, first: str, second: str) -> tuple[Any, Any]:
        entry = check_keys(definition[key], (first, second), f"{key} constraint")
        try:
            return tuple(  # type: ignore[return-value]
                None if entry.get(name) is None else to_number(entry[name]) for name in (first, second)
            )
        except (ValueError, TypeError) as error:
            raise heat.InvalidSchemaError(message=str(error)) from error

    if modulo_known and "modulo" in definition:
        return Modulo(*numbers_of("modulo", "step", "offset"), description)
    if "range" in definition:
        return Range(*numbers_of("range", "min", "max"), description)
    if "length" in definition:
        return Length(*numbers_of("length", "min", "max"), description)
    if "allowed_values" in definition:
        return AllowedValues(definition["allowed_values"], description)
    if "allowed_pattern" in definition:
        return AllowedPattern(definition["allowed_pattern"], description)
    if "custom_constraint" in definition:
        return CustomConstraint(definition["custom_constraint"], description)
    raise heat.InvalidSchemaError(message="No constraint expressed")

"""What a resource type says of its properties and attributes, and the check of given values against it.

Comes in: values from templates, resolved or not. Goes out: values of the declared types, defaults filled in. Raises:
StackValidationFailed with the path of the offending value, in upstream's words. Pure code, any thread.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heatperf.engine.constraints import Constraint, check_all, to_number
from heatperf.errors import heat

STRING, INTEGER, NUMBER, BOOLEAN = "String", "Integer", "Number", "Boolean"
MAP, LIST, ANY = "Map", "List", "Any"


@dataclass(frozen=True)
class Attribute:
    """One attribute of a type; ``kind`` None: any type."""

    description: str
    kind: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"description": self.description, **({"type": self.kind.lower()} if self.kind else {})}


@dataclass(frozen=True)
class Property:
    """One property of a type.

    :param schema: for a Map its keys, for a List its elements; None: anything
    :param hidden: still accepted, no longer shown
    """

    kind: str
    description: str | None = None
    default: Any = None
    schema: "dict[str, Property] | Property | None" = None
    required: bool = False
    constraints: tuple[Constraint, ...] = ()
    update_allowed: bool = False
    immutable: bool = False
    hidden: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The property as ``resource_schema`` answers it."""
        result: dict[str, Any] = {"type": self.kind.lower()}
        if self.description is not None:
            result["description"] = self.description
        if self.default is not None:
            result["default"] = self.default
        if self.schema is not None:
            children = {"*": self.schema} if isinstance(self.schema, Property) else self.schema
            result["schema"] = {name: child.as_dict() for name, child in children.items()}
        result["required"] = self.required
        if self.constraints:
            result["constraints"] = [constraint.as_dict() for constraint in self.constraints]
        return {**result, "update_allowed": self.update_allowed, "immutable": self.immutable}

    def value(self, given: Any, validate: bool = False) -> Any:
        """``given`` in the declared type; None stands for the default.

        :raises ValueError, TypeError: it cannot be converted
        :raises StackValidationFailed: something inside it is wrong, or a constraint objects
        """
        if given is None and self.kind != ANY:
            given = self.default if self.default is not None else _EMPTY[self.kind]()
        result = _CONVERT[self.kind](self, given, validate)
        if validate:
            check_all(self.constraints, result, self.kind.lower())
        return result

    def children(self, value: dict[Any, Any], validate: bool) -> dict[Any, Any]:
        """The values inside a map or a list (keys are then indexes), each checked against its own schema."""
        if self.schema is None:
            return value
        schema = dict.fromkeys(value, self.schema) if isinstance(self.schema, Property) else self.schema
        inner = Properties(schema, value)
        if validate:
            inner.validate()
        return {key: inner[key] for key in schema}


def _string(prop: Property, value: Any, validate: bool) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int)):
        return str(value)
    raise ValueError(f"Value must be a string; got {value!r}")


def _integer(prop: Property, value: Any, validate: bool) -> int:
    try:
        return int(value)
    except ValueError:
        raise TypeError(f"Value '{value}' is not an integer") from None


def _number(prop: Property, value: Any, validate: bool) -> Any:
    return to_number(value)


def _boolean(prop: Property, value: Any, validate: bool) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise ValueError(f'"{value.lower()}" is not a valid boolean')
        return value.lower() == "true"
    raise TypeError(f'"{value}" is not a valid boolean')


def _map(prop: Property, value: Any, validate: bool) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f'"{value}" is not a map')
    return prop.children(dict(value), validate)


def _list(prop: Property, value: Any, validate: bool) -> list[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f'"{value!r}" is not a list')
    return list(prop.children(dict(enumerate(value)), validate).values())


def _any(prop: Property, value: Any, validate: bool) -> Any:
    return value


_CONVERT: dict[str, Callable[[Property, Any, bool], Any]] = {
    STRING: _string,
    INTEGER: _integer,
    NUMBER: _number,
    BOOLEAN: _boolean,
    MAP: _map,
    LIST: _list,
    ANY: _any,
}
_EMPTY: dict[str, Callable[[], Any]] = {
    STRING: str,
    INTEGER: int,
    NUMBER: int,
    BOOLEAN: bool,
    MAP: dict,
    LIST: list,
}


def _as_given(snippet: Any) -> Any:
    return snippet


def _never(snippet: Any) -> bool:
    return False


@dataclass
class Properties(Mapping[str, Any]):
    """Given values of a type's properties.

    :param data: as given; ``resolve`` turns each into a plain value, ``...`` meaning: as if it were not given
    :param pending: whether a snippet depends on what does not exist yet, so that its value says nothing
    """

    schema: dict[str, Property]
    data: Mapping[str, Any]
    resolve: Callable[[Any], Any] = _as_given
    pending: Callable[[Any], bool] = _never
    prefix: tuple[str, ...] = ()
    #: resolved once per object, since a resolver may have to wait
    _resolved: dict[str, Any] = field(default_factory=dict)

    def _given(self, key: str) -> tuple[Any, bool]:
        if key not in self.data:
            return None, False
        if key not in self._resolved:
            self._resolved[key] = self.resolve(self.data[key])
        value = self._resolved[key]
        return (None, False) if value is ... else (value, True)

    def _value(self, key: str, validate: bool = False) -> Any:
        prop = self.schema[key]
        try:
            value, found = self._given(key)
            if found:
                return prop.value(value, validate and not self.pending(self.data[key]))
        except heat.StackValidationFailed as error:
            raise heat.StackValidationFailed(path=error.path, message=error.error_message) from error
        except Exception as error:  # functions may raise anything; all of it is the value's fault
            raise ValueError(str(error)) from error
        if prop.default is not None:
            return prop.value(None, validate)
        if prop.required:
            raise ValueError(f"Property {key} not assigned")
        return None

    def given(self) -> dict[str, Any]:
        """The values that were given, resolved and in no particular type."""
        pairs = ((key, self._given(key)) for key in self.data)
        return {key: value for key, (value, found) in pairs if found}

    def __getitem__(self, key: str) -> Any:
        if key not in self.schema:
            raise KeyError(f"Invalid Property {key}")
        return self._value(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.schema)

    def __len__(self) -> int:
        return len(self.schema)

    def validate(self, with_value: bool = True) -> None:
        """Check names, and values unless told otherwise.

        :raises StackValidationFailed: with the path below ``prefix``
        """
        try:
            for key in self.data:
                if key not in self.schema:
                    raise heat.StackValidationFailed(message=f"Unknown Property {key}")
            if with_value:
                for key, prop in self.schema.items():
                    self._validate_one(key, prop)
        except heat.StackValidationFailed as error:
            raise heat.StackValidationFailed(
                error=error.error or "Property error",
                path=[*self.prefix, *error.path],
                message=error.error_message,
            ) from error

    def _validate_one(self, key: str, prop: Property) -> None:
        try:
            self._value(key, validate=True)
        except heat.StackValidationFailed as error:
            raise heat.StackValidationFailed(path=[key, *error.path], message=error.error_message) from error
        except ValueError as error:
            missing = prop.required and key not in self.data
            raise heat.StackValidationFailed(path=[] if missing else [key], message=str(error)) from error

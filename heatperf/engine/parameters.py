"""Parameters of a stack: schemas from the template, values from the client.

Comes in: the parameters section, what the client gave, defaults of the environment, facts of the stack. Goes out:
values in their types. Raises InvalidSchemaError, StackValidationFailed, UserParameterMissing, UnknownUserParameter with
upstream's texts. ParameterValues is read from many threads and not changed.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from heatperf.engine import limits
from heatperf.engine.constraints import (
    Constraint,
    CustomConstraint,
    check_all,
    check_keys,
    from_definition,
    to_bool,
    to_number,
)
from heatperf.errors import heat

TYPES = ("string", "number", "comma_delimited_list", "json", "boolean")
#: Names of parameters that every stack has. OS::region is reserved but never given.
PSEUDO = ("OS::stack_id", "OS::stack_name", "OS::region", "OS::project_id")

_KEYS = ("type", "description", "default", "schema", "constraints", "hidden", "label", "immutable")


class ParameterSchema:
    """What a template says of one parameter.

    :param kind: one of TYPES
    :raises heat.InvalidSchemaError: it is not
    """

    def __init__(
        self,
        kind: Any,
        *,
        description: Any = None,
        default: Any = None,
        constraints: Iterable[Constraint] = (),
        hidden: Any = False,
        label: Any = None,
        immutable: Any = False,
        tags: list[Any] | None = None,
    ) -> None:
        if kind not in TYPES:
            raise heat.InvalidSchemaError(message=f"Invalid type ({kind})")
        self.type: str = kind
        self.description = description
        self.default = default
        self.constraints = list(constraints)
        self.hidden = hidden
        self.label = label
        self.immutable = immutable
        self.tags = tags

    @classmethod
    def from_dict(cls, name: str, definition: Any, version: str) -> "ParameterSchema":
        """Return the schema that an entry of the parameters section says.

        :param version: date of the template's version
        :raises heat.InvalidSchemaError: it says nothing sensible
        """
        keys = (*_KEYS, "tags") if version >= "2018-03-02" else _KEYS
        check_keys(definition, keys, f"parameter ({name})")
        if "type" not in definition:
            raise heat.InvalidSchemaError(message=f"Missing parameter type for parameter: {name}")
        if not isinstance(definition.get("tags", []), list):
            raise heat.InvalidSchemaError(message=f"Tags property should be a list for parameter: {name}")
        constraints = definition.get("constraints")
        if constraints is not None and not isinstance(constraints, list):
            raise heat.InvalidSchemaError(
                message=f"Invalid parameter constraints for parameter {name}, expected a list"
            )
        return cls(
            definition["type"],
            description=definition.get("description"),
            default=definition.get("default"),
            constraints=[from_definition(entry, version >= "2017-02-24") for entry in constraints or ()],
            hidden=definition.get("hidden", False),
            label=definition.get("label"),
            immutable=definition.get("immutable", False),
            tags=definition.get("tags"),
        )

    def validate(self) -> None:
        """Check constraints against the type, and the default against constraints.

        :raises heat.InvalidSchemaError: one does not fit
        """
        for constraint in self.constraints:
            if self.type not in constraint.types:
                raise heat.InvalidSchemaError(message=f"{constraint.title} constraint invalid for {self.type}")
        if self.default is None:
            return
        default = self.default
        if self.type == "comma_delimited_list":
            if isinstance(default, list):
                default = [str(item) for item in default]
            elif isinstance(default, str):
                default = default.split(",")
            else:
                problem = f"'{type(default).__name__}' object has no attribute 'split'"
                raise heat.InvalidSchemaError(message=f"Default must be a comma-delimited list string: {problem}")
        try:
            self.check(default, CustomConstraint)
        except heat.StackValidationFailed as error:
            raise heat.InvalidSchemaError(message=f"Invalid default {self.default} ({error})") from error

    def check(self, value: Any, skipped: type[Constraint] | None = None) -> None:
        """Check a parsed value against the constraints.

        :raises heat.StackValidationFailed: it breaks one
        """
        check_all(self.constraints, value, self.type, skipped)


class Parameter:
    """One parameter with its value.

    :param given: what the client gave; None if nothing
    """

    def __init__(self, name: str, schema: ParameterSchema, given: Any = None) -> None:
        self.name = name
        self.schema = schema
        self.given = given
        #: default of the environment, which goes before the template's
        self.environment_default: Any = None
        self._parsed: tuple[Any] | None = None

    def validate(self, values: bool = True) -> None:
        """Check schema and value.

        :param values: whether a value is needed and checked
        :raises heat.InvalidSchemaError, heat.StackValidationFailed, heat.UserParameterMissing: it is wrong
        """
        try:
            self.schema.validate()
            if not values:
                return
            if not self.has_value():
                raise heat.UserParameterMissing(key=self.name)
            self.schema.check(self._checked(self._raw()))
        except heat.StackValidationFailed as error:
            raise heat.StackValidationFailed(message=f"Parameter '{self.name}' is invalid: {error}") from error
        except heat.InvalidSchemaError as error:
            raise heat.InvalidSchemaError(message=f"Parameter '{self.name}' is invalid: {error}") from error

    def _checked(self, raw: Any) -> Any:
        """Return what constraints look at.

        :raises heat.StackValidationFailed: the value is not of the parameter's type
        """
        try:
            if self.schema.type in ("comma_delimited_list", "json"):
                return self._parse(raw)
            if self.schema.type == "number":
                to_number(raw)
            elif self.schema.type == "boolean":
                to_bool(raw)
        except (ValueError, TypeError) as error:
            raise heat.StackValidationFailed(message=str(error)) from error
        return raw

    def value(self) -> Any:
        """Return the value in its type.

        :raises heat.UserParameterMissing: there is none
        :raises ValueError: it is not of the type
        """
        if self._parsed is None:
            if not self.has_value():
                raise heat.UserParameterMissing(key=self.name)
            self._parsed = (self._parse(self._raw()),)
        return self._parsed[0]

    def _parse(self, raw: Any) -> Any:
        kind = self.schema.type
        if kind == "number":
            return to_number(raw)
        if kind == "boolean":
            return to_bool(str(raw))
        if kind == "comma_delimited_list":
            return self._parse_list(raw)
        if kind == "json":
            return self._parse_json(raw)
        return str(raw)

    @staticmethod
    def _parse_list(raw: Any) -> list[str]:
        if isinstance(raw, list):
            return [str(item) for item in raw]
        if not isinstance(raw, str):
            problem = f"'{type(raw).__name__}' object has no attribute 'split'"
            raise ValueError(f"Value must be a comma-delimited list string: {problem}")
        return raw.split(",") if raw else []

    @staticmethod
    def _parse_json(raw: Any) -> Any:
        """Return the value that text says; any other value goes through text, so that it is nobody else's."""
        try:
            text = raw if isinstance(raw, str) else json.dumps(raw)
            if not text:
                return raw
            value = json.loads(text)
        except RecursionError:
            raise ValueError("Value must be valid JSON: it is nested too deeply") from None
        except (ValueError, TypeError) as error:
            raise ValueError(f"Value must be valid JSON: {error}") from error
        limits.check_shape(value, limits.DEFAULT, "value")
        return value

    def _raw(self) -> Any:
        return self.given if self.given is not None else self.default()

    def has_value(self) -> bool:
        """Tell whether the client gave a value or there is a default."""
        return self.given is not None or self.has_default()

    def has_default(self) -> bool:
        """Tell whether environment or template give a default."""
        return self.default() is not None

    def default(self) -> Any:
        """Return the environment's default, otherwise the template's, otherwise None."""
        return self.schema.default if self.environment_default is None else self.environment_default

    def set_default(self, value: Any) -> None:
        """Set the default of the environment."""
        self.environment_default = value
        self._parsed = None

    def hidden(self) -> bool:
        """Tell whether the value must not be shown."""
        return bool(self.schema.hidden)

    def description(self) -> Any:
        """Return the description, an empty text if there is none."""
        return self.schema.description or ""

    def label(self) -> Any:
        """Return the label, the name if there is none."""
        return self.schema.label or self.name

    def tags(self) -> list[Any]:
        """Return the tags."""
        return self.schema.tags or []

    def __str__(self) -> str:
        """Return the value as API answers show it: hidden ones as stars, lists with commas, maps as JSON.

        :raises heat.UserParameterMissing: there is none
        """
        value = self.value()
        if self.hidden():
            return "******"
        if self.schema.type == "comma_delimited_list":
            return ",".join(value)
        if self.schema.type == "json":
            return json.dumps(value)
        return str(value)


class ParameterValues(Mapping[str, Any]):
    """All parameters of a stack: name -> value. Iterates pseudo parameters first, then those of the template.

    :param schemas: of the template
    :param given: what the client gave
    :param defaults: parameter_defaults of the environment; names the template does not have are left out
    """

    def __init__(
        self,
        schemas: Mapping[str, ParameterSchema],
        given: Mapping[str, Any] | None = None,
        *,
        stack_name: str = "",
        stack_id: str = "",
        project_id: str = "",
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self._schemas = schemas
        self.given = dict(given or {})
        self.parameters: dict[str, Parameter] = {}
        pseudo = (("OS::stack_id", "Stack ID", str(stack_id)), ("OS::project_id", "Project ID", str(project_id)))
        if stack_name:
            pseudo += (("OS::stack_name", "Stack Name", stack_name),)  # type: ignore[assignment]
        for name, description, value in pseudo:
            schema = ParameterSchema("string", description=description, default=value)
            self.parameters[name] = Parameter(name, schema)
        for name, schema in schemas.items():
            self.parameters[name] = Parameter(name, schema, self.given.get(name))
        for name, value in (defaults or {}).items():
            if name in self.parameters:
                self.parameters[name].set_default(value)

    def validate(self, values: bool = True) -> None:
        """Check all parameters.

        :param values: whether values are needed and checked; validate_template asks without
        :raises heat.UnknownUserParameter, heat.UserParameterMissing: a name is too much or too little
        :raises heat.StackValidationFailed, heat.InvalidSchemaError: a value or a schema is wrong
        """
        for name in self.given:
            if name not in self._schemas:
                raise heat.UnknownUserParameter(key=name)
        for parameter in self.parameters.values():
            parameter.validate(values)

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name].value()

    def __iter__(self) -> Iterator[str]:
        return iter(self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    def __contains__(self, name: object) -> bool:
        return name in self.parameters

    def user_parameters(self) -> dict[str, Parameter]:
        """Return the parameters that are not pseudo parameters."""
        return {name: parameter for name, parameter in self.parameters.items() if name not in PSEUDO}

    def immutable_modified(self, new: "ParameterValues", given: Mapping[str, Any]) -> list[str]:
        """Return the names of immutable parameters that an update would change; both stacks must have them.

        :param new: parameters of the updated stack
        :param given: what the client gives in the update
        """
        changed = []
        for name, parameter in self.user_parameters().items():
            if name not in new.user_parameters() or not new.parameters[name].schema.immutable:
                continue
            value = given[name] if name in given else new[name]
            if parameter.value() != value:
                changed.append(name)
        return changed

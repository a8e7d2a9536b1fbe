"""A template as part of a stack: parameters have values, conditions hold or not, functions can be resolved.

Comes in: a Template, parameters, facts of the stack, a source of attributes. Goes out: checked definitions of resources
and outputs, resolved values, the dependency graph. Raises StackValidationFailed and the errors of functions/base.py.
Used by many threads at once: definitions are built once under a lock and not changed afterwards.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heatperf.engine import functions
from heatperf.engine.conditions import Conditions
from heatperf.engine.graph import Graph
from heatperf.engine.limits import Limits, metered
from heatperf.engine.parameters import ParameterValues
from heatperf.errors import heat

if TYPE_CHECKING:
    from heatperf.engine.template import Template

_POLICIES = ("Delete", "Retain", "Snapshot")
_KEYS = ("type", "properties", "metadata", "depends_on", "deletion_policy", "update_policy", "description")
_NEWER_KEYS = ("external_id", "condition")


@dataclass(frozen=True)
class StackFacts:
    """What a template may know of its stack besides parameters."""

    name: str = ""
    id: str = ""
    project_id: str = ""


class BoundResource:
    """One resource of a stack. Values with functions inside are resolved anew at each call.

    :param fields: parsed fields of the definition
    """

    def __init__(self, bound: "Bound", name: str, fields: Mapping[str, Any]) -> None:
        self._bound = bound
        self.name = name
        self.type: str = fields["type"]
        self.description: str = fields["description"] or ""
        #: parsed, with Function objects inside
        self.properties: Any = fields["properties"]
        self._metadata = fields["metadata"]
        self._update_policy = fields["update_policy"]
        self._external_id = fields["external_id"]
        #: names from the template's depends_on
        self.depends_on: list[str] = fields["depends_on"] or []
        given = fields["deletion_policy"]
        #: ``Delete``, ``Retain`` or ``Snapshot``; an external resource is always kept
        self.deletion_policy: str = "Retain" if self._external_id is not None else given or "Delete"

    def metadata(self) -> Any:
        """Return the metadata, an empty map where there is none."""
        with metered(self._bound.limits):
            return functions.resolve(self._metadata) or {}

    def update_policy(self) -> Any:
        """Return the update policy, an empty map where there is none."""
        with metered(self._bound.limits):
            return functions.resolve(self._update_policy) or {}

    def external_id(self) -> Any:
        """Return the identifier of the resource that exists already; None for one of our own."""
        with metered(self._bound.limits):
            return functions.resolve(self._external_id)

    def validate(self) -> None:
        """Check all functions of the definition without resolving them.

        :raises heat.StackValidationFailed: with the place from ``resources`` on
        """
        sections = {
            "properties": self.properties,
            "metadata": self._metadata,
            "update_policy": self._update_policy,
            "external_id": self._external_id,
        }
        with metered(self._bound.limits):
            for section, snippet in sections.items():
                functions.validate(snippet, ["resources", self.name, section])

    def required_names(self) -> list[str]:
        """Return the names of the resources it depends on, each once; they need not exist where depends_on says them.

        :raises heat.InvalidTemplateReference: a function refers to a resource that is not there
        :raises heat.InvalidExternalResourceDependency: an external resource depends on something
        """
        with metered(self._bound.limits):
            # upstream's messages name the sections as CloudFormation does
            found = [
                *self.depends_on,
                *functions.dependencies(self.properties, f"{self.name}.Properties"),
                *functions.dependencies(self._metadata, f"{self.name}.Metadata"),
            ]
            external_id = functions.resolve(self._external_id)
        if not external_id:
            return list(dict.fromkeys(found))
        if self.depends_on:
            raise heat.InvalidExternalResourceDependency(external_id=external_id, resource_type=self.type)
        return []


class BoundOutput:
    """One output of a stack; its value is None where its condition does not hold."""

    def __init__(self, bound: "Bound", name: str, snippet: Any, description: Any) -> None:
        self._bound = bound
        self.name = name
        self._snippet = snippet
        self.description = "No description given" if description is None else str(description)

    def value(self) -> Any:
        """Return the value; raises what functions raise (functions/base.py)."""
        with metered(self._bound.limits):
            return functions.resolve(self._snippet)

    def validate(self) -> None:
        """Check the functions of the value.

        :raises heat.StackValidationFailed: with the place from ``outputs`` on
        """
        # upstream forgets to write the section in its own words where an index belongs to it
        section = "Value" if isinstance(self._snippet, list) else "value"
        with metered(self._bound.limits):
            functions.validate(self._snippet, ["outputs", self.name, section])

    def required_names(self) -> set[str]:
        """Return the names of the resources it refers to; none where one of them does not exist."""
        try:
            return set(functions.dependencies(self._snippet))
        except (heat.InvalidTemplateAttribute, heat.InvalidTemplateReference):
            return set()


class Bound:
    """A template as part of a stack. Make it with Template.bind.

    :param attributes: asked for references and attributes whenever a function needs them
    """

    def __init__(
        self,
        template: "Template",
        parameters: ParameterValues,
        stack: StackFacts,
        attributes: functions.AttributeSource,
    ) -> None:
        self.template = template
        self.parameters = parameters
        self.stack = stack
        self.attributes = attributes
        self._table = functions.FUNCTIONS[template.date]
        self._condition_table = functions.condition_table(template.date)
        self._lock = threading.RLock()
        self._conditions: Conditions | None = None
        self._resources: dict[str, BoundResource] | None = None
        self._outputs: dict[str, BoundOutput] | None = None

    @property
    def limits(self) -> Limits:
        """Bounds of the template."""
        return self.template.limits

    @property
    def files(self) -> Mapping[str, str]:
        """Files that came with the template."""
        return self.template.files

    def parse(self, snippet: Any, path: str = "") -> Any:
        """Return a snippet with Function objects inside.

        :param path: where it stands, for messages
        :raises heat.StackValidationFailed: a function has wrong arguments
        """
        return functions.parse(self._table, self, snippet, path)

    def parse_condition(self, snippet: Any, path: str = "") -> Any:
        """Return a snippet of a condition with Function objects inside; see parse."""
        return functions.parse(self._condition_table, self, snippet, path)

    def resolve(self, snippet: Any, path: str = "") -> Any:
        """Return the value of a snippet of the document; raises what functions raise (functions/base.py)."""
        with metered(self.limits):
            return functions.resolve(self.parse(snippet, path))

    @property
    def conditions(self) -> Conditions:
        """The conditions.

        :raises heat.StackValidationFailed: the section is wrong
        """
        with self._lock:
            if self._conditions is None:
                parsed = {
                    name: self.parse_condition(definition, f"conditions.{name}")
                    for name, definition in self.template.conditions.items()
                }
                self._conditions = Conditions(parsed, self.limits, self._lock)
            return self._conditions

    def has_resource(self, name: Any) -> bool:
        """Tell whether there is a resource of this name; while definitions are read, conditions do not count."""
        known: Collection[str] = self.template.resources if self._resources is None else self._resources
        return isinstance(name, str) and name in known

    @property
    def resources(self) -> dict[str, BoundResource]:
        """The resources whose condition holds, in the template's order.

        :raises heat.StackValidationFailed: a definition is wrong
        """
        with self._lock, metered(self.limits):
            if self._resources is None:
                self._resources = {
                    name: BoundResource(self, name, fields) for name, fields in self._enabled_definitions()
                }
            return self._resources

    def resource(self, name: str) -> BoundResource:
        """Return a resource.

        :raises KeyError: there is none, or its condition does not hold
        """
        return self.resources[name]

    def enabled_resources(self) -> list[str]:
        """Return the names of the resources whose condition holds, in the template's order."""
        return list(self.resources)

    def _enabled_definitions(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in self.template.resources:
            entry = self.template.raw["resources"][name]
            try:
                fields = self._read_definition(name, entry)
            except (TypeError, ValueError) as error:
                raise heat.StackValidationFailed(message=str(error)) from error
            try:
                enabled = self.conditions.is_enabled(functions.resolve(fields["condition"]))
            except ValueError as error:
                raise heat.StackValidationFailed(path=["resources", name, "condition"], message=str(error)) from error
            if enabled:
                yield name, fields

    def _read_definition(self, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parsed fields of a definition, None for those that are not given.

        :raises TypeError, ValueError: it is wrong
        :raises heat.StackValidationFailed: so is this
        """
        newer = self.template.has_conditions
        keys = (*_KEYS, *_NEWER_KEYS) if newer else _KEYS
        unknown = [str(key) for key in entry if key not in keys]
        if unknown:
            raise ValueError(f"Invalid keyword(s) inside a resource definition: {', '.join(unknown)}")
        if "type" not in entry:
            raise ValueError(repr(f'Resource {name} is missing "type"'))
        read = _Reader(self, name, entry)
        fields = {
            "type": read.field("type", str, "string"),
            "properties": read.field("properties", (Mapping, functions.Function), "object"),
            "metadata": read.field("metadata", (Mapping, functions.Function), "object"),
            "depends_on": read.depends_on(),
            "deletion_policy": read.deletion_policy((*_POLICIES, *map(str.lower, _POLICIES)) if newer else _POLICIES),
            "update_policy": read.field("update_policy", (Mapping, functions.Function), "object"),
            "description": read.unparsed("description", str, "string"),
            "external_id": None,
            "condition": None,
        }
        if newer:
            fields["external_id"] = read.field("external_id", (str, functions.Function), "string")
            fields["condition"] = read.condition()
        return fields

    def dependencies(self, label: Callable[[BoundResource], str] | None = None) -> Graph:
        """Return who depends on whom, from depends_on and the functions in properties and metadata.

        :param label: how a resource is written in the message about a cycle; upstream writes ``Class "name"``
        :raises heat.InvalidTemplateReference: a resource refers to one that does not exist
        :raises heat.InvalidExternalResourceDependency: an external resource depends on something
        """
        resources = self.resources
        write = label or _label
        graph = Graph(lambda name: write(resources[name]))
        for name, resource in resources.items():
            needed = resource.required_names()
            for other in needed:
                if other not in self.template.resources:
                    raise heat.InvalidTemplateReference(resource=other, key=name)
            # one whose condition does not hold is nothing to wait for
            graph.add(name, [other for other in needed if other in resources])
        return graph

    def outputs(self) -> list[str]:
        """Return the names of the outputs, in the template's order."""
        return list(self.output_definitions)

    def output(self, name: str) -> BoundOutput:
        """Return an output.

        :raises KeyError: there is none
        """
        return self.output_definitions[name]

    @property
    def output_definitions(self) -> dict[str, BoundOutput]:
        """The outputs; one whose condition does not hold has the value None.

        :raises heat.StackValidationFailed: a definition is wrong
        """
        # upstream has the resources by now, and functions ask for them
        _loaded = self.resources
        with self._lock, metered(self.limits):
            if self._outputs is None:
                self._outputs = dict(self._read_outputs())
            return self._outputs

    def _read_outputs(self) -> Iterator[tuple[str, BoundOutput]]:
        for name, definition in self.template.outputs.items():
            snippet = definition.value
            if self.template.has_conditions:
                place = ["outputs", name, "condition"]
                condition = self.parse_condition(definition.condition, ".".join(place))
                try:
                    if not self.conditions.is_enabled(functions.resolve(condition)):
                        snippet = None
                except ValueError as error:
                    raise heat.StackValidationFailed(path=place, message=str(error)) from error
            yield name, BoundOutput(self, name, self.parse(snippet, f"outputs.{name}.value"), definition.description)

    def validate(
        self,
        check: Callable[[BoundResource], None] | None = None,
        label: Callable[[BoundResource], str] | None = None,
    ) -> None:
        """Check everything that upstream's stack checks after the template's structure and the parameters.

        :param check: checks one resource (type, properties); called in the order of dependencies. It is up to it to
            call BoundResource.validate. Without it that is all that is called.
        :param label: see dependencies
        :raises heat.HeatError: something is wrong
        """
        with metered(self.limits):
            self.template.validate_parameter_groups()
            self.conditions.validate()
            duplicates = sorted(set(self.parameters) & set(self.resources))
            if duplicates:
                names = ", ".join(repr(name) for name in duplicates)
                raise heat.StackValidationFailed(message=f"Duplicate names {{{names}}}")
            graph = self.dependencies(label)
            outputs = self.output_definitions
            for name in graph:
                (check or BoundResource.validate)(self.resources[name])
            for output in outputs.values():
                output.validate()


class _Reader:
    """Reads the fields of one resource's definition; raises TypeError with the resource's name in it."""

    def __init__(self, bound: Bound, name: str, entry: Mapping[str, Any]) -> None:
        self._bound = bound
        self._name = name
        self._entry = entry

    def _place(self, key: str) -> str:
        return f"resources.{self._name}.{key}"

    def _of_type(self, key: str, value: Any, types: Any, typename: str) -> Any:
        if not isinstance(value, types):
            raise TypeError(f"Resource {self._name} {key} type must be {typename}")
        return value

    def unparsed(self, key: str, types: Any, typename: str) -> Any:
        """Return a field that may not hold functions."""
        if key not in self._entry:
            return None
        return self._of_type(key, self._entry[key], types, typename)

    def field(self, key: str, types: Any, typename: str) -> Any:
        """Return a field with Function objects inside."""
        if key not in self._entry:
            return None
        return self._of_type(key, self._bound.parse(self._entry[key], self._place(key)), types, typename)

    def condition(self) -> Any:
        """Return the condition: a name, a truth value, or a function that gives one."""
        if "condition" not in self._entry:
            return None
        parsed = self._bound.parse_condition(self._entry["condition"], self._place("condition"))
        return self._of_type("condition", parsed, (str, bool, functions.Function), "string_or_boolean")

    def depends_on(self) -> list[str] | None:
        """Return the names of resources that must be there first."""
        names = self.unparsed("depends_on", Sequence, "list or string")
        if isinstance(names, str):
            return [names]
        for name in names or ():
            if not isinstance(name, str):
                raise heat.StackValidationFailed(message=f"Resource {self._name} depends_on must be a list of strings")
        return names

    def deletion_policy(self, allowed: Sequence[str]) -> str | None:
        """Return the deletion policy as upstream writes it."""
        policy = functions.resolve(self.field("deletion_policy", (str, functions.Function), "string"))
        if policy is None:
            return None
        if policy not in allowed:
            raise heat.StackValidationFailed(message=f'Invalid deletion policy "{policy}"')
        return str(policy).capitalize()


def _label(resource: BoundResource) -> str:
    """Write a resource as upstream does, for the types that are built in."""
    kind = resource.type.rpartition("::")[2]
    return f'{"NoneResource" if kind == "None" else kind} "{resource.name}"'

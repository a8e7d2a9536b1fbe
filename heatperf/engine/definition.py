"""A version of a stack: its template with its environment, and what that makes of each resource's type.

Comes in: a template, an environment, who the stack is; later a source of attributes of living resources. Goes out:
planned resources (type, properties, frozen definition), the order among them, outputs. Raises: upstream's validation
errors. A Definition may be used by many threads at once.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

from heatperf.engine import functions, records, resources
from heatperf.engine.bound import BoundResource, StackFacts
from heatperf.engine.environment import Environment
from heatperf.engine.graph import Graph
from heatperf.engine.limits import metered
from heatperf.engine.parameters import ParameterValues
from heatperf.engine.resources.base import BASE_ATTRIBUTES, Host, Resource
from heatperf.engine.resources.schema import Properties, Property
from heatperf.engine.template import Template
from heatperf.errors import heat

#: Names that a registry may map to: types that are here, and types that only upstream has.
_KNOWN_TYPES = frozenset({*resources.TYPES, *resources.SERVICE_OF})

#: States in which attributes of a resource can be read.
_READABLE = frozenset({"CREATE", "ADOPT", "SUSPEND", "RESUME", "UPDATE", "ROLLBACK", "SNAPSHOT", "CHECK"})


class Living(Protocol):
    """What a definition asks about resources that may exist; see LiveAttributes."""

    def find(self, name: str) -> Resource | None:
        """The resource that stands for a name now; None where nothing was created for it."""


class Planned:
    """One resource as a definition wants it. Values are resolved anew at each call."""

    def __init__(self, definition: "Definition", bound: BoundResource) -> None:
        self._definition = definition
        self._bound = bound
        self.name = bound.name
        self.type = bound.type
        self.resource_type = definition.type_of(bound.name)

    @cached_property
    def external_id(self) -> Any:
        """Id of a resource that exists already and is only referred to."""
        return self._bound.external_id()

    @property
    def description(self) -> str:
        return self._bound.description

    def kind(self, record: records.Resource, host: Host) -> Resource:
        """The resource, ready to act, of the type that the definition wants."""
        return self.resource_type(record, host)

    def properties(self) -> Properties:
        """The values that the definition gives.

        :raises StackValidationFailed: one function stands for all properties and gives no map
        """
        if self.resource_type.accepts_anything:
            return Properties({}, {})
        limits = self._definition.template.limits

        def resolve(snippet: Any) -> Any:
            with metered(limits):
                return functions.resolve(snippet, nullable=True)

        data = self._bound.properties
        if isinstance(data, functions.Function):
            data = resolve(data)
            if not isinstance(data, Mapping):
                raise heat.StackValidationFailed(
                    path=["resources", self.name, "properties"], message="The properties must be a map"
                )

        def built(schema: dict[str, Property]) -> Properties:
            return Properties(schema, data or {}, resolve, self._definition.pending, ("properties",))

        return built(self.resource_type.schema_for(built(self.resource_type.properties_schema)))

    def metadata(self) -> Any:
        """The metadata a new resource starts with."""
        return self._bound.metadata()

    def frozen(self, stored: dict[str, Any]) -> dict[str, Any]:
        """The definition with every function resolved: what a later update compares with.

        :param stored: properties, see frozen_properties
        """
        frozen = {
            "implementation": self.resource_type.type_name,
            "type": self.type,
            "properties": stored,
            "metadata": self._bound.metadata(),
            "depends_on": self._bound.depends_on,
            "deletion_policy": self._bound.deletion_policy,
            "update_policy": self._bound.update_policy(),
            "description": self.description,
            "external_id": self.external_id,
        }
        # As the store gives it back, so that the comparison is of like with like.
        return dict(json.loads(json.dumps(frozen)))

    def restricted_actions(self) -> set[str]:
        """Actions that the environment forbids for the resource."""
        return self._definition.environment.registry.restricted_actions(self.name)

    def validate(self, *, strict: bool, template_only: bool) -> None:
        """Check the resource's definition.

        :param strict: check values too
        :param template_only: leave out what only a stack that is to be made must meet
        """
        kind = self.resource_type
        if self.external_id is not None or (kind.accepts_anything and not template_only):
            return
        self._bound.validate()
        place = ["resources", self.name]
        if self._bound.deletion_policy == "Snapshot":
            raise heat.StackValidationFailed(
                path=[*place, "deletion_policy"], message='"Snapshot" deletion policy not supported'
            )
        properties = self.properties()
        try:
            Properties({}, self._bound.update_policy(), prefix=("update_policy",)).validate()
            properties.validate(with_value=strict)
        except heat.StackValidationFailed as error:
            raise heat.StackValidationFailed(
                error=error.error, path=[*place, *error.path], message=error.error_message
            ) from error
        if template_only:
            return
        try:
            host: Any = None
            kind(blank("", self.name, self.type), host).validate(properties)
        except heat.HeatError:
            raise
        except Exception as error:
            raise heat.StackValidationFailed(
                error=type(error).__name__, path=list(place), message=str(error)
            ) from error


def blank(stack_id: str, name: str, type_name: str) -> records.Resource:
    """A resource of which nothing exists, not even a row."""
    return records.Resource(
        id=None,
        uuid="",
        name=name,
        stack_id=stack_id,
        type=type_name,
        action="INIT",
        status=records.COMPLETE,
        created_at=None,  # type: ignore[arg-type] # shown as null
    )


def frozen_properties(kind: Resource, properties: Properties) -> dict[str, Any]:
    """The properties as given, every function resolved; what is kept with the resource."""
    return {} if kind.accepts_anything else properties.given()


class _Source:
    """Answers functions about resources: from living ones once there are any, as if none existed before."""

    def __init__(self, definition: "Definition") -> None:
        self._definition = definition

    def _find(self, name: str) -> Resource | None:
        living = self._definition.living
        return None if living is None else living.find(name)

    def get_reference(self, resource_name: str) -> Any:
        found = self._find(resource_name)
        return resource_name if found is None else found.reference()

    def get_attr(self, resource_name: str, path: Sequence[Any]) -> Any:
        found = self._find(resource_name)
        kind = self._definition.type_of(resource_name)
        if found is None or found.record.action not in _READABLE:
            if path and not kind.accepts_anything and path[0] not in {*kind.attributes_schema, *BASE_ATTRIBUTES}:
                raise KeyError(path[0])
            return None
        values = resources.frozen_values(found)
        if not path:
            return {name: found.get_attribute(name, values) for name in found.attributes_schema}
        try:
            value = found.get_attribute(path[0], values)
        except heat.InvalidTemplateAttribute:
            raise KeyError(path[0]) from None
        return functions.select(value, path[1:])

    def attribute_names(self, resource_name: str) -> Collection[str]:
        kind = self._definition.type_of(resource_name)
        return _Every() if kind.accepts_anything else {*kind.attributes_schema, *BASE_ATTRIBUTES}


class _Every(Collection[str]):
    """Contains every name and yields none."""

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Definition:
    """A template as one stack's.

    :param template_id: its number in the store; None until it is stored
    """

    def __init__(
        self, template: Template, environment: Environment, facts: StackFacts, template_id: int | None = None
    ) -> None:
        self.template = template
        self.environment = environment
        self.facts = facts
        self.template_id = template_id
        self.living: Living | None = None
        self.parameters = ParameterValues(
            template.parameters,
            environment.parameters,
            stack_name=facts.name,
            stack_id=facts.id,
            project_id=facts.project_id,
            defaults=environment.parameter_defaults,
        )
        self.bound = template.bind(self.parameters, facts, _Source(self))

    def attach(self, living: Living) -> None:
        """From now on, references and attributes are those of living resources."""
        self.living = living

    def type_of(self, name: str) -> type[Resource]:
        """The type that makes a resource, through the environment's registry.

        :raises StackValidationFailed: there is none
        :raises ResourceTypeUnavailable: the embedded engine has it not
        """
        wanted = self.bound.resource(name).type
        return resources.find(self.environment.registry.type_for(wanted, _KNOWN_TYPES, name))

    def pending(self, snippet: Any) -> bool:
        """Whether a snippet depends on a resource that was not created yet, so that its value means nothing."""
        for name in functions.dependencies(snippet):
            found = None if self.living is None else self.living.find(name)
            if found is None or found.record.action == "INIT":
                return True
        return False

    @cached_property
    def graph(self) -> Graph:
        """Who requires whom.

        :raises CircularDependencyException, InvalidTemplateReference: see bound.dependencies
        """
        return self.bound.dependencies(self._label)

    def _label(self, resource: BoundResource) -> str:
        return f'{self.type_of(resource.name).class_name} "{resource.name}"'

    def names(self) -> list[str]:
        """Names of the resources whose condition holds, in the template's order."""
        return self.bound.enabled_resources()

    def has(self, name: str) -> bool:
        """Whether there is a resource of this name whose condition holds."""
        return name in self.bound.resources

    def names_reversed(self) -> list[str]:
        """The same, each after all that require it."""
        return list(reversed(self.graph))

    def requires(self, name: str) -> list[str]:
        """What a resource needs directly."""
        return self.graph.requires(name)

    def required_by(self, name: str) -> list[str]:
        """What needs a resource directly; nothing where it is not in the definition."""
        return self.graph.required_by(name) if name in self.graph else []

    def planned(self, name: str) -> Planned:
        """A resource as it should be. :raises KeyError: there is none of this name"""
        return Planned(self, self.bound.resource(name))

    def has_hook(self, name: str, hook: str) -> bool:
        """Whether the environment holds the resource at this point."""
        return self.environment.registry.has_hook(name, hook)

    def supports_check(self) -> bool:
        """Whether every resource's type can be checked."""
        return all(self.type_of(name).supports_check for name in self.names())

    def validate(self, *, strict: bool = True, template_only: bool = False) -> None:
        """Check everything: structure, parameters, resources, outputs.

        :raises HeatError: the first that is wrong, in upstream's order
        """
        self.template.validate()
        self.parameters.validate(strict)
        for name in self.bound.resources:
            if "/" in name:
                raise heat.StackValidationFailed(message='Resource name may not contain "/"')
            self.type_of(name)
        self.bound.validate(
            lambda resource: Planned(self, resource).validate(strict=strict, template_only=template_only), self._label
        )

    def outputs(self) -> dict[str, dict[str, Any]]:
        """Name -> the output's key and description."""
        return {name: self._output(name) for name in self.bound.outputs()}

    def _output(self, name: str) -> dict[str, Any]:
        return {"output_key": name, "description": self.bound.output(name).description}

    def output(self, name: str) -> dict[str, Any]:
        """An output with its value, or with the reason why it has none. :raises KeyError: there is no such output"""
        answer = self._output(name)
        try:
            answer["output_value"] = self.bound.output(name).value()
        except Exception as error:  # whatever a function raises is the output's error, not the caller's
            answer["output_error"] = str(error)
            answer["output_value"] = None
        return answer

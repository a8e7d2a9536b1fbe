"""A parsed HOT document: its version, its sections, and the rules that hold without values of parameters.

Comes in: a mapping (or text) and the files that came with it. Goes out: a Template; with parameters, facts of the stack
and a source of attributes it becomes a Bound (bound.py), which can resolve functions. Raises InvalidTemplateVersion,
InvalidSchemaError and StackValidationFailed with upstream's texts. A Template is never changed after parse, so any
number of threads may use it.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heatperf.engine import documents, functions
from heatperf.engine.bound import Bound, StackFacts
from heatperf.engine.limits import DEFAULT, Limits, check_shape
from heatperf.engine.parameters import ParameterSchema, ParameterValues
from heatperf.errors import heat

VERSION_KEY = "heat_template_version"

#: alias -> date: releases that brought a version
ALIASES = {
    "newton": "2016-10-14",
    "ocata": "2017-02-24",
    "pike": "2017-09-01",
    "queens": "2018-03-02",
    "rocky": "2018-08-31",
    "wallaby": "2021-04-16",
}

#: key -> versions, of all kinds of template that a real engine knows
_KNOWN = {
    VERSION_KEY: sorted([*functions.FUNCTIONS, *ALIASES]),
    "HeatTemplateFormatVersion": ["2012-12-12"],
    "AWSTemplateFormatVersion": ["2010-09-09"],
}

#: from this version on there are conditions, external resources and lower case deletion policies
CONDITIONS_SINCE = "2016-10-14"

_SECTIONS = (VERSION_KEY, "description", "parameter_groups", "parameters", "resources", "outputs")
#: Upstream shares one table of keywords between all versions, so that newer ones pass this check everywhere and are
#: refused, with another text, when definitions are read.
_RESOURCE_KEYWORDS = (
    "type",
    "properties",
    "metadata",
    "depends_on",
    "deletion_policy",
    "update_policy",
    "description",
    "value",
    "external_id",
    "condition",
)


@dataclass(frozen=True)
class ResourceDefinition:
    """What a template says of one resource, functions unresolved. Unchecked; Bound.resource is the checked one."""

    name: str
    type: Any
    properties: Any = None
    metadata: Any = None
    depends_on: Any = None
    deletion_policy: Any = None
    update_policy: Any = None
    external_id: Any = None
    condition: Any = None
    description: Any = None


@dataclass(frozen=True)
class OutputDefinition:
    """What a template says of one output, functions unresolved. Unchecked; Bound.output is the checked one."""

    name: str
    value: Any = None
    description: Any = None
    condition: Any = None


def _version_of(document: Mapping[str, Any]) -> tuple[str, str]:
    """Return key and value of the document's version.

    :raises heat.InvalidTemplateVersion: there is none, more than one, or one that nobody knows
    """
    present = [key for key in _KNOWN if isinstance(document.get(key), str)]
    if len(present) > 1:
        raise heat.InvalidTemplateVersion(explanation=f"Ambiguous versions ({', '.join(present)})")
    if not present:
        raise heat.InvalidTemplateVersion(explanation="Template version was not provided")
    key = present[0]
    version = document[key]
    known = _KNOWN[key]
    if version not in known:
        choice = "should be one of" if len(known) > 1 else "should be"
        raise heat.InvalidTemplateVersion(explanation=f'"{key}: {version}". "{key}" {choice}: {", ".join(known)}')
    return key, version


def list_versions() -> list[dict[str, Any]]:
    """Return what list_template_versions answers; kinds of template that this engine cannot read are left out."""
    return [
        {
            "version": f"{VERSION_KEY}.{date}",
            "type": "hot",
            "aliases": [f"{VERSION_KEY}.{alias}" for alias, meant in ALIASES.items() if meant == date],
        }
        for date in functions.FUNCTIONS
    ]


def list_functions(template_version: str, with_condition: bool = False) -> list[dict[str, str]]:
    """Return what list_template_functions answers.

    :param template_version: as list_versions gives it, or an alias
    :raises heat.NotFound: there is none of this name
    """
    name = template_version.removeprefix(f"{VERSION_KEY}.")
    date = ALIASES.get(name, name)
    if date not in functions.FUNCTIONS or name == template_version:
        escaped = template_version.replace("%", "%%")
        raise heat.NotFound(f"Template with version {escaped} not found")
    described = functions.describe(date, with_condition)
    return [{"functions": function, "description": text} for function, text in described.items()]


class Template:
    """One template. Make it with parse.

    :param document: the parsed document; must not be changed afterwards
    :param files: name -> content, for get_file and nested templates
    """

    def __init__(self, document: Mapping[str, Any], files: Mapping[str, str], limits: Limits, version: str) -> None:
        self.raw = document
        self.files = files
        self.limits = limits
        #: as the document says it: a date or an alias
        self.version = version
        #: date of the version; dates compare as text
        self.date = ALIASES.get(version, version)

    @classmethod
    def parse(cls, document: Any, *, files: Mapping[str, str] | None = None, limits: Limits = DEFAULT) -> "Template":
        """Return the template that a document says.

        Only what upstream looks at this early is checked: the version. See validate.

        :param document: a mapping, or JSON or YAML text
        :raises heat.InvalidTemplateVersion: the version is missing or unknown
        :raises heat.StackValidationFailed: it is no document, too deep or too large, or a template of CloudFormation
        :raises heat.RequestLimitExceeded: the text is too large
        """
        if isinstance(document, str):
            try:
                document = documents.parse_template(document, limits)
            except ValueError as error:
                raise heat.StackValidationFailed(message=str(error)) from error
        if not isinstance(document, Mapping):
            raise heat.StackValidationFailed(message="The template is not a JSON object or YAML mapping.")
        check_shape(document, limits)
        key, version = _version_of(document)
        if key != VERSION_KEY:
            raise heat.StackValidationFailed(
                message=f"Templates of the kind {key} are not supported by the embedded engine; use {VERSION_KEY}."
            )
        return cls(document, dict(files or {}), limits, version)

    def _section(self, name: str) -> Any:
        # an empty section of YAML is null, of JSON a map
        return self.raw.get(name) or {}

    def _map_section(self, name: str) -> Mapping[str, Any]:
        """Return a section that must be a map.

        :raises heat.StackValidationFailed: it is not
        """
        section = self._section(name)
        if not isinstance(section, Mapping):
            raise heat.StackValidationFailed(
                message=f'"{name}" must contain a map of {name[:-1]} maps. Found a [{type(section)}] instead'
            )
        return section

    @property
    def has_conditions(self) -> bool:
        """Whether the version has conditions."""
        return self.date >= CONDITIONS_SINCE

    @property
    def description(self) -> Any:
        """The description, ``No description`` where there is none."""
        return self.raw.get("description") or "No description"

    @functools.cached_property
    def parameters(self) -> dict[str, ParameterSchema]:
        """Schemas of the parameters.

        :raises heat.InvalidSchemaError: one makes no sense
        """
        section = self._section("parameters")
        if not isinstance(section, Mapping):
            raise heat.InvalidSchemaError(message="Invalid parameters, expected a mapping")
        return {
            str(name): ParameterSchema.from_dict(str(name), definition, self.date)
            for name, definition in section.items()
        }

    def all_parameters(self, files: Mapping[str, str] | None = None) -> dict[str, ParameterSchema]:
        """Return the schemas of this template and of all templates among ``files``, this one's first.

        :raises heat.InvalidTemplateVersion, heat.InvalidSchemaError, heat.StackValidationFailed: one is wrong
        """
        schemas: dict[str, ParameterSchema] = {}
        for text in (files or {}).values():
            try:
                document = documents.parse_template(text, self.limits)
            except ValueError:
                continue
            schemas |= Template.parse(document, limits=self.limits).parameters
        return schemas | self.parameters

    @functools.cached_property
    def resources(self) -> dict[str, ResourceDefinition]:
        """All resources, those whose condition does not hold too.

        :raises heat.StackValidationFailed: the section is no map of maps
        """
        found = {}
        for name, entry in self._map_section("resources").items():
            if not isinstance(entry, Mapping):
                raise self._no_map("resources", entry)
            fields = {key: entry.get(key) for key in ResourceDefinition.__dataclass_fields__ if key != "name"}
            found[str(name)] = ResourceDefinition(str(name), **fields)
        return found

    @functools.cached_property
    def outputs(self) -> dict[str, OutputDefinition]:
        """All outputs, those whose condition does not hold too.

        :raises heat.StackValidationFailed: the section is no map of maps, or one has no value
        """
        section = self._section("outputs")
        if not isinstance(section, Mapping):
            raise self._output_failed(f"Output definitions must be a map. Found a {type(section).__name__} instead")
        found = {}
        for name, entry in section.items():
            if not isinstance(entry, Mapping):
                raise self._output_failed(
                    f"Output definitions must be a map. Found a {type(entry).__name__} instead", str(name)
                )
            if "value" not in entry:
                raise self._output_failed("Each output definition must contain a value key.", str(name))
            found[str(name)] = OutputDefinition(
                str(name), entry["value"], entry.get("description"), entry.get("condition")
            )
        return found

    @property
    def conditions(self) -> Mapping[str, Any]:
        """Definitions of conditions, functions unresolved.

        :raises heat.StackValidationFailed: the section is no map
        """
        if not self.has_conditions:
            return {}
        section = self.raw.get("conditions", {})
        if not isinstance(section, Mapping):
            raise heat.StackValidationFailed(
                error="Conditions validation error",
                message=f"Condition definitions must be a map. Found a {type(section).__name__} instead",
            )
        return section

    @staticmethod
    def _output_failed(message: str, name: str | None = None) -> heat.StackValidationFailed:
        path = ["outputs"] if name is None else ["outputs", name]
        return heat.StackValidationFailed(error="Output validation error", path=path, message=message)

    @staticmethod
    def _no_map(section: str, entry: Any) -> heat.StackValidationFailed:
        return heat.StackValidationFailed(
            message=f'"{section}" must contain a map of {section[:-1]} maps. Found a [{type(entry)}] instead'
        )

    def validate(self) -> None:
        """Check sections and the keywords of resources: all that upstream checks before it looks at parameters.

        :raises heat.StackValidationFailed: something is wrong
        """
        sections = (*_SECTIONS, "conditions") if self.has_conditions else _SECTIONS
        for section in self.raw:
            if section not in sections:
                raise heat.StackValidationFailed(message=str(heat.InvalidTemplateSection(section=section)))
        resources = self._map_section("resources")
        for _name, entry in sorted(resources.items(), key=lambda item: str(item[0])):
            self._validate_resource(entry)
        for entry in resources.values():
            if not entry["type"]:
                raise heat.StackValidationFailed(message="Each Resource must contain a Type key.")

    def _validate_resource(self, entry: Any) -> None:
        if not entry:
            raise heat.StackValidationFailed(message="Each resource must contain a type key.")
        if not isinstance(entry, Mapping):
            raise self._no_map("resources", entry)
        for key in entry:
            if key not in _RESOURCE_KEYWORDS:
                raise heat.StackValidationFailed(message=f'"{key}" is not a valid keyword inside a resource definition')
        if "type" not in entry:
            raise heat.StackValidationFailed(message="Each resource must contain a type key.")

    @property
    def parameter_groups(self) -> Any:
        """The section as it stands; an empty map where there is none."""
        return self._section("parameter_groups")

    def validate_parameter_groups(self) -> None:
        """Check that groups name parameters that exist, each in one group only.

        :raises heat.StackValidationFailed: they do not
        """
        groups = self.parameter_groups
        if not groups:
            return
        if not isinstance(groups, list):
            raise self._group_failed("The parameter_groups should be a list.")
        known = {*self.parameters, "OS::stack_id", "OS::project_id"}
        grouped: list[Any] = []
        for group in groups:
            if not isinstance(group, Mapping):
                raise self._group_failed("Each parameter group should be a map.")
            label = str(group.get("label", ""))
            names = group.get("parameters")
            if names is None:
                raise self._group_failed("The parameters must be provided for each parameter group.", label)
            if not isinstance(names, list):
                raise self._group_failed("The parameters of parameter group should be a list.", label)
            for name in names:
                if name in grouped:
                    raise self._group_failed(
                        f"The {name} parameter must be assigned to one parameter group only.", label
                    )
                grouped.append(name)
                if not isinstance(name, str) or name not in known:
                    raise self._group_failed(
                        f"The grouped parameter {name} does not reference a valid parameter.", label
                    )

    @staticmethod
    def _group_failed(message: str, label: str | None = None) -> heat.StackValidationFailed:
        path = ["parameter_groups"] if label is None else ["parameter_groups", label]
        return heat.StackValidationFailed(error="Parameter Groups error", path=path, message=message)

    def bind(
        self,
        parameters: ParameterValues,
        stack: StackFacts,
        attributes: functions.AttributeSource,
    ) -> Bound:
        """Return the template as part of a stack, where functions have values.

        :param attributes: asked for references and attributes of resources
        """
        return Bound(self, parameters, stack, attributes)


__all__ = [
    "ALIASES",
    "Bound",
    "OutputDefinition",
    "ResourceDefinition",
    "StackFacts",
    "Template",
    "list_functions",
    "list_versions",
]

"""The RPC methods about types, template versions and functions: what the engine knows, the same for everybody.

Comes in: names and filters. Goes out: schemas and generated templates in upstream's form. Raises: upstream's errors
for unknown names. Pure code, any thread.
"""

import re
from collections.abc import Mapping
from typing import Any

from heatperf.engine import constraints, resources
from heatperf.engine import template as hot
from heatperf.engine.caller import Caller
from heatperf.engine.resources import schema
from heatperf.engine.resources.base import BASE_ATTRIBUTES, Resource
from heatperf.engine.resources.schema import Property
from heatperf.errors import heat

_SUPPORT = ("UNKNOWN", "SUPPORTED", "DEPRECATED", "UNSUPPORTED", "HIDDEN")

_HOT_KINDS = {
    schema.INTEGER: "number",
    schema.NUMBER: "number",
    schema.STRING: "string",
    schema.BOOLEAN: "boolean",
    schema.MAP: "json",
    schema.LIST: "comma_delimited_list",
}
_CFN_KINDS = {
    schema.INTEGER: "Number",
    schema.NUMBER: "Number",
    schema.STRING: "String",
    schema.BOOLEAN: "Boolean",
    schema.MAP: "Json",
    schema.LIST: "CommaDelimitedList",
}


class CatalogueCalls:
    """Types, versions, functions."""

    def list_resource_types(
        self,
        caller: Caller,
        support_status: str | None = None,
        type_name: str | None = None,
        heat_version: str | None = None,
        with_description: bool = False,
    ) -> list[Any]:
        if support_status is not None and support_status not in _SUPPORT:
            raise heat.Invalid(reason=f"Invalid support status and should be one of {_SUPPORT}")
        try:
            matches = re.compile(type_name or "").match
        except (re.error, RecursionError, TypeError):
            return []
        found = [
            kind
            for name, kind in sorted(resources.TYPES.items())
            if matches(name) and heat_version in (None, kind.since) and support_status in (None, "SUPPORTED")
        ]
        if not with_description:
            return [kind.type_name for kind in found]
        return [{"resource_type": kind.type_name, "description": kind.description} for kind in found]

    def resource_schema(self, caller: Caller, type_name: str, with_description: bool = False) -> dict[str, Any]:
        kind = resources.find(type_name)
        attributes = {**kind.attributes_schema, **BASE_ATTRIBUTES}
        answer: dict[str, Any] = {
            "resource_type": type_name,
            "properties": {name: prop.as_dict() for name, prop in _shown(kind).items()},
            "attributes": {name: attribute.as_dict() for name, attribute in attributes.items()},
            "support_status": {
                "status": "SUPPORTED",
                "message": None,
                "version": kind.since,
                "previous_status": None,
            },
        }
        if with_description:
            answer["description"] = kind.description
        return answer

    def generate_template(self, caller: Caller, type_name: str, template_type: str = "cfn") -> dict[str, Any]:
        kind = resources.find(type_name)
        if any(prop.kind == schema.ANY for prop in _shown(kind).values()):
            # No type of parameter takes any value; upstream fails here with a KeyError.
            raise heat.NotSupported(feature=f"Generating a template for {type_name}")
        return _generated_hot(kind) if template_type == "hot" else _generated_cfn(kind)

    def list_template_versions(self, caller: Caller) -> list[dict[str, Any]]:
        return hot.list_versions()

    def list_template_functions(
        self, caller: Caller, template_version: str, with_condition: bool = False
    ) -> list[dict[str, Any]]:
        return hot.list_functions(template_version, with_condition)


def _shown(kind: type[Resource]) -> dict[str, Property]:
    return {name: prop for name, prop in kind.properties_schema.items() if not prop.hidden}


def _outputs(kind: type[Resource], value: str, text: str, attribute: str, reference: str) -> dict[str, Any]:
    """Outputs for all attributes, in the words of one kind of template."""
    name = kind.class_name
    outputs: dict[str, Any] = {
        key: {value: {attribute: [name, key]}, text: found.description}
        for key, found in {**kind.attributes_schema, **BASE_ATTRIBUTES}.items()
    }
    outputs["OS::stack_id"] = {value: {reference: name}}
    return outputs


def _hot_parameter(prop: Property) -> dict[str, Any]:
    found: dict[str, Any] = {"type": _HOT_KINDS[prop.kind]}
    if prop.description is not None:
        found["description"] = prop.description
    if prop.default is not None:
        found["default"] = prop.default
    if prop.constraints:
        # A constraint that templates cannot express leaves an empty place, as upstream.
        found["constraints"] = [
            {} if isinstance(constraint, constraints.CustomConstraint) else {constraint.key: constraint.content()}
            for constraint in prop.constraints
        ]
    return found


def _generated_hot(kind: type[Resource]) -> dict[str, Any]:
    shown = _shown(kind)
    return {
        "heat_template_version": "2016-10-14",
        "description": f"Initial template of {kind.class_name}",
        "parameters": {name: _hot_parameter(prop) for name, prop in shown.items()},
        "outputs": _outputs(kind, "value", "description", "get_attr", "get_resource"),
        "resources": {
            kind.class_name: {
                "type": kind.type_name,
                "properties": {name: {"get_param": name} for name in shown},
            }
        },
    }


def _cfn_parameter(prop: Property) -> dict[str, Any]:
    found: dict[str, Any] = {"Type": _CFN_KINDS[prop.kind]}
    if prop.description is not None:
        found["Description"] = prop.description
    if prop.default is not None:
        found["Default"] = prop.default
    for constraint in prop.constraints:
        found.update(_cfn_constraint(constraint))
    if prop.kind == schema.BOOLEAN:
        found["AllowedValues"] = ["True", "true", "False", "false"]
    return found


def _cfn_constraint(constraint: constraints.Constraint) -> Mapping[str, Any]:
    if isinstance(constraint, constraints.Range):
        ends = ("MinLength", "MaxLength") if isinstance(constraint, constraints.Length) else ("MinValue", "MaxValue")
        pairs = zip(ends, (constraint.min, constraint.max), strict=True)
        return {name: bound for name, bound in pairs if bound is not None}
    if isinstance(constraint, constraints.AllowedValues):
        return {"AllowedValues": list(constraint.allowed)}
    return {}


def _generated_cfn(kind: type[Resource]) -> dict[str, Any]:
    shown = _shown(kind)
    properties = {
        name: {"Fn::Split": [",", {"Ref": name}]} if prop.kind == schema.LIST else {"Ref": name}
        for name, prop in shown.items()
    }
    return {
        "HeatTemplateFormatVersion": "2012-12-12",
        "Description": f"Initial template of {kind.class_name}",
        "Parameters": {name: _cfn_parameter(prop) for name, prop in shown.items()},
        "Resources": {kind.class_name: {"Type": kind.type_name, "Properties": properties}},
        "Outputs": _outputs(kind, "Value", "Description", "Fn::GetAtt", "Ref"),
    }

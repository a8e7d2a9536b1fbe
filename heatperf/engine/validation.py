"""validate_template: what is wrong with a template, or what it wants to know.

Comes in: a request without a stack. Goes out: parameters and environment, or ``{"Error": text}``. Raises: errors that
upstream does not turn into that text. Runs on threads of requests.
"""

from typing import Any

from heatperf.engine import constraints, requests
from heatperf.engine.bound import StackFacts
from heatperf.engine.caller import Caller
from heatperf.engine.core import Core
from heatperf.engine.definition import Definition
from heatperf.engine.parameters import Parameter
from heatperf.engine.requests import Request
from heatperf.errors import heat

#: Error codes that a client may ask to ignore.
_CODES = {"99001": heat.ResourceTypeUnavailable}

_TYPES = {
    "string": "String",
    "number": "Number",
    "comma_delimited_list": "CommaDelimitedList",
    "json": "Json",
    "boolean": "Boolean",
}


def validate_template(core: Core, caller: Caller, request: Request, ignorable_errors: Any) -> dict[str, Any]:
    """Check a template as far as that goes without a stack."""
    if request.template is None:
        raise heat.Invalid(reason="No Template provided.")
    invalid = [code for code in ignorable_errors or () if code not in _CODES]
    if invalid:
        raise heat.Invalid(reason=f"Invalid codes in ignore_errors : {invalid}")
    template, environment = request.parse()
    try:
        requests.check_structure(core, template)
    except heat.HeatError as error:
        return {"Error": str(error)}
    definition = Definition(template, environment, StackFacts("dummy", "None", caller.project_id or ""))
    ignored = tuple(_CODES[code] for code in ignorable_errors or ())
    try:
        definition.validate(strict=False, template_only=True)
    except ignored:
        pass
    except heat.StackValidationFailed as error:
        return {"Error": str(error)}
    answer: dict[str, Any] = {
        "Description": template.description,
        "Parameters": {
            name: format_parameter(parameter) for name, parameter in definition.parameters.user_parameters().items()
        },
    }
    if template.parameter_groups:
        answer["ParameterGroups"] = template.parameter_groups
    answer["Environment"] = environment.user_dict()
    return answer


def format_parameter(parameter: Parameter) -> dict[str, Any]:
    """A parameter's schema and value, in the words of CloudFormation as the API has them."""
    answer: dict[str, Any] = {
        "Type": _TYPES.get(parameter.schema.type, parameter.schema.type),
        "Description": parameter.description(),
        "NoEcho": "true" if parameter.hidden() else "false",
        "Label": parameter.label(),
    }
    if parameter.has_default():
        answer["Default"] = parameter.default()
    if parameter.given:
        answer["Value"] = parameter.given
    if parameter.tags():
        answer["Tags"] = parameter.tags()
    descriptions = []
    for constraint in parameter.schema.constraints:
        answer.update(_constraint(constraint))
        if constraint.description:
            descriptions.append(constraint.description)
    if descriptions:
        answer["ConstraintDescription"] = " ".join(descriptions)
    return answer


def _constraint(constraint: constraints.Constraint) -> dict[str, Any]:
    found: dict[str, Any] = {}
    # Length is a Range too
    if isinstance(constraint, constraints.Length):
        found = {"MinLength": constraint.min, "MaxLength": constraint.max}
    elif isinstance(constraint, constraints.Range):
        found = {"MinValue": constraint.min, "MaxValue": constraint.max}
    elif isinstance(constraint, constraints.Modulo):
        found = {"Step": constraint.step, "Offset": constraint.offset}
    elif isinstance(constraint, constraints.AllowedValues):
        found = {"AllowedValues": list(constraint.allowed)}
    elif isinstance(constraint, constraints.AllowedPattern):
        found = {"AllowedPattern": constraint.pattern}
    elif isinstance(constraint, constraints.CustomConstraint):
        found = {"CustomConstraint": constraint.name}
    return {key: value for key, value in found.items() if value is not None}

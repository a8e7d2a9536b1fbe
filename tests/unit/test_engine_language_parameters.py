"""Parameters and environments: texts and classes are those of openstack-heat 27.0.1."""

import json

import pytest
from language_rig import bind

from heatperf.engine.environment import Environment, Registry, merge_environments
from heatperf.engine.parameters import ParameterValues
from heatperf.engine.template import Template
from heatperf.errors import heat

BUILTIN = {"OS::Heat::None", "OS::Heat::Value"}


def values_of(definition, given=None, version="2021-04-16", needed=True, **arguments):
    """Return the parameters of a template with one parameter, ``p``."""
    template = Template.parse({"heat_template_version": version, "parameters": {"p": definition}})
    values = ParameterValues(template.parameters, {} if given is None else {"p": given}, **arguments)
    values.validate(needed)
    return values


@pytest.mark.parametrize(
    ("kind", "given", "expected", "shown"),
    [
        ("string", 5, "5", "5"),
        ("string", "", "", ""),
        ("number", "5", 5, "5"),
        ("number", "1e3", 1000.0, "1000.0"),
        ("boolean", "Off", False, "False"),
        ("boolean", 1, True, "True"),
        ("comma_delimited_list", "a,,b", ["a", "", "b"], "a,,b"),
        ("comma_delimited_list", "", [], ""),
        ("comma_delimited_list", [1, "x"], ["1", "x"], "1,x"),
        ("json", '{"a": [1]}', {"a": [1]}, '{"a": [1]}'),
        ("json", {"a": None}, {"a": None}, '{"a": null}'),
        ("json", "", "", '""'),
    ],
)
def test_values_get_their_types(kind, given, expected, shown):
    values = values_of({"type": kind}, given)
    assert values["p"] == expected
    assert str(values.parameters["p"]) == shown
    hidden = values_of({"type": kind, "hidden": True}, given)
    assert str(hidden.parameters["p"]) == "******"
    assert hidden["p"] == expected


@pytest.mark.parametrize(
    ("definition", "given", "message"),
    [
        ({"type": "number"}, "x", "could not convert string to float: 'x'"),
        (
            {"type": "boolean"},
            "maybe",
            "Unrecognized value 'maybe', acceptable values are: "
            "'0', '1', 'f', 'false', 'n', 'no', 'off', 'on', 't', 'true', 'y', 'yes'",
        ),
        (
            {"type": "json"},
            "{",
            "Value must be valid JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        (
            {"type": "comma_delimited_list"},
            5,
            "Value must be a comma-delimited list string: 'int' object has no attribute 'split'",
        ),
        (
            {"type": "string", "constraints": [{"length": {"min": 2, "max": 3}}]},
            "abcd",
            "length (4) is out of range (min: 2, max: 3)",
        ),
        (
            {"type": "json", "constraints": [{"length": {"min": 2}}]},
            '{"a":1}',
            "length (1) is out of range (min: 2, max: None)",
        ),
        ({"type": "number", "constraints": [{"range": {"max": "3"}}]}, "5", "5 is out of range (min: None, max: 3)"),
        (
            {"type": "number", "constraints": [{"modulo": {"step": 3, "offset": 1}}]},
            5,
            "5 is not a multiple of 3 with an offset of 1",
        ),
        (
            {"type": "string", "constraints": [{"allowed_values": ["x", 1]}]},
            "y",
            '"y" is not an allowed value ["x", 1]',
        ),
        (
            {"type": "comma_delimited_list", "constraints": [{"allowed_values": ["a"]}]},
            "a,b",
            '["a", "b"] is not an allowed value ["a"]',
        ),
        ({"type": "string", "constraints": [{"allowed_pattern": "a|ab"}]}, "ab", '"ab" does not match pattern "a|ab"'),
        (
            {"type": "string", "constraints": [{"allowed_pattern": "x"}, {"length": {"min": 9}}]},
            "y",
            '"y" does not match pattern "x"',
        ),
        ({"type": "string", "constraints": [{"length": {"min": 9}, "description": "Longer!"}]}, "y", "Longer!"),
        (
            {"type": "string", "constraints": [{"custom_constraint": "nova.flavor"}]},
            "y",
            '"y" does not validate nova.flavor (constraint not found)',
        ),
        (
            {"type": "string", "constraints": [{"custom_constraint": "ip_addr"}]},
            "1.2.3",
            "Error validating value '1.2.3': Invalid IP address",
        ),
        ({"type": "string", "constraints": [{"custom_constraint": "iso_8601"}]}, "y", "Error validating value 'y'"),
        (
            {"type": "string", "constraints": [{"custom_constraint": "dns_name"}]},
            "-y",
            "Error validating value '-y': '-y' not in valid format. "
            "Reason: Name '-y' must not start or end with a hyphen.",
        ),
        ({"type": "string", "constraints": [{"length": {"max": 3}}]}, 5, "object of type 'int' has no len()"),
    ],
)
def test_wrong_values_are_refused(definition, given, message):
    with pytest.raises(heat.StackValidationFailed) as caught:
        values_of(definition, given)
    assert str(caught.value) == f"Parameter 'p' is invalid: {message}"


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("ip_addr", "fe80::1"),
        ("ip_or_cidr", "10.0.0.0/24"),
        ("net_cidr", "10.0.0.0/24"),
        ("mac_addr", "fa:16:3e:00:00:01"),
        ("dns_name", "www.example.com."),
        ("dns_domain", "example.com."),
        ("rel_dns_name", "www"),
        ("iso_8601", "2030-01-01T00:00:00Z"),
        ("expiration", "2999-01-01T00:00:00"),
        ("timezone", "UTC"),
        ("json_string", "[1]"),
    ],
)
def test_custom_constraints_that_need_no_cloud(name, good):
    definition = {"type": "string", "constraints": [{"custom_constraint": name}]}
    assert values_of(definition, good)["p"] == good
    with pytest.raises(heat.StackValidationFailed, match=r"^Parameter 'p' is invalid: Error validating value"):
        values_of(definition, "-/wrong.")


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (5, "Invalid parameter (p), expected a mapping"),
        ({}, "Missing parameter type for parameter: p"),
        ({"type": "String"}, "Invalid type (String)"),
        ({"type": "string", "default_value": 1}, "Invalid key 'default_value' for parameter (p)"),
        ({"type": "string", "tags": "t"}, "Tags property should be a list for parameter: p"),
        ({"type": "string", "constraints": {}}, "Invalid parameter constraints for parameter p, expected a list"),
        ({"type": "string", "constraints": [{}]}, "No constraint expressed"),
        ({"type": "string", "constraints": [{"size": 1}]}, "Invalid key 'size' for parameter constraints"),
        ({"type": "string", "constraints": [{"length": {"least": 1}}]}, "Invalid key 'least' for length constraint"),
        (
            {"type": "string", "constraints": [{"length": {}}]},
            "A length constraint must have a min value and/or a max value specified.",
        ),
        ({"type": "string", "constraints": [{"length": {"min": 1.5}}]}, "min/max length must be integral"),
        (
            {"type": "number", "constraints": [{"modulo": {"step": 2}}]},
            "A modulo constraint must have a step value and an offset value specified.",
        ),
        ({"type": "number", "constraints": [{"modulo": {"step": 0, "offset": 0}}]}, "step cannot be 0."),
        (
            {"type": "number", "constraints": [{"modulo": {"step": 2, "offset": 2}}]},
            "offset must be smaller (by absolute value) than step.",
        ),
        (
            {"type": "number", "constraints": [{"modulo": {"step": 2, "offset": -1}}]},
            "step and offset must be both positive or both negative.",
        ),
        ({"type": "string", "constraints": [{"allowed_values": "ab"}]}, "AllowedValues must be a list"),
        ({"type": "string", "constraints": [{"allowed_pattern": 5}]}, "AllowedPattern must be a string"),
        (
            {"type": "string", "constraints": [{"range": {"min": 1}}]},
            "Parameter 'p' is invalid: Range constraint invalid for string",
        ),
        (
            {"type": "json", "constraints": [{"allowed_values": []}]},
            "Parameter 'p' is invalid: AllowedValues constraint invalid for json",
        ),
        (
            {"type": "string", "default": "ab", "constraints": [{"length": {"min": 3}}]},
            "Parameter 'p' is invalid: Invalid default ab (length (2) is out of range (min: 3, max: None))",
        ),
        (
            {"type": "comma_delimited_list", "default": 5},
            "Parameter 'p' is invalid: Default must be a comma-delimited list string: "
            "'int' object has no attribute 'split'",
        ),
    ],
)
def test_wrong_schemas_are_refused(definition, message):
    with pytest.raises(heat.InvalidSchemaError) as caught:
        values_of(definition, "1")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("version", "definition"),
    [
        ("2016-10-14", {"type": "number", "constraints": [{"modulo": {"step": 2, "offset": 1}}]}),
        ("2017-09-01", {"type": "string", "tags": ["t"]}),
    ],
)
def test_newer_keys_are_unknown_to_older_versions(version, definition):
    with pytest.raises(heat.InvalidSchemaError):
        values_of(definition, "1", version)
    assert values_of(definition, "1", "2018-03-02")["p"]


def test_names_are_checked_both_ways():
    with pytest.raises(heat.UserParameterMissing, match=r"The Parameter \(p\) was not provided."):
        values_of({"type": "string"})
    assert not values_of({"type": "string"}, needed=False).parameters["p"].has_value()
    with pytest.raises(heat.UnknownUserParameter, match=r"The Parameter \(q\) was not defined in template."):
        bind({}, {"q": 1})


def test_defaults_of_the_environment_go_before_those_of_the_template():
    values = values_of({"type": "string", "default": "template"}, defaults={"p": "environment", "unknown": 1})
    assert values["p"] == values.parameters["p"].default() == "environment"
    assert values_of({"type": "string"}, "given", defaults={"p": "environment"})["p"] == "given"


def test_a_stack_has_parameters_of_its_own():
    values = values_of({"type": "string"}, "x", stack_name="s", stack_id="i", project_id="t")
    assert dict(values) == {"OS::stack_id": "i", "OS::project_id": "t", "OS::stack_name": "s", "p": "x"}
    assert list(values.user_parameters()) == ["p"]


def test_immutable_parameters():
    fixed = {"type": "number", "default": 1, "immutable": True}
    old = values_of(fixed, "5")
    assert old.immutable_modified(values_of(fixed, "6"), {"p": 6}) == ["p"]
    assert old.immutable_modified(values_of(fixed), {}) == ["p"]
    assert old.immutable_modified(values_of(fixed, "5"), {}) == []
    assert old.immutable_modified(values_of({"type": "number"}, "6"), {"p": 6}) == []


def merged(*environments, start=None, parameters=None):
    """Return the parameters that come out of environment files."""
    schemas = Template.parse(
        {
            "heat_template_version": "2021-04-16",
            "parameters": {
                kind: {"type": kind} for kind in ("string", "json", "comma_delimited_list", "number", "boolean")
            },
        }
    ).parameters
    files = {str(number): json.dumps(environment) for number, environment in enumerate(environments)}
    return merge_environments(list(files), files, start or {"parameters": parameters or {}}, schemas)


MERGE = {"parameter_merge_strategies": {"default": "merge"}}
DEEP = {"parameter_merge_strategies": {"default": "deep_merge"}}


@pytest.mark.parametrize(
    ("strategies", "kind", "one", "other", "expected"),
    [
        ({}, "string", "a", "b", "b"),
        (MERGE, "string", "a", "b", "ab"),
        (MERGE, "comma_delimited_list", "a,b", "c", "a,b,c"),
        (MERGE, "comma_delimited_list", ["a"], ["b"], ["a", "b"]),
        (MERGE, "json", {"a": {"x": 1}, "b": 1}, {"a": {"y": 2}, "b": None}, {"a": {"y": 2}, "b": 1}),
        (
            DEEP,
            "json",
            {"a": {"x": 1}, "l": [1], "t": "p"},
            {"a": {"y": 2}, "l": [2], "t": "q"},
            {"a": {"x": 1, "y": 2}, "l": [1, 2], "t": "pq"},
        ),
    ],
)
def test_environment_files_are_merged(strategies, kind, one, other, expected):
    files = [{"parameters": {kind: item}, **strategies} for item in (one, other)]
    assert merged(*files)["parameters"] == {kind: expected}


def test_wrong_merges_are_refused():
    with pytest.raises(
        heat.InvalidMergeStrategyForParam, match="Invalid merge strategy 'merge' for parameter 'boolean'."
    ):
        merged({"parameters": {"boolean": "t"}, **MERGE}, {"parameters": {"boolean": "f"}, **MERGE})
    with pytest.raises(heat.ConflictingMergeStrategyForParam) as caught:
        merged(
            {"parameters": {"string": "a"}, **MERGE},
            {"parameters": {"string": "b"}, "parameter_merge_strategies": {"string": "overwrite"}},
        )
    assert str(caught.value) == "Conflicting merge strategy 'overwrite' for parameter 'string' in file '1'."
    with pytest.raises(ValueError, match='environment has wrong section "foo"'):
        merged({"foo": 1})
    with pytest.raises(heat.StackValidationFailed, match="not among the files"):
        merge_environments(["a"], {}, {}, {})


def test_the_environment_of_the_request_stays_as_it_is():
    given = {"parameters": {"string": "a"}, "resource_registry": {"A": "B"}}
    result = merged({"resource_registry": {"C": "D"}, "parameters": {"string": "b", "unknown": 1}}, start=given)
    assert result == {"parameters": {"string": "b"}, "resource_registry": {"A": "B", "C": "D"}}
    assert given == {"parameters": {"string": "a"}, "resource_registry": {"A": "B"}}


def test_an_environment_without_sections_is_parameters():
    environment = Environment({"p": 1, "parameter_defaults": {"q": 2}})
    assert (environment.parameters, environment.parameter_defaults) == ({"p": 1}, {"q": 2})
    assert Environment().user_dict() == {
        "resource_registry": {"resources": {}},
        "parameters": {},
        "parameter_defaults": {},
        "event_sinks": [],
    }


@pytest.mark.parametrize(
    ("registry", "resource_type", "expected"),
    [
        ({}, "OS::Heat::None", "OS::Heat::None"),
        ({"A": "B", "B": "OS::Heat::None"}, "A", "OS::Heat::None"),
        ({"My::*": "OS::Heat::*"}, "My::Value", "OS::Heat::Value"),
        ({"OS::*": "OS::Heat::None"}, "OS::Nova::Server", "OS::Heat::None"),
        ({"OS::Heat::Value": "OS::Heat::None"}, "OS::Heat::Value", "OS::Heat::None"),
        ({"resources": {"r": {"OS::Heat::Value": "OS::Heat::None"}}}, "OS::Heat::Value", "OS::Heat::None"),
        ({"resources": {"q": {"OS::Heat::Value": "OS::Heat::None"}}}, "OS::Heat::Value", "OS::Heat::Value"),
        ({"OS::Heat::Value": "Nothing"}, "OS::Heat::Value", "OS::Heat::Value"),
        ({"A": None}, "OS::Heat::Value", "OS::Heat::Value"),
    ],
)
def test_types_stand_for_others(registry, resource_type, expected):
    assert Registry(registry).type_for(resource_type, BUILTIN, "r") == expected


def test_types_stand_for_templates():
    assert Registry({"A": "file:///x.yaml"}).find("A", BUILTIN) == "file:///x.yaml"
    assert Registry().find("x.template", BUILTIN) == "x.template"


@pytest.mark.parametrize(
    ("registry", "resource_type", "message"),
    [
        ({}, "A", "The Resource Type (A) could not be found."),
        ({"A": "B", "B": "A"}, "A", "The Resource Type (A) could not be found."),
        ({"A*": "A*A", "AA*": "AAA*"}, "AB", "The Resource Type (AB) could not be found."),
        ({}, "", 'Resource "r" has no type'),
        ({}, None, 'Non-empty resource type is required for resource "r"'),
        ({}, 5, 'Resource "r" type is not a string'),
    ],
)
def test_types_that_stand_for_nothing(registry, resource_type, message):
    with pytest.raises(heat.StackValidationFailed) as caught:
        Registry(registry).type_for(resource_type, BUILTIN, "r")
    assert str(caught.value) == message


def test_hooks_and_restrictions():
    registry = Registry({"resources": {"web*": {"hooks": ["pre-create"], "restricted_actions": "update"}}})
    assert registry.has_hook("web1", "pre-create")
    assert not registry.has_hook("web1", "pre-delete")
    assert not registry.has_hook("db", "pre-create")
    assert registry.restricted_actions("web1") == {"update"}
    with pytest.raises(heat.InvalidBreakPointHook, match='Invalid hook type "later"'):
        Registry({"resources": {"a": {"hooks": "later"}}})
    with pytest.raises(heat.InvalidRestrictedAction, match="Invalid restricted_action type"):
        Registry({"resources": {"a": {"restricted_actions": ["delete"]}}})


def test_unknown_event_sinks_are_refused():
    assert Environment({"event_sinks": [{"type": "zaqar-queue", "target": "q"}]}).event_sinks
    with pytest.raises(heat.StackValidationFailed):
        Environment({"event_sinks": [{"type": "pigeon"}]})


def test_parameters_of_nested_templates_count_for_merging():
    template = Template.parse({"heat_template_version": "2021-04-16", "parameters": {"a": {"type": "json"}}})
    nested = "heat_template_version: 2015-04-30\nparameters: {a: {type: string}, b: {type: number}}\n"
    schemas = template.all_parameters({"nested.yaml": nested, "script.sh": "#!/bin/sh\n", "data": "a: 1"})
    assert {name: schema.type for name, schema in schemas.items()} == {"a": "json", "b": "number"}

"""Versions, sections, definitions, conditions, dependencies: texts and classes are those of openstack-heat 27.0.1."""

import threading

import pytest
from language_rig import Attributes, bind

from heatperf.engine import functions, template
from heatperf.engine.graph import Graph
from heatperf.engine.parameters import ParameterValues
from heatperf.engine.template import StackFacts, Template
from heatperf.errors import heat

NONE = {"type": "OS::Heat::None"}


def refusal(document, version="2021-04-16"):
    """Return the message with which a document is refused."""
    with pytest.raises(heat.StackValidationFailed) as caught:
        bind(document, version=version).validate()
    return str(caught.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "Template version was not provided"),
        ({"heat_template_version": 20130523}, "Template version was not provided"),
        (
            {"heat_template_version": "2013-05-23", "AWSTemplateFormatVersion": "2010-09-09"},
            "Ambiguous versions (heat_template_version, AWSTemplateFormatVersion)",
        ),
        (
            {"heat_template_version": "2012-01-01"},
            '"heat_template_version: 2012-01-01". "heat_template_version" should be one of: 2013-05-23, 2014-10-16, '
            "2015-04-30, 2015-10-15, 2016-04-08, 2016-10-14, 2017-02-24, 2017-09-01, 2018-03-02, 2018-08-31, "
            "2021-04-16, newton, ocata, pike, queens, rocky, wallaby",
        ),
        (
            {"HeatTemplateFormatVersion": "1"},
            '"HeatTemplateFormatVersion: 1". "HeatTemplateFormatVersion" should be: 2012-12-12',
        ),
    ],
)
def test_unknown_versions_are_named(document, message):
    with pytest.raises(heat.InvalidTemplateVersion) as caught:
        Template.parse(document)
    assert str(caught.value) == f"The template version is invalid: {message}"


@pytest.mark.parametrize(
    "key", [("AWSTemplateFormatVersion", "2010-09-09"), ("HeatTemplateFormatVersion", "2012-12-12")]
)
def test_cloudformation_is_refused_honestly(key):
    with pytest.raises(heat.StackValidationFailed, match="not supported by the embedded engine"):
        Template.parse(dict([key]))


@pytest.mark.parametrize("document", [None, [], 5, "[1]", "a: [", "just text", "a: 1"])
def test_what_is_no_template_is_refused(document):
    with pytest.raises(heat.StackValidationFailed):
        Template.parse(document)


def test_text_is_parsed_as_yaml_with_dates_as_text():
    parsed = Template.parse("heat_template_version: 2015-04-30\ndescription: d\nresources:\n  a: {type: T}\n")
    assert (parsed.version, parsed.date, parsed.description) == ("2015-04-30", "2015-04-30", "d")
    assert parsed.resources["a"].type == "T"


def test_an_alias_means_its_version():
    assert Template.parse({"heat_template_version": "queens"}).date == "2018-03-02"
    assert [entry["aliases"] for entry in template.list_versions()][-3:] == [
        ["heat_template_version.queens"],
        ["heat_template_version.rocky"],
        ["heat_template_version.wallaby"],
    ]


def test_functions_of_each_version():
    """Counted from upstream's classes; the sets were compared with them too."""
    counts = {
        version: (len(functions.describe(version)), len(functions.describe(version, True)))
        for version in functions.FUNCTIONS
    }
    assert counts == {
        "2013-05-23": (16, 16),
        "2014-10-16": (8, 8),
        "2015-04-30": (10, 10),
        "2015-10-15": (10, 10),
        "2016-04-08": (11, 11),
        "2016-10-14": (14, 18),
        "2017-02-24": (16, 20),
        "2017-09-01": (21, 25),
        "2018-03-02": (21, 25),
        "2018-08-31": (21, 25),
        "2021-04-16": (21, 25),
    }
    listed = template.list_functions("heat_template_version.newton", with_condition=True)
    assert {"equals", "if", "yaql"} <= {entry["functions"] for entry in listed}
    assert all(entry["description"] for entry in listed)
    with pytest.raises(heat.NotFound, match="Template with version 100% not found"):
        template.list_functions("100%")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"foo": 1}, "The template section is invalid: foo"),
        ({"resources": {"a": None}}, "Each resource must contain a type key."),
        ({"resources": {"a": {"properties": {}}}}, "Each resource must contain a type key."),
        ({"resources": {"a": {"type": ""}}}, "Each Resource must contain a Type key."),
        ({"resources": {"a": {**NONE, "x": 1}}}, '"x" is not a valid keyword inside a resource definition'),
        (
            {"resources": {"a": "x"}},
            "\"resources\" must contain a map of resource maps. Found a [<class 'str'>] instead",
        ),
        (
            {"resources": {"a": {**NONE, "value": 1}}},
            "Invalid keyword(s) inside a resource definition: value",
        ),
        ({"resources": {"a": {**NONE, "properties": []}}}, "Resource a properties type must be object"),
        ({"resources": {"a": {**NONE, "depends_on": 5}}}, "Resource a depends_on type must be list or string"),
        ({"resources": {"a": {**NONE, "depends_on": [5]}}}, "Resource a depends_on must be a list of strings"),
        ({"resources": {"a": {**NONE, "deletion_policy": "keep"}}}, 'Invalid deletion policy "keep"'),
        ({"resources": {"a": {**NONE, "condition": 5}}}, "Resource a condition type must be string_or_boolean"),
        ({"resources": {"a": {**NONE, "condition": "c"}}}, 'resources.a.condition: Invalid condition "c"'),
        (
            {"resources": {"a": {**NONE, "properties": {"x": [{"list_join": "y"}]}}}},
            'resources.a.properties.x[0].list_join: Incorrect arguments to "list_join" should be: '
            '"list_join" : [ " ", [ "str1", "str2"] ...]',
        ),
        (
            {"resources": {"a": {**NONE, "metadata": {"x": {"y": {"make_url": {"z": 1}}}}}}},
            'resources.a.metadata.x.y.make_url: Invalid arguments to "make_url": z',
        ),
        (
            {"parameters": {"a": {"type": "string", "default": ""}}, "resources": {"a": NONE}},
            "Duplicate names {'a'}",
        ),
        (
            {"outputs": {"o": 5}},
            "Output validation error: outputs.o: Output definitions must be a map. Found a int instead",
        ),
        (
            {"outputs": {"o": {}}},
            "Output validation error: outputs.o: Each output definition must contain a value key.",
        ),
        (
            {"outputs": {"o": {"value": {"x": {"get_attr": ["n", "a"]}}}}},
            'outputs.o.value.x.get_attr: The specified reference "n" (in unknown) is incorrect.',
        ),
        (
            {"outputs": {"o": {"value": [{"get_attr": ["r", "b"]}]}}, "resources": {"r": NONE}},
            "outputs.o.Value[0].get_attr: The Referenced Attribute (r b) is incorrect.",
        ),
        ({"outputs": {"o": {"value": 1, "condition": "c"}}}, 'outputs.o.condition: Invalid condition "c"'),
        (
            {"parameter_groups": {"a": 1}},
            "Parameter Groups error: parameter_groups: The parameter_groups should be a list.",
        ),
        (
            {"parameter_groups": [{"label": "L", "parameters": ["x"]}]},
            "Parameter Groups error: parameter_groups.L: The grouped parameter x does not reference a valid parameter.",
        ),
        (
            {"parameter_groups": [{"parameters": ["OS::stack_id", "OS::stack_id"]}]},
            "Parameter Groups error: parameter_groups.: The OS::stack_id parameter must be assigned to one parameter "
            "group only.",
        ),
        (
            {"conditions": [1]},
            "Conditions validation error: Condition definitions must be a map. Found a list instead",
        ),
        ({"conditions": {"c": 5}}, 'Condition validation error: The definition of condition "c" is invalid: 5'),
        (
            {"conditions": {"c": {"get_attr": ["r", "a"]}}},
            'conditions.c.get_attr: The function "get_attr" is invalid in this context',
        ),
        (
            {"conditions": {"c": {"not": "d"}, "d": {"not": "c"}}, "resources": {"a": {**NONE, "condition": "c"}}},
            'Condition validation error: Circular definition for condition "c"',
        ),
    ],
)
def test_wrong_documents_get_upstreams_text(document, message):
    assert refusal(document) == message


@pytest.mark.parametrize(("version", "allowed"), [("2016-04-08", False), ("2016-10-14", True)])
def test_conditions_and_external_resources_came_with_newton(version, allowed):
    document = {"resources": {"a": {**NONE, "external_id": "x"}}}
    if allowed:
        resource = bind(document, version=version).resource("a")
        assert (resource.external_id(), resource.deletion_policy) == ("x", "Retain")
    else:
        assert refusal(document, version) == "Invalid keyword(s) inside a resource definition: external_id"
        assert refusal({"conditions": {}}, version) == "The template section is invalid: conditions"


@pytest.mark.parametrize(
    ("version", "written", "ok"), [("2016-04-08", "delete", False), ("2016-10-14", "delete", True)]
)
def test_deletion_policies_in_lower_case_came_with_newton(version, written, ok):
    document = {"resources": {"a": {**NONE, "deletion_policy": written}}}
    if ok:
        assert bind(document, version=version).resource("a").deletion_policy == "Delete"
    else:
        assert refusal(document, version) == 'Invalid deletion policy "delete"'


def test_removed_functions_say_so():
    document = {"outputs": {"o": {"value": {"Fn::Join": ["", []]}}}}
    assert bind(document, version="2013-05-23").output("o").value() == ""
    assert refusal(document, "2014-10-16") == (
        "outputs.o.value.Fn::Join: The template version is invalid: "
        "The function Fn::Join is not supported in this version of HOT."
    )


def test_resources_whose_condition_fails_are_not_there():
    bound = bind(
        {
            "parameters": {"p": {"type": "string", "default": "x"}},
            "conditions": {"off": {"equals": [{"get_param": "p"}, "y"]}, "on": {"not": "off"}},
            "resources": {
                "a": {**NONE, "condition": "off"},
                "b": {**NONE, "condition": {"and": ["on", True]}, "depends_on": "a"},
            },
            "outputs": {
                "of_a": {"value": {"get_resource": "a"}, "condition": "off"},
                "o": {"value": {"if": ["on", 1, 2]}},
            },
        }
    )
    bound.validate()
    assert bound.enabled_resources() == ["b"]
    assert bound.dependencies().requires("b") == []
    assert (bound.outputs(), bound.output("of_a").value(), bound.output("o").value()) == (["of_a", "o"], None, 1)
    with pytest.raises(KeyError):
        bound.resource("a")


def test_dependencies_come_from_functions_and_depends_on():
    bound = bind(
        {
            "resources": {
                "user": {
                    **NONE,
                    "properties": {"x": [{"list_join": [",", [{"get_attr": ["attr", "value"]}]]}]},
                    "metadata": {"y": {"get_resource": "meta"}},
                    "depends_on": ["first", "meta"],
                },
                "attr": NONE,
                "meta": NONE,
                "first": {**NONE, "update_policy": {"z": {"get_resource": "user"}}},
            }
        }
    )
    graph = bound.dependencies()
    assert graph.requires("user") == ["first", "meta", "attr"]
    assert list(graph)[-1] == "user"
    assert next(reversed(graph)) == "user"
    assert graph.required_by("attr") == ["user"]
    assert graph.requires("attr") == graph.requires("first") == graph.requires("meta") == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depends_on": "n"}, 'The specified reference "n" (in a) is incorrect.'),
        (
            {"properties": {"x": [{"list_join": [",", [{"get_resource": "n"}]]}]}},
            'The specified reference "n" (in a.Properties.x[0].list_join[1][0]) is incorrect.',
        ),
        ({"metadata": {"get_attr": ["n", "x"]}}, 'The specified reference "n" (in a.Metadata) is incorrect.'),
    ],
)
def test_references_to_nothing_say_where(fields, message):
    with pytest.raises(heat.InvalidTemplateReference) as caught:
        bind({"resources": {"a": {**NONE, **fields}}}).validate()
    assert str(caught.value) == message


def test_circles_are_written_as_upstream_does():
    document = {"resources": {"a": {**NONE, "depends_on": "b"}, "b": {**NONE, "depends_on": "a"}, "c": NONE}}
    with pytest.raises(heat.CircularDependencyException) as caught:
        bind(document).validate()
    assert str(caught.value) == (
        'Circular Dependency Found: {NoneResource "b": {NoneResource "a"}, NoneResource "a": {NoneResource "b"}}'
    )


def test_an_external_resource_depends_on_nothing():
    document = {"resources": {"a": {**NONE, "external_id": "x", "depends_on": "b"}, "b": NONE}}
    with pytest.raises(heat.InvalidExternalResourceDependency):
        bind(document).validate()


def test_resources_are_checked_in_order_of_dependencies():
    seen = []
    document = {"resources": {"b": {**NONE, "depends_on": "a"}, "a": NONE}}
    bind(document).validate(check=lambda resource: seen.append(resource.name))
    assert seen == ["a", "b"]


def test_order_is_the_same_for_the_same_template_and_right_for_long_chains():
    graph = Graph()
    for number in reversed(range(5000)):
        graph.add(str(number), [str(number - 1)] if number else [])
    assert list(graph) == [str(number) for number in range(5000)]
    assert list(reversed(graph)) == [str(number) for number in reversed(range(5000))]


def test_a_bound_template_serves_many_threads():
    """Conditions are evaluated under one lock: neither false circles nor deadlocks."""
    names = [f"c{number}" for number in range(20)]
    document = {
        "conditions": {"c0": True} | {name: {"not": before} for before, name in zip(names, names[1:], strict=False)},
        "resources": {name: {**NONE, "condition": name} for name in names},
    }
    results = []
    for _round in range(20):
        bound = bind(document)
        start = threading.Barrier(4)

        def work(bound=bound, start=start):
            start.wait()
            results.append((bound.resolve({"if": ["c19", 1, 2]}), len(bound.enabled_resources())))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert results == [(2, 10)] * 80


def test_the_document_is_not_changed():
    document = {
        "heat_template_version": "2021-04-16",
        "resources": {"a": {**NONE, "properties": {"x": {"get_file": "f"}}}},
    }
    before = repr(document)
    parsed = Template.parse(document, files={"f": "content"})
    bound = parsed.bind(ParameterValues(parsed.parameters), StackFacts(), Attributes())
    bound.validate()
    assert functions.resolve(bound.resource("a").properties) == {"x": "content"}
    assert repr(document) == before

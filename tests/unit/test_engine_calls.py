"""The engine's answers: every method of the contract, isolation of projects, lists, limits, refusals."""

import json

import pytest
from lifecycle_rig import VERSION, Rig, hot, probe

from heatperf.engine.service import NoSuchMethod, Settings, UnsupportedVersion
from heatperf.errors import heat
from heatperf.rpc.methods import METHODS, REQUIRED


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """An engine for tests that each use a project of their own."""
    found = Rig(tmp_path_factory.mktemp("state"))
    yield found
    found.close(0)


@pytest.fixture
def rig(shared, request):
    shared.context["project_id"] = request.node.name
    return shared


OTHER = {"project_id": "other"}
ADMIN = {"is_admin": True, "roles": ["admin"], "project_id": "admins"}


def names(listed):
    return [found["stack_name"] for found in listed]


# the contract


def test_every_method_of_the_contract_is_there_and_takes_its_arguments(rig):
    for name, method in METHODS.items():
        arguments = {key: None if value is REQUIRED else value for key, value in method.arguments.items()}
        try:
            json.dumps(rig.engine.dispatch(rig.context, name, arguments, method.version))
        except NoSuchMethod:
            raise
        except TypeError as error:
            assert "argument" not in str(error), name
        except Exception:  # noqa: S110 - nonsense as arguments may be refused in any way
            pass


def test_other_methods_and_newer_contracts_are_refused(rig):
    for method in ("close", "dispatch", "_table", "list_stacks.__init__"):
        with pytest.raises(NoSuchMethod):
            rig.call(method)
    for version in ("1.37", "2.0", "nonsense"):
        with pytest.raises(UnsupportedVersion):
            rig.engine.dispatch(rig.context, "get_revision", {}, version)
    with pytest.raises(TypeError):
        rig.call("get_revision", unknown=1)


def test_the_engine_is_its_own_service(rig):
    assert rig.call("get_revision") == "unknown"
    (service,) = rig.call("list_services")
    assert (service["binary"], service["host"], service["status"]) == ("heat-engine", "here", "up")


# stacks


def test_a_shown_stack_has_upstreams_fields(rig):
    template = {
        "heat_template_version": VERSION,
        "description": "what it is",
        "parameters": {
            "size": {"type": "number", "default": 3},
            "names": {"type": "comma_delimited_list", "default": "a,b"},
            "password": {"type": "string", "hidden": True},
        },
        "resources": {},
    }
    identity = rig.made("s", template, params={"parameters": {"password": "x"}}, timeout_mins=5, tags=["t"])
    shown = rig.show(identity)
    assert shown.pop("creation_time").endswith("Z")
    assert shown == {
        "stack_name": "s",
        "stack_identity": identity,
        "updated_time": None,
        "deletion_time": None,
        "notification_topics": [],
        "parameters": {
            "OS::stack_id": identity["stack_id"],
            "OS::stack_name": "s",
            "OS::project_id": rig.context["project_id"],
            "size": "3",
            "names": "a,b",
            "password": "******",
        },
        "description": "what it is",
        "template_description": "what it is",
        "capabilities": [],
        "disable_rollback": True,
        "timeout_mins": 5,
        "stack_owner": "me",
        "parent": None,
        "stack_user_project_id": None,
        "tags": ["t"],
        "stack_action": "CREATE",
        "stack_status": "COMPLETE",
        "stack_status_reason": "Stack CREATE completed successfully",
        "outputs": [],
    }
    assert "outputs" not in rig.call("show_stack", stack_identity=identity, resolve_outputs=False)[0]
    assert rig.call("get_environment", stack_identity=identity)["parameters"] == {"password": "******"}
    assert rig.call("get_template", stack_identity=identity) == template
    assert rig.call("get_files", stack_identity=identity) == {}


def test_a_project_sees_nothing_of_another(rig):
    identity = rig.made("mine", hot(it="x"))
    for method in ("show_stack", "get_template", "delete_stack", "list_stack_resources", "list_events"):
        with pytest.raises(heat.EntityNotFound, match=r"The Stack \(mine\) could not be found."):
            rig.call(method, OTHER, stack_identity=identity)
    forged = {**identity, "tenant": "other"}
    with pytest.raises(heat.EntityNotFound):
        rig.call("show_stack", OTHER, stack_identity=forged)
    with pytest.raises(heat.InvalidTenant):
        rig.call("show_stack", stack_identity=forged)
    with pytest.raises(heat.EntityNotFound):
        rig.call("identify_stack", OTHER, stack_name="mine")
    with pytest.raises(heat.EntityNotFound):
        rig.call("identify_stack", OTHER, stack_name=identity["stack_id"])
    assert rig.call("list_stacks", OTHER) == []
    physical = rig.resources(identity)["it"]["physical_resource_id"]
    with pytest.raises(heat.EntityNotFound):
        rig.call("find_physical_resource", OTHER, physical_resource_id=physical)
    assert rig.call("find_physical_resource", physical_resource_id=physical)["path"] == "/resources/it"
    # a caller without a project is in nobody's
    with pytest.raises(heat.EntityNotFound):
        rig.call("show_stack", {"project_id": None}, stack_identity=identity)
    # an administrator sees all
    assert rig.call("show_stack", ADMIN, stack_identity=identity)[0]["stack_name"] == "mine"
    assert "mine" in names(rig.call("list_stacks", ADMIN))


def test_a_name_is_used_once_per_project(rig):
    identity = rig.made("same", hot())
    with pytest.raises(heat.StackExists, match=r"The Stack \(same\) already exists."):
        rig.create("same", hot())
    other = rig.call("create_stack", OTHER, stack_name="same", template=hot(), params={}, files={}, args={})
    assert other["stack_id"] != identity["stack_id"]
    assert rig.call("identify_stack", stack_name="same") == identity
    assert rig.call("identify_stack", stack_name=identity["stack_id"]) == identity


def test_two_creates_of_a_name_at_once_leave_one(rig):
    stack_calls = rig.engine._methods["create_stack"].__self__
    core, found = stack_calls._core, []
    original = core.find_named
    try:
        # Both passed the early check: the index decides.
        core.find_named = lambda *args: None
        found.append(rig.create("race", hot()))
        with pytest.raises(heat.StackExists):
            rig.create("race", hot())
    finally:
        core.find_named = original
    assert names(rig.call("list_stacks")) == ["race"]


@pytest.mark.parametrize("name", ["1st", "a b", "a" * 256, "", "-x", "a/b"])
def test_names_that_no_stack_can_have(rig, name):
    with pytest.raises(heat.StackValidationFailed, match="Invalid stack name"):
        rig.create(name, hot())


def test_lists_are_filtered_sorted_and_paged(rig):
    for name, tags in (("b", ["red"]), ("a", ["red", "blue"]), ("c", None)):
        rig.made(name, hot(), **({"tags": tags} if tags else {}))
    bad = rig.create("d", hot(it=probe(fail=True)))
    rig.ended(bad)
    ids = {found["stack_name"]: found["stack_identity"]["stack_id"] for found in rig.call("list_stacks")}
    assert names(rig.call("list_stacks")) == ["d", "c", "a", "b"]
    by_name = {"sort_keys": ["stack_name"], "sort_dir": "asc"}
    assert names(rig.call("list_stacks", **by_name)) == ["a", "b", "c", "d"]
    assert names(rig.call("list_stacks", **by_name, limit="2", marker=ids["a"])) == ["b", "c"]
    assert names(rig.call("list_stacks", limit=1, marker=ids["c"])) == ["a"]
    assert names(rig.call("list_stacks", filters={"stack_status": "CREATE_FAILED"})) == ["d"]
    assert names(rig.call("list_stacks", filters={"name": ["a", "c", "nobody"]}, **by_name)) == ["a", "c"]
    assert names(rig.call("list_stacks", filters={"id": ids["b"], "status": "COMPLETE"})) == ["b"]
    assert names(rig.call("list_stacks", tags=["red", "blue"])) == ["a"]
    assert names(rig.call("list_stacks", tags_any=["blue", "green"])) == ["a"]
    assert names(rig.call("list_stacks", not_tags=["red", "blue"], **by_name)) == ["b", "c", "d"]
    assert names(rig.call("list_stacks", not_tags_any=["red"], **by_name)) == ["c", "d"]
    assert rig.call("count_stacks", filters={"status": "COMPLETE"}) == 3
    rig.call("delete_stack", stack_identity=rig.call("identify_stack", stack_name="c"))
    rig.ended({**bad, "stack_name": "c", "stack_id": ids["c"]}, "DELETE")
    assert names(rig.call("list_stacks", **by_name)) == ["a", "b", "d"]
    assert names(rig.call("list_stacks", show_deleted=True, **by_name)) == ["a", "b", "c", "d"]
    with pytest.raises(heat.Invalid):
        rig.call("list_stacks", filters={"name = 'x' OR 1": "1"})
    with pytest.raises(ValueError, match="sort direction"):
        rig.call("list_stacks", sort_dir="sideways")
    tags = {found["stack_name"]: found["tags"] for found in rig.call("list_stacks")}
    assert tags == {"a": ["red", "blue"], "b": ["red"], "d": None}


def test_limits_are_held_with_upstreams_words(tmp_path):
    limited = Rig(tmp_path, Settings(max_resources_per_stack=2, max_stacks_per_tenant=2, max_snapshots_per_stack=1))
    identity = limited.made("one", hot(a="x", b="x"))
    with pytest.raises(heat.RequestLimitExceeded, match="Maximum resources per stack exceeded"):
        limited.create("large", hot(a="x", b="x", c="x"))
    with pytest.raises(heat.RequestLimitExceeded, match="Maximum resources per stack exceeded"):
        limited.update(identity, hot(a="x", b="x", c="x"))
    limited.made("two", hot())
    with pytest.raises(heat.RequestLimitExceeded, match="maximum stacks per tenant, 2. Please delete some stacks"):
        limited.create("three", hot())
    limited.call("create_stack", ADMIN, stack_name="three", template=hot(), params={}, files={}, args={})
    limited.call("stack_snapshot", stack_identity=identity, name=None)
    limited.ended(identity, "SNAPSHOT")
    with pytest.raises(heat.RequestLimitExceeded, match="maximum snapshots per stack, 1"):
        limited.call("stack_snapshot", stack_identity=identity, name=None)
    limited.close()


def parameterized(**defaults):
    return {
        "heat_template_version": VERSION,
        "parameters": {name: {"type": "string", "default": value} for name, value in defaults.items()},
        "resources": {"it": {"type": "OS::Heat::Value", "properties": {"value": {"get_param": "first"}}}},
    }


def test_a_patch_keeps_what_it_does_not_name(rig):
    given = {"parameters": {"first": "1", "second": "2"}}
    identity = rig.made("patched", parameterized(first="", second=""), params=given, tags=["kept"], timeout_mins=7)
    rig.update(identity, None, params={"parameters": {"second": "3"}}, existing=True)
    shown = rig.ended(identity, "UPDATE")
    assert (shown["parameters"]["first"], shown["parameters"]["second"]) == ("1", "3")
    assert (shown["tags"], shown["timeout_mins"]) == (["kept"], 7)
    rig.update(identity, None, existing=True, clear_parameters=["first"])
    shown = rig.ended(identity, "UPDATE")
    assert (shown["parameters"]["first"], shown["parameters"]["second"]) == ("", "3")
    # a full update starts from its own environment
    rig.update(identity, parameterized(first="f", second="s"))
    shown = rig.ended(identity, "UPDATE")
    assert (shown["parameters"]["first"], shown["parameters"]["second"]) == ("f", "s")
    assert shown["tags"] == []


def test_immutable_parameters_stay(rig):
    template = parameterized(first="a")
    template["parameters"]["first"]["immutable"] = True
    identity = rig.made("fixed", template)
    with pytest.raises(heat.ImmutableParameterModified, match="may not be updated: first"):
        rig.update(identity, template, params={"parameters": {"first": "b"}})
    assert rig.state_of(identity) == "CREATE_COMPLETE"


def test_a_preview_stores_nothing(rig):
    template = hot(it=probe(value="v"), user=probe("it"))
    answer = rig.call("preview_stack", stack_name="seen", template=template, params={}, files={}, args={})
    assert "stack_status" not in answer
    first, second = answer["resources"]
    assert (first["resource_name"], first["resource_status"], first["physical_resource_id"]) == ("it", "COMPLETE", "")
    assert first["properties"]["value"] == "v"
    assert first["required_by"] == ["user"]
    assert second["attributes"] == {"output": None}
    assert rig.call("list_stacks") == []


def test_outputs_have_values_or_reasons(rig):
    outputs = {
        "good": {"value": {"get_resource": "it"}},
        "bad": {"description": "d", "value": {"str_split": [",", {"get_attr": ["it", "output"]}, 9]}},
    }
    identity = rig.made("out", hot(it="x", outputs=outputs))
    assert rig.call("list_outputs", stack_identity=identity) == [
        {"output_key": "good", "description": "No description given"},
        {"output_key": "bad", "description": "d"},
    ]
    physical = rig.resources(identity)["it"]["physical_resource_id"]
    assert rig.call("show_output", stack_identity=identity, output_key="good")["output_value"] == physical
    bad = rig.call("show_output", stack_identity=identity, output_key="bad")
    assert bad["output_value"] is None and bad["output_error"]
    with pytest.raises(heat.NotFound, match="Specified output key 100% not found."):
        rig.call("show_output", stack_identity=identity, output_key="100%")


def test_what_a_stock_configuration_switches_off_is_off(rig):
    identity = rig.made("s", hot())
    for method in ("abandon_stack", "export_stack"):
        with pytest.raises(heat.NotSupported, match="Stack Abandon is not supported"):
            rig.call(method, stack_identity=identity)
    with pytest.raises(heat.NotSupported, match="Stack Adopt is not supported"):
        rig.create("adopted", hot(), adopt_stack_data="{}")


def test_an_abandoned_stack_leaves_its_resources(tmp_path):
    allowed = Rig(tmp_path, Settings(enable_stack_abandon=True))
    config = {"type": "OS::Heat::SoftwareConfig", "properties": {"config": "x"}}
    identity = allowed.made("left", hot(config=config))
    data = allowed.call("abandon_stack", stack_identity=identity)
    allowed.ended(identity, "DELETE")
    kept = data["resources"]["config"]["resource_id"]
    assert allowed.call("show_software_config", config_id=kept)["config"] == "x"
    allowed.close()


# templates


@pytest.mark.parametrize(
    ("resource", "error", "told"),
    [
        ({"type": "OS::Nova::Server"}, heat.ResourceTypeUnavailable, "Service nova is not available"),
        ({"type": "OS::Heat::ResourceGroup"}, heat.ResourceTypeUnavailable, "the embedded engine does not have this"),
        ({"type": "nested.yaml"}, heat.ResourceTypeUnavailable, "has no nested stacks"),
        ({"type": "OS::Nova::Sever"}, heat.StackValidationFailed, r"The Resource Type \(OS::Nova::Sever\) could not"),
        (
            {"type": "OS::Heat::RandomString", "properties": {"lenght": 3}},
            heat.StackValidationFailed,
            "Property error: resources.it.properties: Unknown Property lenght",
        ),
        (
            {"type": "OS::Heat::RandomString", "properties": {"length": 600}},
            heat.StackValidationFailed,
            r"Property error: resources.it.properties.length: 600 is out of range \(min: 1, max: 512\)",
        ),
        (
            {"type": "OS::Heat::RandomString", "properties": {"character_classes": [{"min": "x"}]}},
            heat.StackValidationFailed,
            r"Property error: resources.it.properties.character_classes\[0\].min: Value 'x' is not an integer",
        ),
        (
            {"type": "OS::Heat::RandomString", "properties": {"length": 1, "character_classes": [{"min": 2}]}},
            heat.StackValidationFailed,
            "Length property cannot be smaller than combined character class and character sequence minimums",
        ),
        (
            {"type": "OS::Heat::Value"},
            heat.StackValidationFailed,
            "Property error: resources.it.properties: Property value not assigned",
        ),
        (
            {"type": "OS::Heat::Value", "properties": {"type": "number", "value": "x"}},
            heat.StackValidationFailed,
            "Property error: resources.it.properties.value: could not convert string to float: 'x'",
        ),
        (
            {"type": "OS::Heat::TestResource", "properties": {"fail": "maybe"}},
            heat.StackValidationFailed,
            'Property error: resources.it.properties.fail: "maybe" is not a valid boolean',
        ),
        (
            {"type": "OS::Heat::TestResource", "deletion_policy": "snapshot"},
            heat.StackValidationFailed,
            'resources.it.deletion_policy: "Snapshot" deletion policy not supported',
        ),
    ],
)
def test_wrong_resources_are_refused_before_anything_is_made(rig, resource, error, told):
    with pytest.raises(error, match=told):
        rig.create("wrong", hot(it=resource))
    assert rig.call("list_stacks") == []


def test_validate_template_tells_what_it_wants_to_know(rig):
    template = parameterized(first="f")
    template["parameters"]["first"]["constraints"] = [{"length": {"min": 1}, "description": "not empty"}]
    answer = rig.call("validate_template", template=template)
    assert answer["Parameters"] == {
        "first": {
            "Type": "String",
            "Description": "",
            "NoEcho": "false",
            "Label": "first",
            "Default": "f",
            "MinLength": 1,
            "ConstraintDescription": "not empty",
        }
    }
    assert answer["Description"] == "No description"
    assert answer["Environment"]["parameters"] == {}
    told = rig.call("validate_template", template=hot(it={"type": "OS::Heat::RandomString", "properties": {"x": 1}}))
    assert told == {"Error": "Property error: resources.it.properties: Unknown Property x"}
    cloud = hot(it={"type": "OS::Nova::Server"})
    with pytest.raises(heat.ResourceTypeUnavailable):
        rig.call("validate_template", template=cloud)
    assert "Parameters" in rig.call("validate_template", template=cloud, ignorable_errors=["99001"])
    with pytest.raises(heat.Invalid):
        rig.call("validate_template", template=cloud, ignorable_errors=["1"])


def test_a_type_may_stand_for_another(rig):
    registry = {"resource_registry": {"My::Secret": "OS::Heat::RandomString", "OS::Nova::*": "OS::Heat::None"}}
    template = hot(secret={"type": "My::Secret"}, server={"type": "OS::Nova::Server", "properties": {"flavor": "x"}})
    identity = rig.made("alias", template, params=registry)
    found = rig.resources(identity)
    assert found["secret"]["resource_type"] == "My::Secret"
    assert len(found["secret"]["attributes"]["value"]) == 32
    assert found["server"]["resource_type"] == "OS::Nova::Server"
    rig.call("delete_stack", stack_identity=identity)
    assert rig.ended(identity, "DELETE")["stack_status"] == "COMPLETE"


# types


def test_types_are_listed_and_described(rig):
    every = rig.call("list_resource_types")
    assert every == [
        "OS::Heat::None",
        "OS::Heat::RandomString",
        "OS::Heat::SoftwareConfig",
        "OS::Heat::TestResource",
        "OS::Heat::Value",
    ]
    assert rig.call("list_resource_types", type_name="OS::Heat::R") == ["OS::Heat::RandomString"]
    assert rig.call("list_resource_types", type_name="(") == []
    assert rig.call("list_resource_types", support_status="HIDDEN") == []
    assert rig.call("list_resource_types", heat_version="7.0.0") == ["OS::Heat::Value"]
    described = rig.call("list_resource_types", with_description=True)
    assert all(found["description"] for found in described)
    with pytest.raises(heat.Invalid, match="Invalid support status"):
        rig.call("list_resource_types", support_status="nice")


def test_schemas_say_types_defaults_and_constraints(rig):
    schema = rig.call("resource_schema", type_name="OS::Heat::RandomString")
    assert "sequence" not in schema["properties"]
    assert schema["properties"]["length"] == {
        "type": "integer",
        "description": "Length of the string to generate.",
        "default": 32,
        "required": False,
        "constraints": [{"range": {"min": 1, "max": 512}}],
        "update_allowed": False,
        "immutable": False,
    }
    assert schema["properties"]["character_classes"]["schema"]["*"]["schema"]["min"]["default"] == 1
    assert schema["attributes"]["show"]["type"] == "map"
    assert schema["support_status"]["version"] == "2014.1"
    with pytest.raises(heat.ResourceTypeUnavailable):
        rig.call("resource_schema", type_name="OS::Nova::Server")
    with pytest.raises(heat.EntityNotFound, match=r"The Resource Type \(OS::No::Such\) could not be found."):
        rig.call("resource_schema", type_name="OS::No::Such")


def test_generated_templates_can_be_used(rig):
    generated = rig.call("generate_template", type_name="OS::Heat::RandomString", template_type="hot")
    assert "Error" not in rig.call("validate_template", template=generated)
    cfn = rig.call("generate_template", type_name="OS::Heat::RandomString")
    assert cfn["Parameters"]["length"] == {
        "Type": "Number",
        "Description": "Length of the string to generate.",
        "Default": 32,
        "MinValue": 1,
        "MaxValue": 512,
    }
    assert cfn["Resources"]["RandomString"]["Properties"]["length"] == {"Ref": "length"}


def test_versions_and_functions_are_those_of_the_language(rig):
    versions = {found["version"]: found for found in rig.call("list_template_versions")}
    assert versions["heat_template_version.2018-08-31"]["aliases"] == ["heat_template_version.rocky"]
    found = rig.call("list_template_functions", template_version="heat_template_version.rocky", with_condition=True)
    assert {"get_attr", "repeat", "equals"} <= {function["functions"] for function in found}


# resources and events


def test_resources_are_filtered_and_shown(rig):
    secret = {"type": "OS::Heat::RandomString", "metadata": {"k": "v"}, "description": "a secret"}
    identity = rig.made("s", hot(it="x", secret=secret))

    def listed(**filters):
        found = rig.call("list_stack_resources", stack_identity=identity, filters=filters)
        return sorted(resource["resource_name"] for resource in found)

    assert listed() == ["it", "secret"]
    assert listed(type="OS::Heat::RandomString") == ["secret"]
    assert listed(name="it", status="COMPLETE") == ["it"]
    assert listed(action="UPDATE") == []
    shown = rig.call("describe_stack_resource", stack_identity=identity, resource_name="secret")
    assert (shown["metadata"], shown["description"]) == ({"k": "v"}, "a secret")
    assert shown["resource_identity"]["path"] == "/resources/secret"
    assert shown["attributes"].keys() == {"value"}
    bare = rig.call("describe_stack_resource", stack_identity=identity, resource_name="secret", with_attr=False)
    assert "attributes" not in bare
    more = rig.call("describe_stack_resource", stack_identity=identity, resource_name="it", with_attr=["nope"])
    assert more["attributes"] == {"output": "x", "nope": None}
    with pytest.raises(heat.ResourceNotFound, match=r"The Resource \(no\) could not be found in Stack s."):
        rig.call("describe_stack_resource", stack_identity=identity, resource_name="no")
    user = {"roles": ["heat_stack_user"]}
    with pytest.raises(heat.Forbidden):
        rig.call("describe_stack_resource", user, stack_identity=identity, resource_name="it")
    with pytest.raises(heat.ResourceActionNotSupported, match="signal is not supported for resource."):
        rig.call("resource_signal", stack_identity=identity, resource_name="it", details={})


def test_events_are_filtered_and_paged(rig):
    identity = rig.made("s", hot(it="x"))
    every = rig.call("list_events", stack_identity=identity)
    assert [event["resource_name"] for event in every] == ["s", "it", "it", "s"]
    ids = [event["event_identity"]["path"].rpartition("/")[2] for event in every]
    page = rig.call("list_events", stack_identity=identity, limit=2, marker=ids[0])
    assert page == every[1:3]
    oldest = rig.call("list_events", stack_identity=identity, sort_keys="event_time", sort_dir="asc", limit=1)
    assert oldest == every[-1:]
    (one,) = rig.call("list_events", stack_identity=identity, filters={"uuid": ids[1]})
    assert one["resource_properties"] == {"value": "x"}
    assert "resource_properties" not in every[1]
    failed = rig.call("list_events", stack_identity=identity, filters={"resource_status": ["FAILED"]})
    assert failed == []
    assert len(rig.call("list_events", stack_identity=None)) == 4
    rooted = rig.call("list_events", stack_identity=identity, nested_depth=1)
    assert rooted[0]["root_stack_id"] == identity


def test_a_stack_keeps_its_newest_events(rig, monkeypatch):
    monkeypatch.setattr("heatperf.engine.journal.MAX_EVENTS", 40)
    monkeypatch.setattr("heatperf.engine.journal.PURGED_AT_ONCE", 8)
    identity = rig.made("chatty", hot(it="x"))
    rig.call("stack_suspend", stack_identity=identity)
    rig.ended(identity, "SUSPEND")
    for _ in range(100):
        with pytest.raises(heat.NotSupported, match="Signal resource during SUSPEND"):
            rig.call("resource_signal", stack_identity=identity, resource_name="it", details={})
    kept = rig.call("list_events", stack_identity=identity)
    assert 30 <= len(kept) <= 44
    assert {event["resource_status_reason"] for event in kept} == {"Cannot signal resource during SUSPEND"}


# software configuration


def test_software_configs_and_deployments(rig):
    config = rig.call(
        "create_software_config",
        group="script",
        name="c",
        config="#!/bin/sh",
        inputs=[{"name": "i"}],
        outputs=[{"name": "o", "error_output": True}],
        options={},
    )
    assert config["inputs"] == [{"name": "i", "type": "String"}]
    assert config["outputs"] == [{"name": "o", "type": "String", "error_output": True}]
    (listed,) = rig.call("list_software_configs")
    assert listed.keys() == {"id", "name", "group", "creation_time"}
    with pytest.raises(heat.NotFound, match=f"Software config with id {config['id']} not found"):
        rig.call("show_software_config", OTHER, config_id=config["id"])
    with pytest.raises(TypeError, match="must be in a list"):
        rig.call("create_software_config", group="", name="", config="", inputs={}, outputs=[], options={})
    with pytest.raises(ValueError, match="Property error: properties: Property name not assigned|Property name not"):
        rig.call("create_software_config", group="", name="", config="", inputs=[{}], outputs=[], options={})
    made = rig.call(
        "create_software_deployment", server_id="srv", config_id=config["id"], action="CREATE", status="IN_PROGRESS"
    )
    assert rig.call("list_software_deployments", server_id="srv") == [made]
    assert rig.call("list_software_deployments", OTHER, server_id="srv") == []
    assert [found["id"] for found in rig.call("metadata_software_deployments", server_id="srv")] == [config["id"]]
    with pytest.raises(heat.InvalidRestrictedAction, match="can not be deleted as it is referenced"):
        rig.call("delete_software_config", config_id=config["id"])
    details = {"o": "broken", "deploy_status_code": 0}
    assert rig.call("signal_software_deployment", deployment_id=made["id"], details=details) == (
        f"deployment {made['id']} failed"
    )
    shown = rig.call("check_software_deployment", deployment_id=made["id"], timeout=1)
    assert (shown["status"], shown["status_reason"]) == ("FAILED", "o : broken")
    assert shown["output_values"] == {
        "o": "broken",
        "deploy_status_code": 0,
        "deploy_stdout": None,
        "deploy_stderr": None,
    }
    assert rig.call("signal_software_deployment", deployment_id=made["id"], details={}) is None
    updated = rig.call("update_software_deployment", deployment_id=made["id"], status="COMPLETE")
    assert updated["status"] == "COMPLETE" and updated["updated_time"]
    rig.call("delete_software_deployment", deployment_id=made["id"])
    rig.call("delete_software_config", config_id=config["id"])
    assert rig.call("list_software_configs") == []

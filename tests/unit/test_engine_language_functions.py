"""Intrinsic functions: values and refusals are those of openstack-heat 27.0.1."""

import pytest
from language_rig import bind, value

from heatperf.errors import heat


@pytest.mark.parametrize(
    ("snippet", "expected"),
    [
        ({"get_param": "text"}, "hello"),
        ({"get_param": "number"}, 7),
        ({"get_param": "flag"}, True),
        ({"get_param": ["map", "k", "x", "2", "y"]}, "z"),
        ({"get_param": ["list", 1]}, "b"),
        ({"get_param": ["list", "x"]}, ""),
        ({"get_param": ["map", "nothing"]}, ""),
        ({"get_param": "OS::stack_name"}, "stack"),
        ({"get_param": "OS::stack_id"}, "id"),
        ({"get_param": "OS::project_id"}, "project"),
        ({"get_resource": "r"}, "ref-r"),
        ({"get_attr": ["r", "value", "a", 0]}, "deep"),
        ({"get_attr": ["r", "value", "nothing"]}, None),
        ({"get_attr": ["r"]}, {"value": {"a": ["deep"]}}),
        (
            {"list_join": [",", {"get_param": "list"}, None, ["d", {"b": 1, "a": [2]}, None]]},
            'a,b,c,d,{"a": [2], "b": 1},',
        ),
        ({"str_replace": {"template": "a $x $y", "params": {"$x": 1, "$y": [True]}}}, "a 1 [true]"),
        ({"str_replace": {"template": "$v1 $v", "params": {"$v": "one", "$v1": "$v"}}}, "$v one"),
        ({"str_replace": {"template": "aab", "params": {"a": "b", "aa": "c", "b": "a"}}}, "ca"),
        ({"str_replace": {"template": "x", "params": {"x": None}}}, ""),
        ({"str_replace_vstrict": {"template": "x", "params": {"x": 0}}}, "0"),
        (
            {"repeat": {"template": {"%a%": "%b%"}, "for_each": {"%a%": ["1", "2"], "%b%": ["3", "4"]}}},
            [{"1": "3"}, {"1": "4"}, {"2": "3"}, {"2": "4"}],
        ),
        (
            {
                "repeat": {
                    "template": "%a%%b%",
                    "permutations": False,
                    "for_each": {"%a%": ["1", "2"], "%b%": ["3", "4"]},
                }
            },
            ["13", "24"],
        ),
        ({"repeat": {"template": "%a%", "for_each": {"%a%": {"get_param": ["map", "k"]}}}}, ["x"]),
        ({"repeat": {"template": "%a%", "for_each": {"%a%": None}}}, []),
        ({"digest": ["MD5", "a"]}, "0cc175b9c0f1b6a831c399e269772661"),
        ({"str_split": [",", "a,b"]}, ["a", "b"]),
        ({"str_split": [",", "a,b", "-1"]}, "b"),
        ({"str_split": [",", None]}, None),
        ({"map_merge": [{"a": 1}, None, {"a": 2, "b": 3}]}, {"a": 2, "b": 3}),
        ({"map_replace": [{"a": 1, "b": [1]}, {"keys": {"a": "c"}, "values": {1: 5}}]}, {"c": 5, "b": [1]}),
        ({"filter": [[1], ["a", True, 1.0, 2]]}, ["a", 2]),
        ({"list_concat": [["a"], None, ["a"]]}, ["a", "a"]),
        ({"list_concat_unique": [[{"x": [1]}, 1], [True, {"x": [1]}, "1"]]}, [{"x": [1]}, 1, "1"]),
        ({"contains": ["ell", {"get_param": "text"}]}, True),
        (
            {
                "make_url": {
                    "scheme": "http",
                    "username": "u@",
                    "password": "p:",
                    "host": "::1",
                    "port": "80",
                    "path": "/a b",
                    "query": {"k": "v/w x"},
                    "fragment": "é",
                }
            },
            "http://u%40:p%3A@[::1]:80/a%20b?k=v/w+x#%C3%A9",
        ),
        ({"if": ["no", {"get_resource": "not there"}, "else"]}, "else"),
        ({"if": [{"and": ["yes", {"or": ["no", {"not": "no"}]}]}, 1, 2]}, 1),
        ({"if": [{"contains": ["a", {"get_param": "list"}]}, 1, 2]}, 1),
        ({"a": {"if": ["no", 1]}, "b": [{"if": ["no", 1]}, 2]}, {"b": [2]}),
        ({"if": ["no", 1]}, None),
        ({"get_param": "text", "other": 1}, {"get_param": "text", "other": 1}),
    ],
)
def test_values(snippet, expected):
    assert value(snippet) == expected


@pytest.mark.parametrize(
    ("version", "snippet", "expected"),
    [
        ("2013-05-23", {"get_attr": ["r", "value", "a"]}, ["deep"]),
        ("2013-05-23", {"Ref": "text"}, "hello"),
        ("2013-05-23", {"Ref": "r"}, "ref-r"),
        ("2013-05-23", {"Fn::Select": ["1", ["a", "b"]]}, "b"),
        ("2013-05-23", {"Fn::Select": ["x", '{"x": 5}']}, 5),
        ("2013-05-23", {"Fn::Select": ["5", ["a"]]}, ""),
        ("2013-05-23", {"Fn::Split": [",", "a,b"]}, ["a", "b"]),
        ("2013-05-23", {"Fn::Replace": [{"a": "b"}, "abc"]}, "bbc"),
        ("2013-05-23", {"Fn::Base64": "a"}, "a"),
        (
            "2013-05-23",
            {"Fn::MemberListToMap": ["N", "V", [".member.1.N=a", ".member.1.V=b=c", ".member.0.N=x"]]},
            {"a": "b=c"},
        ),
        ("2013-05-23", {"str_split": [",", "a,b"]}, {"str_split": [",", "a,b"]}),
        ("2018-08-31", {"if": ["yes", 1, 2]}, 1),
    ],
)
def test_values_in_older_versions(version, snippet, expected):
    assert value(snippet, version) == expected


@pytest.mark.parametrize(
    ("snippet", "kind", "message"),
    [
        ({"get_param": "nope"}, heat.UserParameterMissing, "The Parameter (nope) was not provided."),
        ({"get_param": []}, ValueError, 'Function "get_param" must have arguments'),
        ({"get_param": {"a": 1, "b": 2}}, TypeError, 'Argument to "get_param" must be string or list'),
        ({"get_param": [1]}, TypeError, 'Parameter name in "get_param" must be string'),
        ({"get_file": ["a"]}, TypeError, 'Argument to "get_file" must be a string'),
        ({"list_join": [",", "abc"]}, TypeError, '"list_join" must operate on a list'),
        ({"list_join": [1, ["a"]]}, TypeError, '"list_join" delimiter must be a string'),
        ({"list_join": [",", [1]]}, TypeError, "Items to join must be string, map or list not 1"),
        ({"str_replace": {"template": 1, "params": {}}}, TypeError, '"str_replace" template must be a string'),
        (
            {"str_replace_strict": {"template": "ab", "params": {"a": "x", "b": "y", "cc": 1, "d": 2}}},
            ValueError,
            "The following params were not found in the template: cc,d",
        ),
        (
            {"str_replace_vstrict": {"template": "a", "params": {"a": []}}},
            ValueError,
            "str_replace_vstrict has an undefined or empty value for param a, must be a defined non-empty value",
        ),
        (
            {"repeat": {"template": "%a%", "for_each": {"%a%": "str"}}},
            TypeError,
            'The values of the "for_each" argument to "repeat" must be lists or maps',
        ),
        (
            {"repeat": {"template": "%a%", "permutations": False, "for_each": {"%a%": {"k": 1}}}},
            TypeError,
            'The values of the "for_each" argument to "repeat" must be lists',
        ),
        (
            {"repeat": {"template": "%a%", "permutations": False, "for_each": {"%a%": ["1", "2"], "%b%": ["3"]}}},
            ValueError,
            "For repeat, the length of for_each values should be equal if no nested loop.",
        ),
        ({"digest": [1, "a"]}, TypeError, 'Argument to function "digest" must be a list of strings'),
        ({"str_split": [",", "a,b", 9]}, ValueError, 'Incorrect index to "str_split" should be between 0 and 1'),
        (
            {"map_merge": [{"a": 1}, "x"]},
            TypeError,
            "Incorrect arguments: Items to merge must be maps. 'x' is type <class 'str'> instead of a dict",
        ),
        (
            {"map_replace": [{"a": 1, "b": 2}, {"keys": {"a": "b"}}]},
            ValueError,
            "key replacement b collides with a key in the input map",
        ),
        (
            {"map_replace": [{"a": 1, "b": 2}, {"keys": {"a": "c", "b": "c"}}]},
            ValueError,
            "key replacement c collides with a key in the output map",
        ),
        (
            {"list_concat": [["a"], "b"]},
            TypeError,
            'Incorrect arguments: Items to concat must be lists. [["a"], "b"] contains an item that is not a list: "b"',
        ),
        ({"filter": [["a"], "a"]}, TypeError, '"filter" only works with lists'),
        ({"contains": ["a", 5]}, TypeError, 'Second argument to "contains" should be a sequence.'),
        ({"make_url": {"scheme": "a:b"}}, ValueError, "URL \"scheme\" should not contain ':'"),
    ],
)
def test_wrong_values_are_found_when_they_are_resolved(snippet, kind, message):
    with pytest.raises(kind) as caught:
        value(snippet)
    assert caught.value.args[0] == message if kind in (ValueError, TypeError) else str(caught.value) == message


@pytest.mark.parametrize(
    ("snippet", "message"),
    [
        (
            {"get_attr": "resource"},
            'get_attr: Argument to "get_attr" must be a list',
        ),
        ({"if": ["maybe", 1, 2]}, 'if: Invalid condition "maybe"'),
        (
            {"if": "yes"},
            'if: Arguments to "if" must be of the form: [condition_name, value_if_true, value_if_false]',
        ),
        (
            {"if": [{"get_attr": ["r", "value"]}, 1, 2]},
            None,
        ),
        ({"make_url": {"port": 70000}}, "make_url: Invalid URL port 70000, must be in range 1-65535"),
        ({"make_url": {"host": 1}}, 'make_url: The "host" argument to "make_url" must be a string'),
        (
            {"repeat": {"template": "x", "for_each": []}},
            'repeat: The "for_each" argument to "repeat" must contain a map',
        ),
        (
            {"repeat": {"template": "x", "for_each": {}, "permutations": 1}},
            'repeat: "permutations" should be boolean type for repeat function.',
        ),
        (
            {"filter": [1]},
            'filter: "filter" expected 2 arguments of the form [values, sequence] but got 1 arguments instead',
        ),
        (
            {"resource_facade": "x"},
            'resource_facade: Incorrect arguments to "resource_facade" should be one of: '
            "metadata, deletion_policy, update_policy",
        ),
        ({"yaql": {"expression": "$.data"}}, 'yaql: The function "yaql" is not supported.'),
        ({"yaql": {"expression": 5}}, 'yaql: The "expression" argument to yaql must contain a string.'),
    ],
)
def test_wrong_arguments_are_found_when_the_stack_is_validated(snippet, message):
    with pytest.raises(heat.StackValidationFailed) as caught:
        value(snippet)
    if message is None:
        assert str(caught.value) == 'if.get_attr: The function "get_attr" is invalid in this context'
    else:
        assert str(caught.value) == f"outputs.o.value.{message}"


def test_if_needed_its_last_part_before_wallaby():
    with pytest.raises(heat.StackValidationFailed, match="must be of the form"):
        value({"if": ["no", 1]}, "2018-08-31")


def test_maps_in_texts_came_with_liberty():
    assert value({"list_join": ["", [[1]]]}, "2015-10-15") == "[1]"
    with pytest.raises(TypeError, match="Items to join must be strings not"):
        value({"list_join": ["", [[1]]]}, "2015-04-30")
    with pytest.raises(TypeError, match="params must be strings or numbers, param a is not valid"):
        value({"str_replace": {"template": "a", "params": {"a": []}}}, "2015-04-30")


def test_functions_leave_the_values_of_parameters_alone():
    bound = bind({"parameters": {"p": {"type": "json", "default": [{"a": 1}, {"keys": {"a": "b"}}]}}})
    for _ in range(2):
        assert bound.resolve({"map_replace": {"get_param": "p"}}) == {"b": 1}
    assert bound.resolve({"get_param": "p"}) == [{"a": 1}, {"keys": {"a": "b"}}]


def test_what_needs_a_cloud_or_a_parent_says_so():
    with pytest.raises(heat.ClientNotAvailable):
        value({"Fn::GetAZs": ""}, "2013-05-23")
    with pytest.raises(ValueError, match="not nested"):
        value({"resource_facade": "metadata"})

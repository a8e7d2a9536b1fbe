"""Templates that ask for too much are refused before they cost anything, with an error a client can understand."""

import time

import pytest
from language_rig import bind, value

from heatperf.api import template_format
from heatperf.engine import documents
from heatperf.engine.environment import Environment
from heatperf.engine.limits import DEFAULT, Limits
from heatperf.engine.parameters import ParameterSchema, ParameterValues
from heatperf.engine.template import Template
from heatperf.errors import heat

VERSION = {"heat_template_version": "2021-04-16"}


@pytest.fixture(autouse=True)
def quick():
    """Refusing takes no time: none of these may work its way up to a bound of the host."""
    begun = time.process_time()
    yield
    assert time.process_time() - begun < 3


def nested(depth, inner="x"):
    """Return lists inside each other."""
    for _ in range(depth):
        inner = [inner]
    return inner


def test_deep_documents():
    bind({"outputs": {"o": {"value": nested(DEFAULT.depth - 3)}}}).validate()
    for depth in (DEFAULT.depth, 100_000):
        with pytest.raises(heat.StackValidationFailed, match="The template is nested too deeply: more than 80 levels"):
            Template.parse({**VERSION, "outputs": {"o": {"value": nested(depth)}}})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: {"list_join": ["", [inner]]},
        lambda inner: {"if": [True, inner, ""]},
        lambda inner: {"str_replace": {"template": inner, "params": {}}},
        lambda inner: {"repeat": {"template": inner, "for_each": {"%a%": ["1"]}}},
        lambda inner: {"map_merge": [{"x": inner}]},
        lambda inner: {"contains": ["x", ["y", inner]]},
    ],
)
def test_functions_as_deep_as_allowed_do_not_exhaust_the_stack(wrap):
    snippet = "x"
    while True:
        deeper = wrap(snippet)
        try:
            Template.parse({**VERSION, "outputs": {"o": {"value": deeper}}})
        except heat.StackValidationFailed:
            break
        snippet = deeper
    value(snippet)


@pytest.mark.parametrize("text", ["[" * 100_000, "a: " + "[" * 5_000 + "]" * 5_000, "{a: " * 500])
def test_deep_texts(text):
    with pytest.raises(ValueError, match="nested too deeply"):
        documents.parse_mapping(text)


@pytest.mark.parametrize("level", ["- ", "? ", "{a: "])
@pytest.mark.parametrize("parse", [documents.parse_environment, lambda text: template_format.parse_mapping(text, 1)])
def test_yaml_that_would_exhaust_the_stack_of_the_loader_in_c(level, parse):
    """Without the check, this ends the process."""
    for text in (level * 100_000, "a: b\nc: " + "[" * 2_000):
        with pytest.raises(ValueError, match="The YAML is nested too deeply"):
            parse(text)


def test_utf_16_is_counted_too():
    with pytest.raises(ValueError, match="The YAML is nested too deeply"):
        template_format.parse_mapping(("- " * 100_000).encode("utf-16"), 1)


def test_deep_values_of_parameters():
    parameters = {"p": ParameterSchema("json")}
    for given in ("[" * 50_000 + "]" * 50_000, nested(500)):
        with pytest.raises(heat.StackValidationFailed, match="nested too deeply"):
            ParameterValues(parameters, {"p": given}).validate()


def test_bombs_of_aliases_and_merge_keys():
    names = "abcdefghi"
    bomb = "heat_template_version: 2021-04-16\nz: &z [1,1,1,1,1,1,1,1,1]\n"
    before = "z"
    for name in names:
        bomb += f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
        before = name
    with pytest.raises(heat.StackValidationFailed, match="more than 1000000 values"):
        documents.parse_template(bomb)
    with pytest.raises(heat.StackValidationFailed, match="nested too deeply"):
        documents.parse_template("heat_template_version: 2021-04-16\nresources: &r {a: *r}\n")


def test_merge_keys_are_counted_before_they_are_written_out():
    """Half a megabyte of this stands for four thousand million entries, which take minutes and all memory."""
    keys, uses = ",".join(map(str, range(40_000))), ",".join(["*a"] * 80_000)
    text = f"heat_template_version: 2021-04-16\na: &a {{{keys}}}\nb: {{<<: [{uses}]}}\n"
    with pytest.raises(heat.RequestLimitExceeded, match="The merge keys of the YAML stand for more than 100000 values"):
        documents.parse_template(text)
    with pytest.raises(heat.RequestLimitExceeded, match="The merge keys of the YAML stand for more than 100000 values"):
        template_format.parse_template(text, 1_000_000)


def test_merge_keys_do_what_they_are_for():
    text = "heat_template_version: 2021-04-16\na: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: [*b, {z: 4}]}\n"
    assert documents.parse_template(text)["c"] == {"x": 1, "y": 3, "z": 4}


def test_large_texts():
    with pytest.raises(heat.RequestLimitExceeded) as caught:
        Template.parse("x" * 524_289)
    assert str(caught.value) == (
        "Request limit exceeded: Template size (524289 bytes) exceeds maximum allowed size (524288 bytes)."
    )


def test_environments_too():
    with pytest.raises(heat.StackValidationFailed, match="The environment is nested too deeply"):
        Environment({"parameters": {"p": nested(500)}})


@pytest.mark.parametrize(("each", "ok"), [(46, True), (47, False)])
def test_repeat_makes_as_many_elements_as_allowed(each, ok):
    """The third power of 46 is below the bound of 100000, that of 47 above it."""
    items = [str(number) for number in range(each)]
    snippet = {"repeat": {"template": "%a%%b%%c%", "for_each": {f"%{name}%": items for name in "abc"}}}
    if ok:
        assert len(value(snippet)) == each**3
    else:
        with pytest.raises(heat.StackValidationFailed, match='"repeat" makes more than 100000 elements.'):
            value(snippet)


def test_repeat_inside_repeat():
    snippet = "%a%"
    for _ in range(6):
        snippet = {"repeat": {"template": snippet, "for_each": {"%a%": ["%a%%a%"] * 50}}}
    with pytest.raises(heat.StackValidationFailed, match="more than 67108864 characters"):
        value(snippet)


@pytest.mark.parametrize(
    "step",
    [
        lambda before: {"str_replace": {"template": "x" * 20, "params": {"x": before}}},
        lambda before: {"list_join": ["", [before] * 10]},
        lambda before: {"list_concat": [[before] * 3, [before] * 3]},
        lambda before: {"list_join": ["", {"repeat": {"template": "y" * 20, "for_each": {"y": [before]}}}]},
        lambda before: {"str_split": ["x", {"list_join": ["", [before] * 10]}]},
        lambda before: {"make_url": {"host": {"list_join": ["", [before] * 10]}}},
    ],
    ids=["str_replace", "list_join", "list_concat", "repeat", "str_split", "make_url"],
)
def test_functions_that_multiply(step):
    """Text grows by a constant factor with each level."""
    snippet = {"get_file": "f"}
    for _ in range(4):
        snippet = step(snippet)
    bound = bind({}, files={"f": "x" * 200_000})
    with pytest.raises(heat.StackValidationFailed, match="The functions of the template make more than"):
        bound.resolve(snippet)


def test_the_same_file_a_thousand_times():
    bound = bind({"outputs": {"o": {"value": [{"get_file": "f"}] * 1000}}}, files={"f": "x" * 200_000})
    with pytest.raises(heat.StackValidationFailed, match="The functions of the template make more than"):
        bound.output("o").value()
    assert len(bound.resolve([{"get_file": "f"}] * 100)) == 100


def test_each_call_has_a_budget_of_its_own():
    bound = bind({}, files={"f": "x" * 600}, limits=Limits(resolved=1000))
    for _ in range(5):
        assert bound.resolve({"get_file": "f"})
    with pytest.raises(heat.StackValidationFailed, match="more than 1000 characters"):
        bound.resolve([{"get_file": "f"}, {"get_file": "f"}])


def test_long_chains_of_conditions():
    chain = {"c0": True} | {f"c{number + 1}": {"not": f"c{number}"} for number in range(200)}
    bound = bind({"conditions": chain})
    with pytest.raises(heat.StackValidationFailed, match="More than 30 conditions refer to each other in a chain"):
        bound.resolve({"if": ["c200", 1, 2]})
    assert bound.resolve({"if": ["c20", 1, 2]}) == 1


def test_comparing_long_lists_does_not_take_their_product():
    items = [{"k": str(number)} for number in range(20_000)]
    bound = bind({"parameters": {"p": {"type": "json", "default": items}}})
    one = {"get_param": "p"}
    assert bound.resolve({"filter": [one, one]}) == []
    assert len(bound.resolve({"list_concat_unique": [one, one]})) == 20_000


def test_many_placeholders():
    names = {f"${number}$": str(number) for number in range(3000)}
    bound = bind({"parameters": {"p": {"type": "json", "default": names}}})
    text = " ".join(names)
    result = bound.resolve({"str_replace": {"template": text, "params": {"get_param": "p"}}})
    assert result == " ".join(names.values())

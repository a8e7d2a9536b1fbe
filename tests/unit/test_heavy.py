"""Heavy work through a helper process gives what it gives in the worker: values, exceptions, texts."""

import json
import math
import os
import subprocess
import sys
import tempfile

import orjson
import pytest
import yaml
from helper_rig import helper_and_client
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from heatperf import jsontext
from heatperf.api import heavy as heavy_module
from heatperf.api import tasks, template_format, views
from heatperf.api.heavy import Heavy
from heatperf.errors import heat
from heatperf.jsontext import Encoded

LIMIT = 20_000
MANY = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

#: YAML that does not survive JSON, that does in an odd way, that contains itself, and that is none.
ODD = (
    "heat_template_version: 2013-05-23\nr: {1: a, true: b, null: c, 1.5: d}",
    "heat_template_version: 1\nr: [.nan, .inf, -.inf, -0.0, 1e400, 0x10, 0o17, 1_000, 123456789012345678901234567890]",
    "heat_template_version: !!binary aGVsbG8=\nr: !!set {a, b}",
    "heat_template_version: !!timestamp 2001-01-01\nr: 2001-12-14t21:59:43.10-05:00",
    "heat_template_version: a\nr: !!omap [a: 1, b: 2]\ns: !!pairs [a: 1, a: 2]",
    "heat_template_version: &a [*a]",
    "heat_template_version: &a {b: *a}",
    "heat_template_version: a\nr: &x [1, 2]\ns: [*x, *x]\nt: {<<: &m {a: 1}, b: 2}\nu: {<<: *m}",
    "heat_template_version: a\nb: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(99 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(8)),
    "heat_template_version: a\nx: &s '" + "y" * 3000 + "'\nz: [" + ",".join(["*s"] * 9000) + "]",
    "heat_template_version: [" * 1500,
    "[" * 3000 + "]" * 3000,
    '{"heat_template_version": ' + "[" * 3000 + "]" * 3000 + "}",
    '{"heat_template_version": ' + "[" * 300 + "]" * 300 + "}",
    '{"heat_template_version": NaN, "a": [1e999, -0, 1e-7, 12345678901234567890123, "\\ud800", "\\u0000"]}',
    '{"a": 1, "a": 2, "heat_template_version": ""}',
    '\ufeff{"heat_template_version": 1}',
    "{}", "[]", "", "null", "a", "a: b: c", "\tx", "heat_template_version: {a", "!!python/object:os.system x",
    "? [a]\n: b", "!!int x: 1", "a: !!int x", "a: !!float x", "a: !!bool x", "a: !!timestamp x", "a: !!merge x",
    "\ud800", "a: \x00", "%YAML 9.0\n---\na: b", "--- a\n--- b",
    "parameters: {a: 1}", "parameters: null", "parameter_defaults: {}\nbogus: 1", "encrypted_param_names: [a]",
    '{"template": {"heat_template_version": 1}, "x": 1}', '{"template": 5}', '{"id": 1}',
    '{"template": "' + "x" * (LIMIT + 1) + '"}',
)  # fmt: skip

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.dates(),
    st.sampled_from(["null", "1", "~"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=6), inner, max_size=4),
        st.dictionaries(st.one_of(st.integers(), st.booleans(), st.none(), st.text(max_size=3)), inner, max_size=3),
        st.sets(st.text(max_size=3), max_size=2),
    ),
    max_leaves=15,
)


@st.composite
def texts(draw):
    """Documents that begin as templates and environments do, in YAML or JSON, sometimes broken."""
    value = draw(VALUES)
    name = draw(st.sampled_from(["heat_template_version", "parameters", "template", "AWSTemplateFormatVersion", "x"]))
    document = {name: value, "resources": draw(VALUES)} if draw(st.booleans()) else {name: value}
    if draw(st.booleans()):
        text = json.dumps(document, default=str, skipkeys=True, ensure_ascii=draw(st.booleans()))
    else:
        text = yaml.dump(document, default_flow_style=draw(st.booleans()), allow_unicode=True)
    if draw(st.integers(0, 4)) == 0:
        cut = draw(st.integers(0, len(text)))
        text = text[:cut] + draw(st.sampled_from(["", "{", "]", "\t", ": ", "&a *a", "\ud800"])) + text[cut:]
    return text


@pytest.fixture(scope="module")
def client():
    with tempfile.TemporaryDirectory() as folder, helper_and_client(os.path.join(folder, "s"), tasks="api") as pair:
        yield pair[1]


@pytest.fixture(scope="module")
def both(client):
    """Heavy that gives everything to a helper, and the loop that it may be used on."""
    found = Heavy(client.helpers)
    client.do(found.start, client.loop)
    return found


@pytest.fixture(autouse=True)
def nothing_in_place(monkeypatch):
    monkeypatch.setattr(heavy_module, "PARSED_IN_PLACE", 0)
    monkeypatch.setattr(heavy_module, "READ_IN_PLACE", 0)


def same(left, right):
    """Equal, of the same types, NaN and the sign of zero included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return math.isnan(left) == math.isnan(right) and (
            math.isnan(left) or (left == right and math.copysign(1, left) == math.copysign(1, right))
        )
    return left == right


def outcome(function, *arguments):
    try:
        value = function(*arguments)
    except Exception as error:
        return type(error), str(error)
    return value.value() if isinstance(value, Encoded) else value


def check(client, both, task, text):
    there = outcome(client.do, both.parse, task, text, LIMIT)
    here = outcome(tasks.PARSERS[task], text, LIMIT)
    if isinstance(here, tuple) and issubclass(here[0], ValueError):
        here = ValueError, here[1]  # their subclasses have one text for clients
        there = (ValueError, there[1]) if isinstance(there, tuple) else there
    if isinstance(here, tuple) and issubclass(here[0], RecursionError):
        here, there = here[0], there[0]  # which of Python's many texts it is depends on where it is raised
    try:
        assert same(there, here)
    except RecursionError:  # both hold themselves
        with pytest.raises(RecursionError):
            template_format.refuse_rings(there)


@pytest.mark.parametrize("task", tasks.PARSERS)
@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("raw", [False, True])
def test_odd_texts(client, both, task, text, raw):
    check(client, both, task, text.encode("utf-8", "surrogatepass") if raw else text)


@MANY
@given(st.sampled_from(sorted(tasks.PARSERS)), texts(), st.booleans())
@example("parse_template", "heat_template_version: a\nb: " + "x" * LIMIT, False)
def test_any_text(client, both, task, text, raw):
    check(client, both, task, text.encode("utf-8", "surrogatepass") if raw else text)


def test_an_ordinary_template_comes_back_as_bytes(client, both):
    text = "heat_template_version: 2021-04-16\nresources: {a: {type: b}}"
    assert type(client.do(both.parse, "parse_template", text, LIMIT)) is Encoded


def test_what_is_no_text_is_for_the_worker(client, both):
    for value in (None, 5, [1], {"a": 1}):
        assert outcome(client.do, both.parse, "parse_template", value, LIMIT) == outcome(
            template_format.parse_template, value, LIMIT
        )


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ({"a": [1, 2.5, None, True, "é"]}, tasks.PLAIN),
        ({"a": 2**63}, tasks.PLAIN),
        ({"a": 2**64}, tasks.EXACT),
        ({"a": math.nan}, tasks.EXACT),
        ({"a": "\ud800"}, tasks.EXACT),
        ({1: 2}, tasks.HERE),
        ({"a": (1, 2)}, tasks.HERE),
        ({"a": {1, 2}}, tasks.HERE),
        ({"a": b"x"}, tasks.HERE),
    ],
)
def test_the_form_says_how_exact_json_is(value, form):
    head, data = tasks.encoded(value)
    assert head["form"] == form
    if form != tasks.HERE:
        assert same((orjson if form == tasks.PLAIN else json).loads(data), value)


class TestBodies:
    """Large JSON bodies whose template is an object."""

    @staticmethod
    def read(client, both, text):
        found = client.do(both.read_body, text.encode())
        if found is None:
            return None
        return {name: value.value() if isinstance(value, Encoded) else value for name, value in found.items()}

    @MANY
    @given(
        st.dictionaries(st.text(max_size=5), VALUES, max_size=4),
        st.dictionaries(st.sampled_from(["files", "parameters", "stack_name", "template"]), VALUES, max_size=4),
    )
    @example({"a": 10**30}, {})
    @example({"a": math.nan}, {"files": {"b": math.inf}})
    @example({}, {"template": 5})
    def test_it_is_read_as_in_the_worker(self, client, both, template, rest):
        text = json.dumps({"template": template, **rest}, default=str, skipkeys=True)
        found = self.read(client, both, text)
        expected = json.loads(text)
        if found is not None:
            assert found == expected
        elif isinstance(expected["template"], dict) and '"template": {' in text:
            with pytest.raises((TypeError, AssertionError)):  # what orjson cannot say
                assert orjson.loads(orjson.dumps(expected)) == expected

    def test_the_size_is_that_of_the_python_text(self, client, both):
        template = {"a": ["é", "'", True, None, 1e22, "\x7f\u200b"]}
        found = client.do(both.read_body, json.dumps({"template": template}).encode())
        assert found["template"].size == len(str(template))
        heavy_module.measured(found["template"], len(str(template)))
        with pytest.raises(heat.RequestLimitExceeded) as caught:
            heavy_module.measured(found["template"], len(str(template)) - 1)
        with pytest.raises(heat.RequestLimitExceeded) as here:
            template_format.check_size(template, len(str(template)) - 1)
        assert str(caught.value) == str(here.value)

    @pytest.mark.parametrize(
        "text", ['{"template": {', '{"template": {"a": NaN}}', '{"x": "template\\": {"}', '{"template": {}} x', "[1]"]
    )
    def test_the_rest_is_for_the_worker(self, client, both, text):
        assert self.read(client, both, text) is None

    def test_depth(self, client, both):
        assert self.read(client, both, '{"template": {"a": ' + "[" * 300 + "]" * 300 + "}}") is None
        assert self.read(client, both, '{"template": {"a": ' + "[" * 250 + "]" * 250 + "}}") is not None


class TestListings:
    BASE = "http://h/v1/p"
    STACK = {"tenant": "p", "stack_name": "s", "stack_id": "1", "path": ""}
    REPLIES = {
        "stacks": [
            {"stack_identity": STACK, "stack_name": "s", "stack_action": "CREATE", "stack_status": "COMPLETE", "x": 1}
        ],
        "resources": [
            {
                "resource_identity": {**STACK, "path": "/resources/r"},
                "resource_name": "r",
                "resource_action": "CREATE",
                "resource_status": "FAILED",
            }
        ],
        "events": [
            {
                "event_identity": {**STACK, "path": "/resources/r/events/5"},
                "resource_name": "r",
                "resource_action": "CREATE",
                "resource_status": "FAILED",
            }
        ],
    }
    GIVEN = {
        "stacks": {
            "base": BASE,
            "url": BASE + "/stacks",
            "limit": 3,
            "query": [["limit", "3"], ["a", "é"]],
            "count": 7,
            "with_project": True,
        },
        "resources": {"base": BASE},
        "events": {"base": BASE},
    }

    @staticmethod
    def reply(result):
        inner = json.dumps({"result": result, "failure": None, "ending": True, "_msg_id": "1f" * 16})
        return json.dumps({"oslo.version": "2.0", "oslo.message": inner}).encode()

    @pytest.mark.parametrize("kind", views.LISTINGS)
    def test_it_is_rendered_as_in_the_worker(self, client, both, kind):
        replies = self.REPLIES[kind] * 3
        found = client.do(both.render, kind, self.reply(replies), self.GIVEN[kind])
        assert found.data == jsontext.encode(views.LISTINGS[kind](replies, **self.GIVEN[kind]))
        assert found.value()[kind] and (kind != "stacks" or "marker=1" in found.value()["links"][0]["href"])

    @pytest.mark.parametrize("result", [[], None, [5], [{"stack_identity": 5}], {}, "x"])
    def test_the_rest_is_for_the_worker(self, client, both, result):
        assert client.do(both.render, "stacks", self.reply(result), self.GIVEN["stacks"]) is None

    def test_what_is_no_reply(self, client, both):
        assert client.do(both.render, "stacks", b"{}", self.GIVEN["stacks"]) is None

    def test_a_reply_that_is_another_s_after_all(self, client, both):
        """Its end says whose it is, and what orjson reads of it is another one's."""
        other = self.reply([{"stack_name": "other"}])[:-1].replace(b"1f", b"2e")
        twofold = other + b', "x": ' + self.reply(self.REPLIES["stacks"]).partition(b'"oslo.message": ')[2]
        for body in (twofold, self.reply([{}]) + b" ", self.reply([{}]).replace(b"true", b"false")):
            assert client.do(both.render, "stacks", body, self.GIVEN["stacks"]) is None

    @pytest.mark.parametrize("count", [math.nan, math.inf, 10**30])
    def test_a_count_that_only_the_standard_library_writes(self, client, both, count):
        given = self.GIVEN["stacks"] | {"count": count}
        assert client.do(both.render, "stacks", self.reply(self.REPLIES["stacks"]), given) is None


def test_a_helper_needs_no_openstack_library():
    """It is there for as long as the server: what it has imported is memory."""
    code = "import sys; import heatperf.api.tasks; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"oslo_config", "oslo_messaging", "oslo_policy", "keystoneauth1", "gevent"} & set(loaded)

"""Strategies for request bodies: templates, environments and the other documents of the API, right and wrong.

Every strategy yields bytes, or None for no body. Values are ordinary first and odd second: a body that fails at the
first check would hide what the later ones do.
"""

import json
from functools import cache
from typing import Any

from hypothesis import strategies as st

_JSON_LEAVES = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64 + 1, 10**30, -(10**40), 1.5, 1e22, 1e-7, -0.0, 1e400),
        *(float("nan"), float("-inf"), "", "x", "true", "False", "0", "01", "1.0", "-3", " 1", "None", "null", "a,b"),
        *("é", "日本語", "\U0001f525", "\ud83d", "\x00", "a\nb", "\u2028", "x" * 90, "fail-StackExists"),
        *("shape-uni", "shape-empty", "%s %(x)s", "<&>'\"\\", "2013-05-23", "{}", "[]", "a: b"),
    ]
)
_KEYS = st.sampled_from(["a", "b", "", "é", "stack_name", "parameters", "template", "1", "x" * 40, "resources", "type"])
VALUES = st.recursive(
    _JSON_LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=5,
)

_HOT = {"heat_template_version": "2018-08-31", "resources": {"r": {"type": "OS::Heat::RandomString"}}}
_TEMPLATE_TEXTS = [
    "heat_template_version: 2013-05-23\nresources:\n  r:\n    type: OS::Heat::None\n",
    "heat_template_version: '2018-08-31'\nparameters: {p: {type: string, default: é}}\n",
    '{"heat_template_version": "2018-08-31", "resources": {}}',
    '{"AWSTemplateFormatVersion": "2010-09-09", "Resources": {}}',
    "HeatTemplateFormatVersion: 2012-12-12\nResources: {}\n",
    "heat_template_version: 2021-04-16\na: &x {k: 1}\nb: *x\nc:\n  <<: *x\n  z: 2\n",
    "heat_template_version: 2021-04-16\ndescription: |\n  a\n\n  b\nd: >-\n  folded\n  text\n",
    "heat_template_version: 2021-04-16\nconditions: {c: yes, d: No, e: on, f: ~, g: null}\n",
    "heat_template_version: 2021-04-16\nn: [0o17, 017, 0x1F, 1_000, 1:30, 1e3, .inf, .nan, -.5, +1]\n",
    "heat_template_version: 2021-04-16\nt: [2001-12-14t21:59:43.10-05:00, 2002-12-14, 12:30:45]\n",
    "heat_template_version: 2021-04-16\ntags: [!!str 1, !!int '3', !!float 1, !!binary aGk=, !!set {a, b}]\n",
    "heat_template_version: 2021-04-16\nk: !Ref x\n",
    "heat_template_version: 2021-04-16\nk: !!python/object/apply:os.getcwd []\n",
    "heat_template_version: 2021-04-16\nk: !!omap [a: 1]\nl: !!pairs [a: 1, a: 2]\n",
    "heat_template_version: 2021-04-16\n1: one\ntrue: yes\nnull: x\n2.5: y\n2001-01-01: z\n",
    "heat_template_version: 2021-04-16\n? [a, b]\n: complex\n",
    "heat_template_version: 2021-04-16\na: 1\na: 2\n",
    "--- \nheat_template_version: 2021-04-16\n---\nb: 1\n",
    "%YAML 1.1\n---\nheat_template_version: 2021-04-16\n",
    "\ufeffheat_template_version: 2021-04-16\n",
    "heat_template_version: 2021-04-16\n\tresources: {}\n",
    "heat_template_version: 2021-04-16\na: 'unclosed\n",
    'heat_template_version: 2021-04-16\na: "\\x41\\u00e9\\q"\n',
    "heat_template_version: 2021-04-16\na: @b\n",
    "heat_template_version: 2021-04-16\na: *nobody\n",
    "heat_template_version: 2021-04-16\na: \x07\n",
    "heat_template_version: 2021-04-16\na: [1, 2\n",
    "heat_template_version: 2021-04-16\r\na: b\r\n",
    "heat_template_version: 2021-04-16\na: {b: c}}\n",
    "heat_template_version: 2021-04-16\na: b: c\n",
    "- a\n- b\n",
    "just text",
    "",
    " ",
    "null",
    "42",
    "[1, 2]",
    "resources: {}\n",
    "# only a comment\n",
    '{"heat_template_version": NaN, "x": 1e999, "y": 123456789012345678901234567890}',
    '{"heat_template_version": "x", "a": 1, "a": 2}',
    '{"heat_template_version": "x",}',
    "{heat_template_version: x, a: [1,], b: {c, d}}",
    "{'heat_template_version': 'x'}",
    "heat_template_version: 2021-04-16\na: &a [*a]\n",
    "template: {heat_template_version: 2021-04-16}\na: &a {b: *a}\n",
    "&a [*a]",
    "[" * 60 + "]" * 60,
    "heat_template_version: 2021-04-16\na: " + "[" * 30 + "]" * 30 + "\n",
]
_ENVIRONMENT_TEXTS = [
    *("", "{}", "parameters: {a: 1}\n", "parameters:\n  a: 2020-01-01\n", "parameters: null\n", "bad: 1\n", "- a\n"),
    *("resource_registry: {A: b.yaml}\nparameter_defaults: {x: yes}\n", "event_sinks: []\n", "a: b: c", "text", "1"),
    *("parameters: &p {a: *p}\n", "&p {a: *p}", "parameters: &p {a: 1}\nparameter_defaults: *p\n"),
    *(
        "encrypted_param_names: [a]\n",
        "parameter_merge_strategies: {a: merge}\n",
        "parameters: [1]\n",
        "parameters: x\n",
    ),
    *(
        "parameters: {a: 1}\nparameters: {b: 2}\n",
        '{"parameters": {"a": NaN}}',
        "\tparameters: {}",
        "!!set {parameters}",
    ),
    *("event_sinks: x\n", "resource_registry:\n", "1: 2\n", "null: 1\n", "parameters: {1: a, true: b}\n"),
]
_SPLICES = [
    "",
    ":",
    "\n",
    "\t",
    " ",
    "{",
    "}",
    "[",
    "]",
    "'",
    '"',
    "#",
    "&a",
    "*a",
    "!",
    "%",
    "@",
    "-",
    "\x00",
    "é",
    "\\",
]


def _spliced(text: str) -> Any:
    """Text with up to two small accidents."""

    def damage(cuts: list[tuple[int, str, int]]) -> str:
        result = text
        for place, insert, length in cuts:
            at = place % (len(result) + 1)
            result = result[:at] + insert + result[at + length :]
        return result

    cut = st.tuples(st.integers(0, 200), st.sampled_from(_SPLICES), st.integers(0, 3))
    return st.lists(cut, max_size=2).map(damage)


_TEMPLATES = st.one_of(
    st.just(_HOT),
    st.just(_HOT),
    st.sampled_from(_TEMPLATE_TEXTS),
    st.sampled_from(_TEMPLATE_TEXTS).flatmap(_spliced),
    st.dictionaries(_KEYS, VALUES, max_size=2).map(lambda extra: {**_HOT, **extra}),
    VALUES,
)
_SECTIONS = st.sampled_from(
    ["parameters", "resource_registry", "parameter_defaults", "event_sinks", "encrypted_param_names", "bad", "a"]
)
_ENVIRONMENTS = st.one_of(
    st.sampled_from(_ENVIRONMENT_TEXTS),
    st.sampled_from(_ENVIRONMENT_TEXTS).flatmap(_spliced),
    st.dictionaries(_SECTIONS, st.dictionaries(_KEYS, _JSON_LEAVES, max_size=2) | VALUES, max_size=2),
    VALUES,
)
_NAMES = st.sampled_from(["demo", "x", "é", "a/b", "fail-StackExists", "shape-uni", "fail-ValueError"]) | VALUES
_URLS = st.sampled_from(["http://127.0.0.1:9/t", "ftp://127.0.0.1/t", "file:///etc/hostname", "text", "", "http://"])
_ADOPTED = st.one_of(
    st.just(json.dumps({"template": _HOT, "name": "x", "resources": {}})),
    _TEMPLATES.map(lambda template: json.dumps({"template": template})),
    VALUES,
    VALUES.map(json.dumps),
    st.sampled_from(_TEMPLATE_TEXTS),
    _TEMPLATES.map(lambda template: {"template": template}),
)


def _mostly(*usual: Any) -> Any:
    """Usual values three times of four, else any."""
    ordinary = st.sampled_from(usual)
    return st.integers(0, 3).flatmap(lambda which: ordinary if which else VALUES)


_RIGHT = {
    "stack_name": st.sampled_from(["demo", "demo", "demo", "x-1", "shape-uni", "fail-StackExists", "é"]),
    "template": st.just(_HOT) | st.sampled_from(_TEMPLATE_TEXTS),
}
_STACK_REQUIRED = {"stack_name": _NAMES, "template": _TEMPLATES}
_STACK_OPTIONAL = {
    "template_url": _URLS | VALUES,
    "environment": _ENVIRONMENTS,
    "parameters": st.dictionaries(_KEYS, VALUES, max_size=2) | VALUES,
    "files": st.dictionaries(_KEYS, VALUES, max_size=2) | VALUES,
    "environment_files": _mostly([], ["a"], ["a", "b"]),
    "files_container": _mostly("c", ""),
    "timeout_mins": _mostly(1, 60, 0, "5", None),
    "disable_rollback": _mostly(True, False, "true"),
    "tags": _mostly("a,b", "a", "", ",", "x" * 81, "é", None),
    "adopt_stack_data": _ADOPTED,
    "converge": _mostly(True, False),
    "existing": _mostly(True, False),
    "clear_parameters": _mostly([], ["a"]),
    "stack_owner": VALUES,
    "body": VALUES,
    "é": VALUES,
}
_FIELDS: dict[str, dict[str, Any]] = {
    "config": {
        **dict.fromkeys(("group", "name", "config", "options"), VALUES),
        **dict.fromkeys(
            ("inputs", "outputs"), st.lists(st.dictionaries(_KEYS, VALUES, max_size=2), max_size=2) | VALUES
        ),
        "extra": VALUES,
    },
    "deployment": {
        **dict.fromkeys(("config_id", "server_id", "action", "status", "status_reason"), VALUES),
        **dict.fromkeys(("input_values", "output_values", "stack_user_project_id", "deployment_id", "id"), VALUES),
    },
    "snapshot": {"name": _NAMES, "x": VALUES},
    "unhealthy": {
        "mark_unhealthy": st.sampled_from([True, False, "true", "FALSE"]) | VALUES,
        "resource_status_reason": VALUES,
        "x": VALUES,
    },
}


# Strategies are made once: making and checking one takes longer than drawing from it.
_UP_TO = {bound: st.integers(0, bound) for bound in (2, 14, 35)}
_STACK_EXTRAS = st.lists(st.sampled_from(sorted(_STACK_OPTIONAL)), max_size=3, unique=True)
_ACTIONS = ["suspend", "resume", "check", "cancel_update", "cancel_without_rollback", "x", "", "action", "é"]
_ACTION_BODIES = st.one_of(
    st.dictionaries(st.sampled_from(_ACTIONS), st.none() | VALUES, min_size=1, max_size=most) for most in (1, 1, 2)
)
_CHOSEN = {kind: st.lists(st.sampled_from(sorted(_FIELDS[kind])), max_size=4, unique=True) for kind in _FIELDS}
_PLAIN, _INDENTS = st.booleans(), st.sampled_from([None, None, 1])
_ENCODINGS = st.sampled_from(["utf-8"] * 30 + ["utf-16", "latin-1", "utf-8-sig"])
_ANYTHING = st.dictionaries(_KEYS, VALUES, max_size=3)


@st.composite
def _documents(draw: Any, kind: str) -> Any:
    if kind == "stack":
        body = {}
        required = _RIGHT if draw(_UP_TO[2]) else _STACK_REQUIRED
        for key, values in required.items():
            if draw(_UP_TO[14]) > 0:
                body[key] = draw(values)
        for key in draw(_STACK_EXTRAS):
            body[key] = draw(_STACK_OPTIONAL[key])
        return body
    if kind == "action":
        return draw(_ACTION_BODIES)
    if kind in _FIELDS:
        return {key: draw(_FIELDS[kind][key]) for key in draw(_CHOSEN[kind])}
    return draw(_ANYTHING)


def _dumped(value: Any, plain: bool, indent: int | None) -> str:
    return json.dumps(value, ensure_ascii=plain, indent=indent)


@st.composite
def _texts(draw: Any, kind: str) -> bytes:
    """JSON text of a document, mostly whole."""
    document = draw(_documents(kind))
    text = _dumped(document, draw(_PLAIN), draw(_INDENTS))
    accident = draw(_UP_TO[35])
    if accident == 0:
        text = draw(_spliced(text))
    elif accident == 1:
        text = draw(st.sampled_from([" ", "\n", "\ufeff", "\t", ")]}',\n"])) + text
    elif accident == 2:
        text += draw(st.sampled_from([" ", "\n", "x", "{}", "\x00", ","]))
    elif accident == 3:
        text = '{"a": ' + draw(VALUES.map(json.dumps)) + (", " if document else "") + text[1:]
    elif accident == 4:
        key = draw(st.sampled_from(["stack_name", "template", "name", "a", "suspend"]))
        text = text[:-1] + (", " if document else "") + f'"{key}": ' + draw(VALUES.map(json.dumps)) + "}"
    elif accident == 5:
        depth = draw(st.sampled_from([5, 50, 90, 120]))
        text = text[:-1] + (", " if document else "") + '"deep": ' + "[" * depth + "]" * depth + "}"
    encoding = draw(_ENCODINGS)
    return text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")


_ODDITIES = st.sampled_from(
    [
        *(b"", b"{", b"}", b"{}", b"{ }", b"[]", b"[1]", b'"x"', b"null", b"1", b"NaN", b"x", b" {}", b"\n{}", b"{}x"),
        *(b'{"a": 1,}', b"{'a': 1}", b'{"a": "\xff"}', b"\xff\xfe{}", b'{"a": "\xc3"}', b'{"a": 01}', b'{"a": .5}'),
        *(b'{"a": "\t"}', b'{"a": "\\ud800"}', b'{"a": "\\x"}', b'{"a": 1e5}', b'{"a"}', b"{a: 1}", b'{"a": Infinity}'),
        *(b"a=b&c=d", b"_method=DELETE", b"_method=GET&x=%ff", b"_method=", b"_method=put", b"x=%E9", b"{_method=PUT}"),
        *(b'--b\r\nContent-Disposition: form-data; name="_method"\r\n\r\nDELETE\r\n--b--\r\n', b"--b\r\n", b"--b--"),
        *(b"<xml/>", b"{" + b"x" * 70000, b'{"a": "' + b"y" * 70000 + b'"}'),
        *(b'{"a": ' + b"9" * 5000 + b"}", b'{"a": -' + b"1" * 4300 + b"}", b'{"a": ' + b"9" * 4300 + b".0}"),
    ]
)


@cache
def bodies(kind: str) -> Any:
    """Bodies for routes that take a document of this kind: stack, action, config, deployment, snapshot, unhealthy, any.

    One in ten is something else altogether.
    """
    right = _texts(kind)
    others = {0: _ODDITIES, 1: _texts("any"), 2: st.none() | st.just(b"")}
    return st.integers(0, 29).flatmap(lambda which: others.get(which, right))

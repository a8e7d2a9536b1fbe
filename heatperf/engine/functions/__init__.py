"""Intrinsic functions of HOT: which there are in each version, and how to put them into a document.

Comes in: snippets of a document and the version they are written in. Goes out: the same with Function objects in
place of ``{name: arguments}``. Raises StackValidationFailed that names the place. See base.py for the walks over them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from heatperf.engine.functions.base import (
    AttributeSource,
    Function,
    Invalid,
    Macro,
    Removed,
    Scope,
    dependencies,
    resolve,
    select,
    validate,
)
from heatperf.engine.functions.containers import (
    Contains,
    Filter,
    ListConcat,
    ListConcatUnique,
    MapMerge,
    MapReplace,
    Repeat,
    RepeatWithMap,
    RepeatWithNestedLoop,
    Select,
)
from heatperf.engine.functions.logic import And, Equals, If, IfNullable, Not, Or
from heatperf.engine.functions.references import (
    CfnResourceFacade,
    GetAtt,
    GetAttAllAttributes,
    GetAttThenSelect,
    GetAZs,
    GetFile,
    GetParam,
    GetResource,
    ResourceFacade,
    ref,
)
from heatperf.engine.functions.texts import (
    Base64,
    CfnReplace,
    CfnSplit,
    Digest,
    Join,
    JoinMultiple,
    MakeURL,
    MemberListToMap,
    Replace,
    ReplaceJson,
    ReplaceJsonStrict,
    ReplaceJsonVeryStrict,
    StrSplit,
    Yaql,
)
from heatperf.errors import heat

#: What makes a Function of (scope, name, arguments); a Macro takes a parser too.
Maker = Callable[..., Function]

_CFN: dict[str, Maker] = {
    "Fn::GetAZs": GetAZs,
    "Ref": ref,
    "Fn::Join": Join,
    "Fn::Split": CfnSplit,
    "Fn::Replace": CfnReplace,
    "Fn::Base64": Base64,
    "Fn::MemberListToMap": MemberListToMap,
    "Fn::ResourceFacade": CfnResourceFacade,
}

#: What each version changes against the one before it. 2018-03-02 and 2018-08-31 change no function.
_CHANGES: dict[str, dict[str, Maker]] = {
    "2013-05-23": {
        **_CFN,
        "Fn::Select": Select,
        "get_attr": GetAttThenSelect,
        "get_file": GetFile,
        "get_param": GetParam,
        "get_resource": GetResource,
        "list_join": Join,
        "resource_facade": ResourceFacade,
        "str_replace": Replace,
    },
    "2014-10-16": {"get_attr": GetAtt, **dict.fromkeys(_CFN, Removed)},
    "2015-04-30": {"repeat": Repeat, "digest": Digest},
    "2015-10-15": {
        "get_attr": GetAttAllAttributes,
        "list_join": JoinMultiple,
        "str_replace": ReplaceJson,
        "str_split": StrSplit,
        "Fn::Select": Removed,
    },
    "2016-04-08": {"map_merge": MapMerge},
    "2016-10-14": {"repeat": RepeatWithMap, "yaql": Yaql, "map_replace": MapReplace, "if": If},
    "2017-02-24": {"filter": Filter, "str_replace_strict": ReplaceJsonStrict},
    "2017-09-01": {
        "repeat": RepeatWithNestedLoop,
        "make_url": MakeURL,
        "list_concat": ListConcat,
        "list_concat_unique": ListConcatUnique,
        "str_replace_vstrict": ReplaceJsonVeryStrict,
        "contains": Contains,
    },
    "2018-03-02": {},
    "2018-08-31": {},
    "2021-04-16": {"if": IfNullable},
}

_CONDITION_CHANGES: dict[str, dict[str, Maker]] = {
    "2016-10-14": {"get_param": GetParam, "equals": Equals, "not": Not, "and": And, "or": Or},
    "2017-09-01": {"yaql": Yaql, "contains": Contains},
}

_MACROS: tuple[Maker, ...] = (If, IfNullable)


def _accumulate(changes: Mapping[str, Mapping[str, Maker]]) -> dict[str, dict[str, Maker]]:
    """Return the whole table of each version."""
    tables: dict[str, dict[str, Maker]] = {}
    table: dict[str, Maker] = {}
    for version in _CHANGES:
        table = {**table, **changes.get(version, {})}
        tables[version] = table
    return tables


#: version -> name -> function, everywhere but in conditions
FUNCTIONS = _accumulate(_CHANGES)

#: version -> name -> function, in conditions
CONDITION_FUNCTIONS = _accumulate(_CONDITION_CHANGES)


def condition_table(version: str) -> dict[str, Maker]:
    """Return what may be met in a condition: its functions, and those that raise because they do not belong there."""
    table: dict[str, Maker] = {
        name: maker if maker is Removed else Invalid for name, maker in FUNCTIONS[version].items()
    }
    return table | CONDITION_FUNCTIONS[version]


def describe(version: str, with_condition: bool = False) -> dict[str, str]:
    """Return name -> one sentence for the functions of a version.

    :param version: date of the version, not its alias
    :param with_condition: include those of conditions
    """
    table = FUNCTIONS[version] | (CONDITION_FUNCTIONS[version] if with_condition else {})
    return {
        name: getattr(maker, "description", "") or "Refers to a parameter or a resource."
        for name, maker in table.items()
        if maker is not Removed
    }


def parse(table: Mapping[str, Maker], scope: Scope, snippet: Any, path: str = "") -> Any:
    """Return ``snippet`` with Function objects in place of ``{name: arguments}``.

    :param table: functions that may be met
    :param path: where the snippet stands, for messages
    :raises heat.StackValidationFailed: arguments of a function are wrong
    """
    if isinstance(snippet, Mapping):
        if len(snippet) == 1:
            name, arguments = next(iter(snippet.items()))
            maker = table.get(name)
            if maker is not None:
                return _make(table, scope, maker, name, arguments, f"{path}.{name}")
        return {key: parse(table, scope, value, f"{path}.{key}") for key, value in snippet.items()}
    if isinstance(snippet, (list, tuple)):
        return [parse(table, scope, value, f"{path}[{index}]") for index, value in enumerate(snippet)]
    return snippet


def _make(table: Mapping[str, Maker], scope: Scope, maker: Maker, name: str, arguments: Any, path: str) -> Function:
    try:
        if maker in _MACROS:
            return maker(scope, name, arguments, lambda part: parse(table, scope, part, path))
        return maker(scope, name, parse(table, scope, arguments, path))
    except (ValueError, TypeError, KeyError) as error:
        raise heat.StackValidationFailed(path=path, message=str(error)) from error


__all__ = [
    "CONDITION_FUNCTIONS",
    "FUNCTIONS",
    "AttributeSource",
    "Function",
    "Macro",
    "Maker",
    "Removed",
    "Scope",
    "condition_table",
    "dependencies",
    "describe",
    "parse",
    "resolve",
    "select",
    "validate",
]

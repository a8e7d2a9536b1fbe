"""Environments: parameters, defaults, and which implementation a resource type stands for.

Comes in: the environment of a request and the environment files it names. Goes out: one merged Environment. Raises
ValueError for files that are no environments, errors.heat classes for wrong strategies, hooks and types. An
Environment belongs to one request.
"""

import fnmatch
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from heatperf.engine import documents
from heatperf.engine.limits import DEFAULT, Limits, check_shape
from heatperf.engine.parameters import ParameterSchema
from heatperf.errors import heat

HOOKS = ("pre-create", "pre-update", "pre-delete", "post-create", "post-update", "post-delete")
RESTRICTED_ACTIONS = ("update", "replace")
#: Kinds of event sink that a real engine knows. Events for them are lost where there is no such service, as there.
EVENT_SINKS = ("zaqar-queue",)

_STRATEGIES = ("overwrite", "merge", "deep_merge")
_TEMPLATE_SUFFIXES = (".yaml", ".template")


def _words(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value) if isinstance(value, Sequence) else [value]


def _is_hook(key: str, value: Any) -> bool:
    """Tell whether an entry of the registry sets hooks.

    :raises heat.InvalidBreakPointHook: it does, but not such as exist
    """
    if key != "hooks":
        return False
    if not all(word in HOOKS for word in _words(value)):
        raise heat.InvalidBreakPointHook(
            message=f'Invalid hook type "{value}" for resource breakpoint, acceptable hook types are: {HOOKS}'
        )
    return True


def _is_restriction(key: str, value: Any) -> bool:
    """Tell whether an entry of the registry forbids actions.

    :raises heat.InvalidRestrictedAction: it does, but not such as exist
    """
    if key != "restricted_actions":
        return False
    if not all(word in RESTRICTED_ACTIONS for word in _words(value)):
        raise heat.InvalidRestrictedAction(
            message=f'Invalid restricted_action type "{value}" for resource, acceptable restricted_action types are: '
            f"{RESTRICTED_ACTIONS}"
        )
    return True


class Registry:
    """The resource_registry section.

    :param section: as the client sent it
    :raises heat.InvalidBreakPointHook, heat.InvalidRestrictedAction, heat.StackValidationFailed: an entry is wrong
    """

    def __init__(self, section: Mapping[str, Any] | None = None) -> None:
        self._entries: dict[str, Any] = {"resources": {}}
        self.load(section or {})

    def load(self, section: Mapping[str, Any]) -> None:
        """Add entries; null takes one away, a name that ends in ``*`` all that start with it."""
        self._load(self._entries, section)

    def _load(self, level: dict[str, Any], section: Mapping[str, Any]) -> None:
        for key, value in section.items():
            if value is None:
                self._remove(level, key)
            elif _is_hook(key, value) or _is_restriction(key, value):
                level[key] = value
            elif isinstance(value, Mapping):
                below = level.setdefault(key, {})
                if not isinstance(below, dict):
                    below = level[key] = {}
                self._load(below, value)
            elif isinstance(value, str):
                level[key] = value
            else:
                raise heat.StackValidationFailed(
                    path=["resource_registry", str(key)], message=f"{value} is neither a resource type nor a template"
                )

    @staticmethod
    def _remove(level: dict[str, Any], key: str) -> None:
        if not key.endswith("*"):
            level.pop(key, None)
            return
        for name in [name for name in level if name.startswith(key[:-1]) and isinstance(level[name], str)]:
            del level[name]

    def as_dict(self) -> dict[str, Any]:
        """Return the section, with ``resources`` even where it is empty."""
        return json.loads(json.dumps(self._entries))

    def _candidates(self, resource_type: str, resource_name: str | None) -> Iterator[str]:
        """Yield what a type may stand for, the most specific first."""
        if resource_type.endswith(_TEMPLATE_SUFFIXES):
            yield resource_type
        own = self._entries["resources"].get(resource_name) if resource_name else None
        if isinstance(own, Mapping) and isinstance(own.get(resource_type), str):
            yield own[resource_type]
        if isinstance(self._entries.get(resource_type), str):
            yield self._entries[resource_type]
        # of several patterns the one that comes first in order, as upstream sorts them
        for pattern in sorted(name for name in self._entries if name.endswith("*")):
            target = self._entries[pattern]
            prefix = pattern[:-1]
            if isinstance(target, str) and target != resource_type and resource_type.startswith(prefix):
                yield target[:-1] + resource_type[len(prefix) :] if target.endswith("*") else target

    def find(self, resource_type: str, builtin: Collection[str], resource_name: str | None = None) -> str:
        """Return what a type stands for, through any number of aliases.

        :param builtin: types that the engine has
        :param resource_name: entries under ``resources`` may be for this resource only
        :raises heat.EntityNotFound: nothing
        """
        found = self._find(resource_type, builtin, resource_name, ())
        if found is None:
            raise heat.EntityNotFound(entity="Resource Type", name=resource_type)
        return found

    def _find(
        self, resource_type: str, builtin: Collection[str], resource_name: str | None, seen: tuple[str, ...]
    ) -> str | None:
        # aliases that go in circles lead nowhere; the bound keeps a chain of generated names from going on for ever
        if resource_type in seen or len(seen) >= 50:
            return None
        for target in self._candidates(resource_type, resource_name):
            if target.endswith(_TEMPLATE_SUFFIXES):
                return target
            found = self._find(target, builtin, resource_name, (*seen, resource_type))
            if found is not None:
                return found
        return resource_type if resource_type in builtin else None

    def type_for(self, resource_type: Any, builtin: Collection[str], resource_name: str) -> str:
        """Return what a resource's type stands for, as a stack asks it.

        :raises heat.StackValidationFailed: it is no type, or there is none of this name
        """
        if resource_type == "":
            raise heat.StackValidationFailed(message=f'Resource "{resource_name}" has no type')
        if resource_type is None:
            raise heat.StackValidationFailed(
                message=f'Non-empty resource type is required for resource "{resource_name}"'
            )
        if not isinstance(resource_type, str):
            raise heat.StackValidationFailed(message=f'Resource "{resource_name}" type is not a string')
        try:
            return self.find(resource_type, builtin, resource_name)
        except heat.EntityNotFound as error:
            raise heat.StackValidationFailed(message=str(error)) from error

    def _words_for(self, resource_name: str, key: str) -> set[str]:
        found: set[str] = set()
        for pattern, entry in self._entries["resources"].items():
            if isinstance(entry, Mapping) and key in entry and fnmatch.fnmatchcase(resource_name, pattern):
                found.update(_words(entry[key]))
        return found

    def has_hook(self, resource_name: str, hook: str) -> bool:
        """Tell whether a hook is set for a resource; names under ``resources`` may be patterns."""
        return hook in self._words_for(resource_name, "hooks")

    def restricted_actions(self, resource_name: str) -> set[str]:
        """Return the actions that are forbidden for a resource."""
        return self._words_for(resource_name, "restricted_actions")


def _section(environment: Mapping[str, Any], name: str, kind: type) -> Any:
    value = environment.get(name)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise heat.StackValidationFailed(path=[name], message=f"must be a {'map' if kind is dict else 'list'}")
    return value


class Environment:
    """The environment of a stack.

    :param environment: sections; or, as long ago, parameters only
    :raises heat.StackValidationFailed: a section is of the wrong kind, or an event sink is unknown
    :raises heat.InvalidBreakPointHook, heat.InvalidRestrictedAction: an entry of the registry is wrong
    """

    def __init__(self, environment: Mapping[str, Any] | None = None, limits: Limits = DEFAULT) -> None:
        given = environment or {}
        check_shape(given, limits, "environment")
        self.parameter_defaults: dict[str, Any] = dict(_section(given, "parameter_defaults", dict))
        self.registry = Registry(_section(given, "resource_registry", dict))
        self.encrypted_param_names: list[str] = list(_section(given, "encrypted_param_names", list))
        self.event_sinks: list[dict[str, Any]] = list(_section(given, "event_sinks", list))
        if "parameters" in given:
            self.parameters: dict[str, Any] = dict(_section(given, "parameters", dict))
        else:
            apart = ("parameter_defaults", "encrypted_param_names", "event_sinks", "resource_registry")
            self.parameters = {name: value for name, value in given.items() if name not in apart}
        for sink in self.event_sinks:
            kind = sink.get("type") if isinstance(sink, Mapping) else None
            if kind not in EVENT_SINKS:
                raise heat.StackValidationFailed(path=["event_sinks"], message=f'Unknown event sink type "{kind}"')

    def user_dict(self) -> dict[str, Any]:
        """Return the sections that a client may see."""
        return {
            "resource_registry": self.registry.as_dict(),
            "parameters": self.parameters,
            "parameter_defaults": self.parameter_defaults,
            "event_sinks": self.event_sinks,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return all sections, to be stored."""
        return self.user_dict() | {"encrypted_param_names": self.encrypted_param_names}


def _strategy(strategies: Any, name: str, known: Mapping[str, str]) -> str:
    if not isinstance(strategies, Mapping):
        return "overwrite"
    default: str = strategies.get("default", "overwrite")
    found: str = strategies.get(name, known.get(name, default))
    return found if found in _STRATEGIES else default


def _merge_lists(old: Any, new: Any) -> Any:
    """Return two lists as one; texts with commas are lists too."""
    if not old:
        return new
    if isinstance(new, list):
        return [*(old if isinstance(old, list) else old.split(",")), *new]
    return ",".join([*(map(str, old) if isinstance(old, list) else [old]), new])


def _merge_maps(old: Any, new: Any, deep: bool = False) -> Any:
    """Return ``old`` with what ``new`` says.

    :param deep: whether maps, lists and texts inside are joined too
    """
    if not old:
        return new
    merged = dict(old)
    for key, value in new.items():
        if value is None:
            continue
        before = merged.get(key)
        if deep and isinstance(value, str):
            merged[key] = f"{before or ''}{value}"
        elif deep and before and isinstance(value, Mapping):
            merged[key] = _merge_maps(before, value, True)
        elif deep and before and isinstance(value, list):
            merged[key] = _merge_lists(before, value)
        else:
            merged[key] = value
    return merged


def _readable(value: Any, kind: str) -> Any:
    """Return a parameter's value in the form it is merged in.

    :raises ValueError: it has none
    """
    try:
        if kind == "json":
            return json.loads(value) if isinstance(value, str) and value else value
        if not isinstance(value, (str, list)):
            raise ValueError
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Invalid parameter in environment {error}.") from error
    return value


def _merged_value(name: str, old: Any, new: Any, kind: str, deep: bool) -> Any:
    """Return a parameter's value that stands for two.

    :raises heat.InvalidMergeStrategyForParam: values of this type cannot be joined
    :raises ValueError: the new one cannot be read
    """
    value = _readable(new, kind)
    try:
        if kind == "json":
            return _merge_maps(_readable(old, kind), value, deep)
        if kind == "comma_delimited_list":
            return _merge_lists(old, value)
        if kind == "string":
            return (old or "") + value
        if kind == "number":
            return (old or 0) + value
    except (TypeError, AttributeError) as error:
        raise ValueError(f"Invalid parameter in environment {error}.") from error
    raise heat.InvalidMergeStrategyForParam(strategy="merge", param=name)


def _merge_parameters(
    old: dict[str, Any],
    new: Mapping[str, Any],
    schemas: Mapping[str, ParameterSchema],
    strategies: Any,
    known: dict[str, str],
    file: str,
) -> dict[str, Any]:
    """Return parameters with those of one more file; those that no template has are left out, but for the first file.

    :param known: strategies of files before this one, and then of this one
    :raises heat.ConflictingMergeStrategyForParam: this file wants another strategy than one before it
    """
    values = {name: value for name, value in new.items() if name in schemas and value is not None}
    for name in values:
        strategy = _strategy(strategies, name, known)
        if known.setdefault(name, strategy) != strategy:
            raise heat.ConflictingMergeStrategyForParam(strategy=strategy, param=name, env_file=file)
    if not old:
        return dict(new)
    merged = dict(old)
    for name, value in values.items():
        # an unknown default strategy is no error upstream either
        if known[name] in ("merge", "deep_merge"):
            deep = known[name] == "deep_merge"
            merged[name] = _merged_value(name, merged.get(name), value, schemas[name].type, deep)
        else:
            merged[name] = value
    return merged


def merge_environments(
    names: Sequence[str] | None,
    files: Mapping[str, str] | None,
    environment: Mapping[str, Any],
    schemas: Mapping[str, ParameterSchema],
    limits: Limits = DEFAULT,
) -> dict[str, Any]:
    """Return the environment of a request with those of its environment files merged in.

    :param names: environment files, in order; later ones win
    :param files: name -> content
    :param environment: of the request; stays as it is
    :param schemas: of all templates of the request (Template.all_parameters)
    :raises ValueError: a file is no environment, or values cannot be merged
    :raises heat.ConflictingMergeStrategyForParam, heat.InvalidMergeStrategyForParam: a strategy is wrong
    :raises heat.StackValidationFailed: a file is missing
    """
    merged = dict(environment)
    known: dict[str, str] = {}
    for name in names or ():
        if name not in (files or {}):
            raise heat.StackValidationFailed(message=f"The environment file {name} is not among the files.")
        parsed = documents.parse_environment((files or {})[name], limits)
        strategies = parsed.pop("parameter_merge_strategies", {})
        for section, content in parsed.items():
            if not content:
                continue
            if section in ("parameters", "parameter_defaults"):
                if not isinstance(content, Mapping):
                    raise ValueError(f'environment has wrong section "{section}"')
                merged[section] = _merge_parameters(
                    merged.get(section) or {}, content, schemas, strategies, known, name
                )
            elif isinstance(content, list):
                merged[section] = [*(merged.get(section) or []), *content]
            elif isinstance(content, Mapping):
                merged[section] = _merge_maps(merged.get(section), content)
            else:
                raise ValueError(f'environment has wrong section "{section}"')
    return merged

"""Functions that make or change lists and maps.

Comes in: parsed arguments. Goes out: lists and maps; never the caller's own, so that a parameter's value stays as it
was. Raises what base.py says. Work grows with the size of the lists, never with its square, and results are charged
to the budget of the running call.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from heatperf.engine import limits
from heatperf.engine.functions.base import Function, Scope, is_list, resolve
from heatperf.engine.functions.texts import replaced
from heatperf.errors import heat


def frozen(value: Any) -> Any:
    """Return a hashable stand-in that is equal exactly where the values are."""
    if isinstance(value, Mapping):
        return ("map", frozenset((key, frozen(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return ("list", tuple(frozen(item) for item in value))
    return value


class Repeat(Function):
    """``repeat: {template: ..., for_each: {placeholder: [...]}}``: one copy of the template for each combination."""

    description = "Returns a list with a copy of a template for each item of one or more lists."
    #: what the values of for_each may be, for the message
    kinds = "lists"
    map_allowed = False

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        #: whether all combinations are made; otherwise the lists are walked side by side
        self.nested = True
        if not isinstance(arguments, Mapping):
            raise TypeError(f'Arguments to "{name}" must be a map')
        if "for_each" not in arguments or "template" not in arguments:
            pad = " " * 14
            example = f"repeat:\n{pad}template: This is %var%\n{pad}for_each:\n{pad}  %var%: ['a', 'b', 'c']"
            raise KeyError(f'"repeat" syntax should be {example}')
        self._for_each = arguments["for_each"]
        self._template = arguments["template"]

    def validate(self) -> None:
        super().validate()
        if not isinstance(self._for_each, (Mapping, Function)):
            raise TypeError(f'The "for_each" argument to "{self.name}" must contain a map')

    def result(self) -> Any:
        for_each = resolve(self._for_each)
        if not isinstance(for_each, Mapping) or not for_each:
            raise ValueError(f'The "for_each" argument to "{self.name}" must contain a map')
        values = [self._items(value) for value in for_each.values()]
        # a null stands for a list that is not known yet
        lengths = {len(value) for value in for_each.values() if value is not None}
        if not self.nested and len(lengths) > 1:
            raise ValueError(f"For {self.name}, the length of for_each values should be equal if no nested loop.")
        count = math.prod(map(len, values)) if self.nested else min(map(len, values))
        most = self.scope.limits.repeated
        if count > most:
            raise heat.StackValidationFailed(message=f'"{self.name}" makes more than {most} elements.')
        template = resolve(self._template)
        meter = limits.budget()
        meter.spend(count * limits.weigh(template, meter.limits.resolved))
        combine: Callable[..., Iterable[tuple[Any, ...]]] = itertools.product if self.nested else zip
        keys = list(for_each)
        return [self._copy(template, list(zip(keys, items, strict=True))) for items in combine(*values)]

    def _items(self, value: Any) -> list[Any]:
        if value is None:
            return []
        if not (is_list(value) or (self.map_allowed and self.nested and isinstance(value, Mapping))):
            # without permutations a map has no order to go by
            kinds = self.kinds if self.nested else "lists"
            raise TypeError(f'The values of the "for_each" argument to "{self.name}" must be {kinds}')
        return list(value)

    def _copy(self, template: Any, pairs: list[tuple[str, Any]]) -> Any:
        """Return the template with placeholders replaced in all its texts."""
        if isinstance(template, str):
            for key, value in pairs:
                if not isinstance(value, str):
                    raise TypeError(f"replace() argument 2 must be str, not {type(value).__name__}")
                template = replaced(template, key, value)
            return template
        if isinstance(template, Sequence):
            return [self._copy(item, pairs) for item in template]
        if isinstance(template, Mapping):
            return {self._copy(key, pairs): self._copy(value, pairs) for key, value in template.items()}
        return template


class RepeatWithMap(Repeat):
    """``repeat`` over the keys of maps too."""

    description = "Returns a list with a copy of a template for each item of lists or key of maps."
    kinds = "lists or maps"
    map_allowed = True


class RepeatWithNestedLoop(RepeatWithMap):
    """``repeat`` that may walk its lists side by side (``permutations: false``)."""

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        self.nested = arguments.get("permutations", True)
        if not isinstance(self.nested, bool):
            raise TypeError(f'"permutations" should be boolean type for {name} function.')


class MapMerge(Function):
    """``map_merge: [{...}, {...}]``; later maps win."""

    description = "Returns several maps merged into one."

    def result(self) -> Any:
        arguments = resolve(self.arguments)
        if not isinstance(arguments, Sequence):
            example = f'"{self.name}" : [ {{ "key1": "val1" }}, {{ "key2": "val2" }} ]'
            raise TypeError(f'Incorrect arguments to "{self.name}" should be: {example}')
        merged: dict[Any, Any] = {}
        for item in arguments:
            if item is None:
                continue
            if not isinstance(item, Mapping):
                raise TypeError(
                    "Incorrect arguments: Items to merge must be maps. "
                    f"{repr(item)[:200]} is type {type(item)} instead of a dict"
                )
            merged.update(item)
        return merged


class MapReplace(Function):
    """``map_replace: [{...}, {keys: {...}, values: {...}}]``."""

    description = "Returns a map with keys and values replaced."

    def result(self) -> Any:
        arguments = resolve(self.arguments)
        maps = [self._map(item) for item in arguments[:2]] if isinstance(arguments, list) else []
        if len(maps) != 2 or len(arguments) != 2:
            raise TypeError(self._usage())
        source, changes = maps
        if set(changes) - {"keys", "values"}:
            raise ValueError(self._usage())
        keys = self._map(changes.get("keys", {}))
        values = self._map(changes.get("values", {}))
        result: dict[Any, Any] = {}
        for old, value in source.items():
            key = keys.get(old)
            if key is None:
                key = old
            elif key in source and key != old:
                raise ValueError(f"key replacement {key} collides with a key in the input map")
            elif key in result:
                raise ValueError(f"key replacement {key} collides with a key in the output map")
            # lists and maps have no replacement: they cannot be keys
            result[key] = value if isinstance(value, (list, Mapping)) else values.get(value, value)
        return result

    def _usage(self) -> str:
        example = (
            f'"{self.name}" : [ {{ "key1": "val1" }}, {{"keys": {{"key1": "key2"}}, "values": {{"val1": "val2"}}}}]'
        )
        return f'Incorrect arguments to "{self.name}" should be: {example}'

    def _map(self, value: Any) -> Mapping[Any, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            example = self._usage().partition(" should be: ")[2]
            raise TypeError(
                f'Incorrect arguments: to "{self.name}", arguments must be a list of maps. Example:  {example}'
            )
        return value


class ListConcat(Function):
    """``list_concat: [[...], [...]]``."""

    description = "Returns several lists as one."

    def result(self) -> Any:
        arguments = resolve(self.arguments)
        if not is_list(arguments):
            example = f'"{self.name}" : [ [ <value 1>, <value 2> ], [ <value 3>, <value 4> ] ]'
            raise TypeError(f'Incorrect arguments to "{self.name}" should be: {example}')
        result: list[Any] = []
        for item in arguments:
            if item is None:
                continue
            if not is_list(item):
                raise TypeError(
                    "Incorrect arguments: Items to concat must be lists. "
                    f"{json.dumps(arguments)} contains an item that is not a list: {json.dumps(item)}"
                )
            result.extend(item)
        limits.budget().spend(limits.ENTRY * len(result))
        return result


class ListConcatUnique(ListConcat):
    """``list_concat_unique``; the first of equal items stays."""

    description = "Returns several lists as one, without repeated items."

    def result(self) -> Any:
        unique: dict[Any, Any] = {}
        for item in super().result():
            unique.setdefault(frozen(item), item)
        return list(unique.values())


class Filter(Function):
    """``filter: [values, list]``."""

    description = "Returns a list without some values."

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        if not is_list(arguments):
            raise TypeError(f'Argument to "{name}" must be a list')
        if len(arguments) != 2:
            raise ValueError(
                f'"{name}" expected 2 arguments of the form [values, sequence] but got {len(arguments)} '
                "arguments instead"
            )
        self._values, self._list = arguments

    def result(self) -> Any:
        items = resolve(self._list)
        if not items:
            return items
        if not isinstance(items, list):
            raise TypeError(f'"{self.name}" only works with lists')
        values = resolve(self._values)
        if not values:
            return items
        if not isinstance(values, list):
            raise TypeError(f'"{self.name}" filters a list of values')
        unwanted = {frozen(value) for value in values}
        return [item for item in items if frozen(item) not in unwanted]


class Contains(Function):
    """``contains: [value, list]``; in a text, whether the value is part of it."""

    description = "Tells whether a value is in a list."

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        if not arguments or not isinstance(arguments, list):
            example = f'"{name}" : [ "value1", [ "value1", "value2"]]'
            raise TypeError(f'Incorrect arguments to "{name}" should be: {example}')
        if len(arguments) != 2:
            raise ValueError(f'Arguments to "{name}" must be of the form: [value1, [value1, value2]]')
        self._value, self._sequence = arguments

    def result(self) -> Any:
        value = resolve(self._value)
        sequence = resolve(self._sequence)
        if not isinstance(sequence, Sequence):
            raise TypeError(f'Second argument to "{self.name}" should be a sequence.')
        return value in sequence


class Select(Function):
    """``Fn::Select: [index, list or map]`` of the first versions of HOT; an empty text where there is nothing."""

    description = "Returns an item of a list or map."

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        try:
            self._index, self._collection = arguments
        except ValueError:
            raise ValueError(f'Arguments to "{name}" must be of the form [index, collection]') from None

    def result(self) -> Any:
        index = resolve(self._index)
        collection = resolve(self._collection)
        if collection == "":
            return ""
        if isinstance(collection, str):
            try:
                collection = json.loads(collection)
            except (ValueError, RecursionError) as error:
                raise ValueError(f'"{self.name}": {error}') from error
        if isinstance(collection, Mapping):
            if not isinstance(index, str):
                raise TypeError(f'Index to "{self.name}" must be a string')
            return collection.get(index, "")
        if collection is None:
            return ""
        if not is_list(collection):
            raise TypeError(f"Arguments to {self.name} not fully resolved")
        try:
            return collection[int(index)]
        except (ValueError, TypeError):
            raise TypeError(f'Index to "{self.name}" must be an integer') from None
        except IndexError:
            return ""

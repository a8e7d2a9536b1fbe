"""Resources in full: attributes, properties and metadata, for answers.

Comes in: records and definitions. Goes out: dictionaries as views.py formats them. Raises: nothing of a single
attribute's trouble; such an attribute is null, as upstream. Runs on threads of requests.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from heatperf.engine import records, resources, views
from heatperf.engine.definition import Definition, blank
from heatperf.engine.resources.base import Host, Resource
from heatperf.engine.resources.schema import Properties


def attributes(kind: Resource, values: Properties, wanted: Sequence[str] | None = None) -> dict[str, Any]:
    """All attributes of a resource, and ``wanted`` ones outside its schema.

    A type whose ``show`` gives a map answers with that map, and adds to it what is wanted.
    """

    def resolve(name: str) -> Any:
        try:
            return kind.get_attribute(name, values)
        except Exception:  # one attribute's trouble must not hide the others
            return None

    shown = resolve("show")
    if isinstance(shown, Mapping):
        return {**{name: resolve(name) for name in wanted or () if name not in shown}, **shown}
    return {name: resolve(name) for name in [*kind.attributes_schema, *(wanted or ())]}


def properties(values: Properties) -> dict[str, Any]:
    """Every property of the schema; null where there is no value or it cannot be read."""

    def read(name: str) -> Any:
        try:
            return values[name]
        except (KeyError, ValueError):
            return None

    return {name: read(name) for name in values.schema}


def preview_resource(stack: records.Stack, definition: Definition, name: str, host: Host) -> dict[str, Any]:
    """A resource of a stack that is only thought of."""
    planned = definition.planned(name)
    record = blank(stack.id, name, planned.type)
    kind = planned.kind(record, host)
    values = planned.properties()
    return views.format_resource(
        stack,
        record,
        required_by=definition.required_by(name),
        detail={
            "description": planned.description,
            "metadata": planned.metadata(),
            "attributes": attributes(kind, values),
            "properties": properties(values),
        },
    )


def full(
    stack: records.Stack,
    record: records.Resource,
    definition: Definition,
    kind: Resource,
    *,
    detail: bool = True,
    with_attributes: Sequence[str] | bool | None = None,
) -> dict[str, Any]:
    """A resource of a stored stack.

    :param with_attributes: names outside the schema to add; False leaves attributes out
    """
    extra: dict[str, Any] | None = None
    if detail:
        planned = definition.planned(record.name) if definition.has(record.name) else None
        fresh = record.action == "INIT" and planned is not None
        extra = {
            "description": planned.description if planned is not None else record.definition.get("description", ""),
            "metadata": planned.metadata() if fresh and planned is not None else record.metadata,
        }
        if with_attributes is not False:
            values = planned.properties() if fresh and planned is not None else resources.frozen_values(kind)
            wanted = None if isinstance(with_attributes, bool) else with_attributes
            extra["attributes"] = attributes(kind, values, wanted)
    return views.format_resource(stack, record, required_by=definition.required_by(record.name), detail=extra)

"""What an update would do, without doing it.

Comes in: a stack and the definition it might go to. Goes out: its resources by what would happen to them. Raises:
what comparing raises. Runs on threads of requests.
"""

from typing import Any

from heatperf.engine import records, resource_views, resources
from heatperf.engine.core import Core
from heatperf.engine.definition import Definition, blank
from heatperf.engine.journal import LiveAttributes
from heatperf.engine.resources.base import ReplacementNeeded
from heatperf.engine.work import changed_properties, needs_update


def compare(core: Core, stack: records.Stack, wanted: Definition) -> dict[str, list[dict[str, Any]]]:
    """Resources that would stay, change, be replaced, be added and be deleted.

    Values that come from living resources are those of now; an update may see others.
    """
    present = core.present(stack)
    rows = core.resources(stack)
    wanted.attach(LiveAttributes(core.journal, stack, {name: row.key_id for name, row in rows.items()}))
    answer: dict[str, list[dict[str, Any]]] = {
        what: [] for what in ("unchanged", "updated", "replaced", "added", "deleted")
    }
    for name in wanted.names():
        what = _fate(core, stack, rows[name], wanted) if name in rows and present.has(name) else "added"
        as_now = what == "updated"
        answer[what].append(
            _shown(core, stack, name, present if as_now else wanted, rows.get(name) if as_now else None)
        )
    for name in present.names():
        if not wanted.has(name):
            answer["deleted"].append(_shown(core, stack, name, present, rows.get(name)))
    return answer


def _fate(core: Core, stack: records.Stack, row: records.Resource, wanted: Definition) -> str:
    planned = wanted.planned(row.name)
    if row.action == "INIT" and not row.definition:
        return "replaced"
    if planned.resource_type is not core.journal.resource_type(row):
        return "replaced"
    kind = core.journal.kind(stack, row)
    before, after = resources.frozen_values(kind), planned.properties()
    try:
        if not needs_update(kind, planned, before, after, after_creation=False):
            return "unchanged"
        changed_properties(kind, before, after)
    except ReplacementNeeded:
        return "replaced"
    return "updated"


def _shown(
    core: Core, stack: records.Stack, name: str, definition: Definition, row: records.Resource | None
) -> dict[str, Any]:
    planned = definition.planned(name)
    record = row or blank(stack.id, name, planned.type)
    kind = planned.kind(record, core.journal.host(stack))
    return resource_views.full(stack, record, definition, kind)

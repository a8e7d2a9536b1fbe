"""Lists: filters, sorting and paging as clients ask for them, as SQL over records.

Comes in: filters, sort keys, limits and markers from requests. Goes out: records. Raises: errors.heat.Invalid and
ValueError for what makes no sense. Column names never come from a request: they are looked up in tables here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from heatperf.engine import records
from heatperf.engine.caller import Caller
from heatperf.engine.store import Session
from heatperf.errors import heat

R = TypeVar("R", bound=records.Record)

Where = tuple[str, tuple[Any, ...]]

_STACK_SORT = {
    "stack_name": "name",
    "stack_status": "status",
    "creation_time": "created_at",
    "updated_time": "updated_at",
}
_EVENT_SORT = {"event_time": "created_at", "resource_type": "resource_type"}

#: Names that answers use -> columns.
_TRANSLATED = {
    "stack_name": "name",
    "stack_action": "action",
    "stack_status": "status",
    "stack_status_reason": "status_reason",
    "disable_rollback": "disable_rollback",
    "timeout_mins": "timeout",
    "stack_owner": "username",
    "parent": "owner_id",
    "stack_user_project_id": "stack_user_project_id",
}
_STATUSES = (records.COMPLETE, records.FAILED, records.IN_PROGRESS)

#: Filters on resources that have another name than the column.
_RESOURCE_COLUMNS = {"physical_resource_id": "physical_id"}


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def translate_filters(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Filters by the store's names; ``CREATE_FAILED`` as a status is split into action and status."""
    translated = dict(filters)
    for name, column in _TRANSLATED.items():
        value = translated.pop(name, None)
        if not value:
            continue
        others = translated.get(column)
        translated[column] = [*_listed(value), *_listed(others)] if others else value
    if "status" not in translated:
        return translated
    actions: set[str] = set()
    statuses: set[str] = set()
    for text in map(str, _listed(translated["status"])):
        for status in _STATUSES:
            at = text.rfind(status)
            if at != -1:
                statuses.add(text[at:])
                if at > 1:
                    actions.add(text[: at - 1])
                break
    translated["status"] = sorted(statuses)
    if actions:
        translated["action"] = sorted(actions | set(_listed(translated.get("action", []))))
    return translated


def exact(kind: type[records.Record], filters: Mapping[str, Any], aliases: Mapping[str, str] | None = None) -> Where:
    """A condition that holds where every column has its value, or one of its values.

    :raises Invalid: no such column
    """
    parts: list[str] = []
    parameters: list[Any] = []
    columns = kind.columns()
    for name, value in filters.items():
        column = (aliases or {}).get(name, name)
        if column not in columns:
            raise heat.Invalid(reason=f"there is no filter {name}")
        values = [kind.encode(column, item) if column in kind.bool_columns else item for item in _listed(value)]
        if any(not isinstance(item, (str, int, float, type(None))) for item in values):
            raise heat.Invalid(reason=f"filter {name} takes plain values")
        absent = " OR " + f'"{column}" IS NULL' if None in values else ""
        values = [item for item in values if item is not None]
        parts.append(f'("{column}" IN ({", ".join("?" * len(values))}){absent})')
        parameters += values
    return " AND ".join(parts) or "1", tuple(parameters)


def page(
    session: Session,
    kind: type[R],
    where: str,
    parameters: Sequence[Any],
    *,
    limit: Any = None,
    marker: str | None = None,
    marker_column: str,
    sort_keys: Any = None,
    sort_dir: str | None = None,
    sort_columns: Mapping[str, str] | None = None,
) -> list[R]:
    """One page of records: sorted, after the marker, at most ``limit``.

    Newest first unless told otherwise; the key decides where nothing else does, so pages never overlap. An unknown
    marker is no marker, as upstream.

    :raises ValueError: ``sort_dir`` or ``limit`` is none
    """
    keys = [sort_keys] if isinstance(sort_keys, str) else list(sort_keys or [])
    columns = [(sort_columns or {})[key] for key in keys if key in (sort_columns or {})]
    if not columns:
        columns, sort_dir = ["created_at"], sort_dir or "desc"
    if sort_dir not in (None, "asc", "desc"):
        raise ValueError(
            "Unknown sort direction, must be one of: asc-nullsfirst, asc-nullslast, desc-nullsfirst, desc-nullslast"
        )
    columns.append(kind.key)
    values = list(parameters)
    after = next(iter(session.select(kind, f"{marker_column} = ?", marker)), None) if marker else None
    if after is not None:
        condition, more = _beyond(kind, after, columns, "<" if sort_dir == "desc" else ">")
        where, values = f"({where}) AND ({condition})", values + more
    tail = "ORDER BY " + ", ".join(f'"{column}" {sort_dir or "asc"}' for column in columns)
    if limit is not None:
        tail += f" LIMIT {int(limit)}"
    return session.select(kind, where, *values, tail=tail)


def _beyond(kind: type[R], marker: R, columns: list[str], sign: str) -> tuple[str, list[Any]]:
    """Condition for what follows the marker; a column in which the marker has nothing is passed over."""
    known = [
        (column, kind.encode(column, getattr(marker, column)))
        for column in columns
        if getattr(marker, column) is not None
    ]
    alternatives, values = [], []
    for index, (column, value) in enumerate(known):
        equal = [f'"{before}" = ?' for before, _value in known[:index]]
        alternatives.append("(" + " AND ".join([*equal, f'"{column}" {sign} ?']) + ")")
        values += [before for _column, before in known[:index]] + [value]
    return " OR ".join(alternatives), values


_HAS_TAG = "EXISTS (SELECT 1 FROM json_each(stacks.tags) WHERE value IN ({marks}))"


def _tagged(tags: Any, every: bool) -> Where:
    """Condition for stacks with one of the tags, or with every one."""
    given = [str(tag) for tag in _listed(tags)]
    if every:
        return " AND ".join([_HAS_TAG.format(marks="?")] * len(given)), tuple(given)
    return _HAS_TAG.format(marks=", ".join("?" * len(given))), tuple(given)


def stacks_where(
    caller: Caller,
    filters: Mapping[str, Any] | None = None,
    tenant_safe: bool = True,
    show_deleted: bool = False,
    show_nested: bool = False,
    tags: Any = None,
    tags_any: Any = None,
    not_tags: Any = None,
    not_tags_any: Any = None,
) -> Where:
    """Condition for the stacks that a list shows.

    :param tenant_safe: False: of all projects; an administrator sees those anyway
    """
    parts: list[str] = []
    parameters: list[Any] = []

    def add(condition: Where, negated: bool = False) -> None:
        parts.append(f"NOT ({condition[0]})" if negated else f"({condition[0]})")
        parameters.extend(condition[1])

    if not (show_deleted or caller.show_deleted):
        parts.append("deleted_at IS NULL")
    if not show_nested:
        parts.append("owner_id IS NULL")
    if tenant_safe and not caller.is_admin:
        add(("tenant = ?", (caller.project_id,)))
    if tags:
        add(_tagged(tags, every=True))
    if tags_any:
        add(_tagged(tags_any, every=False))
    if not_tags:
        add(_tagged(not_tags, every=True), negated=True)
    if not_tags_any:
        add(_tagged(not_tags_any, every=False), negated=True)
    if filters:
        add(exact(records.Stack, filters))
    return " AND ".join(parts) or "1", tuple(parameters)


def list_stacks(
    session: Session,
    condition: Where,
    *,
    limit: Any = None,
    marker: str | None = None,
    sort_keys: Any = None,
    sort_dir: str | None = None,
) -> list[records.Stack]:
    """One page of stacks."""
    return page(
        session,
        records.Stack,
        *condition,
        limit=limit,
        marker=marker,
        marker_column="id",
        sort_keys=sort_keys,
        sort_dir=sort_dir,
        sort_columns=_STACK_SORT,
    )


def list_events(
    session: Session,
    condition: Where,
    filters: Mapping[str, Any] | None,
    *,
    limit: Any = None,
    marker: str | None = None,
    sort_keys: Any = None,
    sort_dir: str | None = None,
) -> list[records.Event]:
    """One page of events for which ``condition`` and ``filters`` hold."""
    where, parameters = exact(records.Event, filters or {})
    return page(
        session,
        records.Event,
        f"({condition[0]}) AND ({where})",
        (*condition[1], *parameters),
        limit=limit,
        marker=marker,
        marker_column="uuid",
        sort_keys=sort_keys,
        sort_dir=sort_dir,
        sort_columns=_EVENT_SORT,
    )


def resources_where(filters: Mapping[str, Any] | None) -> Where:
    """Condition for the resources that a list shows, apart from their stack and type."""
    return exact(records.Resource, filters or {}, _RESOURCE_COLUMNS)

"""The RPC methods about resources and events; names and arguments as in rpc/methods.py.

Comes in: a caller and the arguments of a call. Goes out: answers as views.py formats them. Raises: upstream's errors.
Runs on threads of requests.
"""

from collections.abc import Mapping
from typing import Any

from heatperf.engine import queries, records, resource_views, views
from heatperf.engine.caller import Caller
from heatperf.engine.core import Core
from heatperf.engine.definition import Definition, blank
from heatperf.engine.environment import HOOKS
from heatperf.engine.records import COMPLETE, FAILED
from heatperf.engine.resources.base import Resource
from heatperf.errors import heat

Identity = Mapping[str, Any]
Answer = dict[str, Any]

#: States in which a resource's reference is worth a comparison.
_REFERABLE = frozenset(
    {
        ("INIT", "COMPLETE"),
        ("CREATE", "IN_PROGRESS"),
        ("CREATE", "COMPLETE"),
        ("RESUME", "IN_PROGRESS"),
        ("RESUME", "COMPLETE"),
        ("UPDATE", "IN_PROGRESS"),
        ("UPDATE", "COMPLETE"),
        ("CHECK", "COMPLETE"),
    }
)


class ResourceCalls:
    """Lists, shows and signals resources; lists events."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def _kind(self, stack: records.Stack, record: records.Resource, definition: Definition) -> Resource:
        """The resource ready to be asked, also where only its row exists yet."""
        if record.definition or not definition.has(record.name):
            return self._core.journal.kind(stack, record)
        return definition.planned(record.name).kind(record, self._core.journal.host(stack))

    def _full(self, stack: records.Stack, record: records.Resource, definition: Definition, **how: Any) -> Answer:
        kind = self._kind(stack, record, definition)
        return resource_views.full(stack, record, definition, kind, **how)

    def list_stack_resources(
        self,
        caller: Caller,
        stack_identity: Identity,
        nested_depth: int = 0,
        with_detail: bool = False,
        filters: Mapping[str, Any] | None = None,
    ) -> list[Answer]:
        stack = self._core.load_stack(caller, stack_identity, show_deleted=True)
        translated = queries.translate_filters(filters or {})
        type_name = translated.pop("type", None)
        found = self._core.resources(stack, queries.resources_where(translated))
        definition = self._core.present(stack)
        return [
            self._full(stack, record, definition, detail=with_detail)
            for record in found.values()
            if type_name is None or _mentions(record.type, type_name)
        ]

    def describe_stack_resource(
        self, caller: Caller, stack_identity: Identity, resource_name: str, with_attr: Any = None
    ) -> Answer:
        stack = self._core.load_stack(caller, stack_identity)
        definition = self._core.present(stack)
        if self._core.settings.heat_stack_user_role in caller.roles:
            raise heat.Forbidden()
        record = self._find(stack, definition, self._core.resources(stack), resource_name)
        return self._full(stack, record, definition, with_attributes=with_attr)

    def describe_stack_resources(
        self, caller: Caller, stack_identity: Identity, resource_name: str | None
    ) -> list[Answer]:
        stack = self._core.load_stack(caller, stack_identity)
        definition = self._core.present(stack)
        rows = self._core.resources(stack)
        return [
            self._full(stack, self._find(stack, definition, rows, name), definition)
            for name in definition.names()
            if resource_name is None or name == resource_name
        ]

    @staticmethod
    def _find(
        stack: records.Stack, definition: Definition, rows: Mapping[str, records.Resource], name: str
    ) -> records.Resource:
        """A resource by name, also one that only the template knows.

        :param rows: the stack's resources
        :raises ResourceNotFound: nobody knows it
        """
        record = rows.get(name)
        if record is None and definition.has(name):
            return blank(stack.id, name, definition.planned(name).type)
        if record is None:
            raise heat.ResourceNotFound(resource_name=name, stack_name=stack.name)
        return record

    def find_physical_resource(self, caller: Caller, physical_resource_id: str) -> Answer:
        with self._core.store.reading() as session:
            rows = session.select(records.Resource, "physical_id = ?", physical_resource_id, tail="ORDER BY id")
            stacks = {row.stack_id: self._core.find_stack(session, caller, row.stack_id) for row in rows}
        seen = [(row, stacks[row.stack_id]) for row in rows if stacks[row.stack_id] is not None]
        if not seen:
            raise heat.EntityNotFound(entity="Resource", name=physical_resource_id)
        if len({row.stack_id for row, _stack in seen}) > 1:
            raise heat.PhysicalResourceIDAmbiguity(phys_id=physical_resource_id)
        row, stack = seen[0]
        assert stack is not None  # noqa: S101 - filtered above
        return views.resource_identity(stack, row.name)

    # signals

    def resource_signal(
        self, caller: Caller, stack_identity: Identity, resource_name: str, details: Any, sync_call: bool = False
    ) -> Any:
        stack = self._core.load_stack(caller, stack_identity)
        definition = self._core.present(stack)
        record = self._find(stack, definition, self._core.resources(stack), resource_name)
        if record.id is None:
            raise heat.ResourceNotAvailable(resource_name=resource_name)
        kind = self._kind(stack, record, definition)
        if record.action in ("SUSPEND", "DELETE"):
            self._core.journal.resource_event(
                stack, record, record.action, record.status, f"Cannot signal resource during {record.action}"
            )
            raise heat.NotSupported(feature=f"Signal resource during {record.action}")
        if not isinstance(details, Mapping) or "unset_hook" not in details:
            raise heat.ResourceActionNotSupported(action="signal")
        self._unset_hook(stack, record, kind, details["unset_hook"])
        return record.metadata if sync_call else None

    def _unset_hook(self, stack: records.Stack, record: records.Resource, kind: Resource, hook: Any) -> None:
        if hook not in HOOKS:
            raise heat.InvalidBreakPointHook(message=f'Invalid hook type "{hook}" for {kind.describe()}')
        journal = self._core.journal
        with self._core.store.transaction():
            data = journal.data_of(record)
            if data.get(hook) != "True":
                raise heat.InvalidBreakPointHook(message=f'The "{hook}" hook is not defined on {kind.describe()}')
            del data[hook]
            journal.keep(record, data=data)
            journal.resource_event(stack, record, record.action, record.status, f"Hook {hook} is cleared")

    def resource_mark_unhealthy(
        self,
        caller: Caller,
        stack_identity: Identity,
        resource_name: str,
        mark_unhealthy: Any,
        resource_status_reason: str | None = None,
    ) -> None:
        if not isinstance(mark_unhealthy, bool):
            raise heat.Invalid(reason="mark_unhealthy is not a boolean")
        stack = self._core.load_stack(caller, stack_identity)
        name = self._named(stack, resource_name).name
        reason = resource_status_reason or "state changed by resource_mark_unhealthy api"
        with self._core.operations.held(stack.id) as control:
            record = self._core.resources(stack).get(name)
            if record is None:
                raise heat.ResourceNotFound(resource_name=resource_name, stack_name=stack.name)
            if record.key_id in control.busy:
                raise heat.ActionInProgress(stack_name=stack.name, action=stack.action)
            if mark_unhealthy:
                if record.action != "DELETE":
                    self._core.journal.resource_state(stack, record, "CHECK", FAILED, reason)
            elif record.state == ("CHECK", FAILED):
                self._core.journal.resource_state(stack, record, "CHECK", COMPLETE, reason)

    def _named(self, stack: records.Stack, name: str) -> records.Resource:
        """A resource by name, physical id or reference."""
        rows = self._core.resources(stack)
        if name in rows:
            return rows[name]
        matches = [row for row in rows.values() if row.physical_id == name]
        if len(matches) > 1:
            raise heat.PhysicalResourceIDAmbiguity(phys_id=name)
        if not matches:
            kinds = (
                self._core.journal.kind(stack, row)
                for row in rows.values()
                if row.state in _REFERABLE and row.definition
            )
            matches = [kind.record for kind in kinds if kind.reference() == name]
        if not matches:
            raise heat.ResourceNotFound(resource_name=name, stack_name=stack.name)
        return matches[0]

    # events

    def list_events(
        self,
        caller: Caller,
        stack_identity: Identity | None,
        filters: Mapping[str, Any] | None = None,
        limit: Any = None,
        marker: str | None = None,
        sort_keys: Any = None,
        sort_dir: str | None = None,
        nested_depth: int | None = None,
    ) -> list[Answer]:
        paging = {"limit": limit, "marker": marker, "sort_keys": sort_keys, "sort_dir": sort_dir}
        with self._core.store.reading() as session:
            root = None
            if stack_identity:
                stack = self._core.get_stack(session, caller, stack_identity, show_deleted=True)
                where: queries.Where = ("stack_id = ?", (stack.id,))
                stacks = {stack.id: stack}
                root = stack if nested_depth else None
            else:
                living = "stack_id IN (SELECT id FROM stacks WHERE tenant = ? AND deleted_at IS NULL)"
                where = (living, (caller.project_id,))
                stacks = {}
            events = queries.list_events(session, where, filters, **paging)
            for event in events:
                if event.stack_id not in stacks:
                    found = session.get(records.Stack, event.stack_id)
                    if found is not None:
                        stacks[found.id] = found
        full = bool(filters and "uuid" in filters)
        return [
            views.format_event(event, stacks[event.stack_id], root=root, with_properties=full)
            for event in events
            if event.stack_id in stacks
        ]


def _mentions(type_name: str, wanted: Any) -> bool:
    """Whether a type passes a filter: part of the name, or one of a list of names."""
    if isinstance(wanted, (list, tuple)):
        return type_name in wanted
    return str(wanted) in type_name

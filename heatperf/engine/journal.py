"""The only writer of states: rows of stacks and resources, each change with its event, in one transaction.

Comes in: what changed. Goes out: rows and events. Raises: StoreUnwritable. Called from the scheduler's threads and
from the threads of requests.
"""

import datetime
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from heatperf.engine import records, resources
from heatperf.engine.resources.base import Host, Resource
from heatperf.engine.software import SoftwareConfigs
from heatperf.engine.store import Session, Store

#: Upstream's max_events_per_stack and event_purge_batch_size; the newest are kept.
MAX_EVENTS = 1000
PURGED_AT_ONCE = 200

#: Characters of a reason that an event keeps.
_REASON = 255


class Journal:
    """Writes states and events.

    :param clock: now, UTC without a zone
    """

    def __init__(self, store: Store, configs: SoftwareConfigs, clock: Callable[[], datetime.datetime]) -> None:
        self.store = store
        self.configs = configs
        self.now = clock

    def host(self, stack: records.Stack) -> Host:
        """What resource types may ask of the engine, for one stack."""
        return _Host(self, stack)

    def resource_type(self, record: records.Resource) -> type[Resource]:
        """The type that made the resource, whatever a registry says of the name today."""
        return resources.find(record.definition.get("implementation") or record.type)

    def kind(self, stack: records.Stack, record: records.Resource) -> Resource:
        """The resource, ready to act or to be asked."""
        return self.resource_type(record)(record, self.host(stack))

    def keep(self, record: records.Resource, **columns: Any) -> None:
        """Store columns of a resource and set them in ``record``."""
        with self.store.transaction() as session:
            session.update(records.Resource, record.id, **columns)
        for column, value in columns.items():
            setattr(record, column, value)

    def data_of(self, record: records.Resource) -> dict[str, Any]:
        """The resource's own data as it is stored now; signals change it from other threads."""
        with self.store.reading() as session:
            fresh = session.get(records.Resource, record.id)
        return fresh.data if fresh is not None else {}

    def forget(self, record: records.Resource) -> None:
        """Remove a resource's row."""
        with self.store.transaction() as session:
            session.delete(records.Resource, "id = ?", record.id)

    def resource_state(
        self, stack: records.Stack, record: records.Resource, action: str, status: str, reason: str
    ) -> None:
        """Change a resource's state, store what the record holds by now, and add the event."""
        changed = record.state != (action, status)
        columns: dict[str, Any] = {
            "action": action,
            "status": status,
            "status_reason": reason,
            "physical_id": record.physical_id,
            "properties": record.properties,
            "definition": record.definition,
            "requires": record.requires,
            "template_id": record.template_id,
            "updated_at": record.updated_at,
        }
        if record.action == "INIT":
            # Afterwards metadata belongs to signals; the template's is only where it starts.
            columns["metadata"] = record.metadata
        with self.store.transaction() as session:
            session.update(records.Resource, record.id, **columns)
            if changed:
                self._resource_event(session, stack, record, action, status, reason)
        record.action, record.status, record.status_reason = action, status, reason

    def resource_event(
        self, stack: records.Stack, record: records.Resource, action: str, status: str, reason: str
    ) -> None:
        """Add an event that comes with no change of state."""
        with self.store.transaction() as session:
            self._resource_event(session, stack, record, action, status, reason)

    def _resource_event(
        self, session: Session, stack: records.Stack, record: records.Resource, action: str, status: str, reason: str
    ) -> None:
        physical = record.physical_id
        if physical is None and (record.action != "INIT" or action != "INIT"):
            physical = Resource.physical_name(Resource(record, self.host(stack)))
        self._event(
            session,
            stack,
            resource_name=record.name,
            physical_resource_id=physical,
            resource_action=action,
            resource_status=status,
            resource_status_reason=reason,
            resource_type=record.type,
            resource_properties=record.properties,
        )

    def stack_event(self, session: Session, stack: records.Stack) -> None:
        """Add the event of the state that ``stack`` has."""
        self._event(
            session,
            stack,
            resource_name=stack.name,
            physical_resource_id=stack.id,
            resource_action=stack.action,
            resource_status=stack.status,
            resource_status_reason=stack.status_reason,
            resource_type="OS::Heat::Stack",
        )

    def _event(self, session: Session, stack: records.Stack, *, resource_status_reason: str, **columns: Any) -> None:
        event = session.insert(
            records.Event(
                id=None,
                uuid=str(uuid.uuid4()),
                stack_id=stack.id,
                created_at=self.now(),
                resource_status_reason=(resource_status_reason or "")[:_REASON],
                **columns,
            )
        )
        # Row numbers only grow, so this looks about once per batch; the count may pass the limit by that much.
        if event.id is not None and event.id % (PURGED_AT_ONCE // 4) == 0:
            surplus = session.count(records.Event, "stack_id = ?", stack.id) - MAX_EVENTS
            if surplus > 0:
                oldest = "id IN (SELECT id FROM events WHERE stack_id = ? ORDER BY id LIMIT ?)"
                session.delete(records.Event, oldest, stack.id, max(surplus, PURGED_AT_ONCE))


class _Host:
    """See resources.base.Host."""

    def __init__(self, journal: Journal, stack: records.Stack) -> None:
        self._journal = journal
        self._stack = stack
        self.stack_name = stack.name
        self.stack_id = stack.id

    def keep(self, record: records.Resource, **columns: Any) -> None:
        self._journal.keep(record, **columns)

    def now(self) -> float:
        return time.monotonic()

    def create_config(self, record: records.Resource, values: dict[str, Any]) -> None:
        with self._journal.store.transaction():
            created = self._journal.configs.create(self._stack.tenant, **values)
            self._journal.keep(record, physical_id=created["id"])

    def show_config(self, config_id: str) -> dict[str, Any] | None:
        return self._journal.configs.find(self._stack.tenant, config_id)

    def delete_config(self, config_id: str) -> None:
        self._journal.configs.discard(self._stack.tenant, config_id)


class LiveAttributes:
    """The resources of a stack as they are in the store at this moment; see definition.Living.

    :param rows: name -> row number; may change while an operation replaces resources
    """

    def __init__(self, journal: Journal, stack: records.Stack, rows: Mapping[str, int]) -> None:
        self._journal = journal
        self._stack = stack
        self._rows = rows

    def find(self, name: str) -> Resource | None:
        number = self._rows.get(name)
        if number is None:
            return None
        with self._journal.store.reading() as session:
            record = session.get(records.Resource, number)
        if record is None or record.action == "INIT":
            return None
        return self._journal.kind(self._stack, record)

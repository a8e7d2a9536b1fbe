"""One resource's actions: states, events, and the type's own steps between them.

Comes in: a resource's row, the definition it should meet, and the stack's operation. Goes out: steps for the
scheduler; rows and events in the store, each change of state together with its event in one transaction. Raises, out
of the steps: Failure (the resource is FAILED, the text is the stack's reason), ReplacementNeeded (nothing is wrong, a
new resource must take over), and whatever could not be recorded. Runs on the scheduler's threads.

States, texts and their order are upstream's (openstack-heat 27, heat/engine/resource.py): clients wait for them.
"""

import uuid
from collections.abc import Callable
from typing import Any

from heatperf.engine import records
from heatperf.engine.definition import Definition, Planned, frozen_properties
from heatperf.engine.journal import Journal
from heatperf.engine.records import COMPLETE, FAILED, IN_PROGRESS
from heatperf.engine.resources import frozen_values
from heatperf.engine.resources.base import ReplacementNeeded, Resource, Steps
from heatperf.engine.resources.schema import Properties
from heatperf.engine.scheduler import Cancelled, TimedOut
from heatperf.errors import heat

CHANGED = "state changed"

#: Seconds between two looks for a hook that holds a resource.
_HOOK_POLL = 0.5


class Failure(Exception):
    """A resource's action failed and the resource says so.

    :param action: for the stack's reason
    """

    def __init__(self, record: records.Resource, action: str, error: str, message: str) -> None:
        self.action = action
        prefix = f"{error}: " if error else ""
        super().__init__(f"{prefix}resources.{record.name}: {message}")

    @classmethod
    def of(cls, record: records.Resource, action: str, error: BaseException) -> "Failure":
        """The failure that an exception means."""
        return cls(record, action, type(error).__name__, str(error))


class Work:
    """What can be done with one resource, on behalf of one operation of its stack.

    :param definition: what the stack should become
    :param operation: the stack's action that is running ("CREATE"), which decides on hooks and deletion
    """

    def __init__(
        self, journal: Journal, stack: records.Stack, record: records.Resource, definition: Definition, operation: str
    ) -> None:
        self.journal = journal
        self.stack = stack
        self.record = record
        self.definition = definition
        self.operation = operation

    # create, update, delete

    def create(self, planned: Planned, requires: list[int], template_id: int) -> Steps:
        """Make the resource. :raises Failure: see above"""
        record = self.record
        if planned.external_id is not None:
            yield from self._adopt_external(planned, requires, template_id)
            return
        if self.operation == "CREATE":
            yield from self._hook("CREATE", "pre-create")
        kind = planned.kind(record, self.journal.host(self.stack))
        try:
            properties = planned.properties()
            stored = frozen_properties(kind, properties)
            definition, metadata = planned.frozen(stored), planned.metadata()
        except Exception as error:  # a function may object only now that it gets the values of other resources
            self._set(requires=requires, template_id=template_id)
            failure = Failure.of(record, "CREATE", error)
            self.state_set("CREATE", FAILED, str(failure))
            raise failure from error
        self._set(properties=stored, requires=requires, template_id=template_id, definition=definition)
        record.metadata = metadata

        def steps() -> Steps:
            properties.validate()
            yield from kind.create(properties)

        try:
            yield from self._recorded("CREATE", steps)
        except Failure as failure:
            cause = failure.__cause__
            if isinstance(cause, heat.StackValidationFailed):
                inner = heat.StackValidationFailed(
                    error=cause.error, path=[record.name, *cause.path], message=cause.error_message
                )
                raise Failure.of(record, "CREATE", inner) from cause
            raise
        if self.operation == "CREATE":
            yield from self._hook("CREATE", "post-create")

    def _adopt_external(self, planned: Planned, requires: list[int], template_id: int) -> Steps:
        frozen = planned.frozen({})
        self._set(properties={}, requires=requires, template_id=template_id, definition=frozen)
        self.record.metadata = planned.metadata()

        def steps() -> Steps:
            # What is only referred to has no metadata of ours; upstream's answers show null.
            self.journal.keep(self.record, physical_id=planned.external_id, metadata=None)
            yield from ()

        yield from self._recorded("ADOPT", steps)
        yield from self.check()

    def update(self, planned: Planned, requires: list[int], template_id: int) -> Steps:
        """Bring the resource to a definition.

        :raises Failure: it could not be
        :raises ReplacementNeeded: only a new resource can meet it
        """
        record = self.record
        host = self.journal.host(self.stack)
        kind = planned.kind(record, host)
        restricted = planned.restricted_actions()
        if planned.resource_type is not self.journal.resource_type(record):
            if "replace" in restricted:
                raise self._refused(heat.ResourceActionRestricted(action="replace"))
            raise ReplacementNeeded(record.name)
        if record.replaced_by is not None:
            self._set(replaced_by=None)
        if planned.external_id != record.definition.get("external_id"):
            error = heat.NotSupported(feature=f"Update to property external_id of {record.name} ({record.type})")
            raise Failure.of(record, "UPDATE", error)
        if planned.external_id is not None:
            self._unchanged(template_id)
            return
        yield from self._hook("UPDATE", "pre-update")
        before = frozen_values(kind)
        after = planned.properties()
        try:
            wanted = needs_update(kind, planned, before, after, after_creation=True)
            if restricted and wanted:
                changed_properties(kind, before, after)
        except ReplacementNeeded:
            if "replace" in restricted:
                raise self._refused(heat.ResourceActionRestricted(action="replace")) from None
            raise
        except Exception as error:
            raise self._refused(error) from error
        if wanted and "update" in restricted:
            raise self._refused(heat.ResourceActionRestricted(action="update"))
        if not wanted:
            self._unchanged(template_id)
            return
        record.updated_at = self.journal.now()
        # Until the update is over it may need the old ones and the new ones; none of them may go before that.
        record.requires = sorted({*record.requires, *requires}, reverse=True)
        old_template = record.template_id

        def steps() -> Steps:
            after.validate()
            changed = changed_properties(kind, before, after)
            record.template_id = template_id
            try:
                yield from kind.update(after, changed)
            except ReplacementNeeded:
                record.template_id = old_template
                raise
            stored = frozen_properties(kind, after)
            record.properties, record.requires = stored, requires
            record.definition = planned.frozen(stored)

        yield from self._recorded("UPDATE", steps, expected=ReplacementNeeded)
        yield from self._hook("UPDATE", "post-update")

    def _refused(self, error: Exception) -> Failure:
        """The failure of an update that was not begun: the resource stays as it is."""
        self.journal.resource_event(self.stack, self.record, "UPDATE", FAILED, str(error))
        return Failure.of(self.record, "UPDATE", error)

    def _unchanged(self, template_id: int) -> None:
        """Record that the definition asks for nothing new."""
        record = self.record
        record.template_id = template_id
        if record.status == FAILED:
            self.state_set(
                record.action, COMPLETE, "Update status to COMPLETE for FAILED resource neither update nor replace."
            )
        else:
            self._set(template_id=template_id)

    def delete(self, abandon: bool = False) -> Steps:
        """Unmake the resource; its row stays, as DELETE_COMPLETE, until the operation ends. :raises Failure:"""
        record = self.record
        if record.state == ("DELETE", COMPLETE):
            return
        if record.action == "INIT":
            self.journal.forget(record)
            return
        if self.operation == "DELETE":
            yield from self._hook("DELETE", "pre-delete")
        kind = self.journal.kind(self.stack, record)
        values = frozen_values(kind)
        retain = abandon or record.definition.get("deletion_policy") == "Retain"

        def steps() -> Steps:
            if not retain:
                yield from kind.delete(values)

        yield from self._recorded("DELETE", steps)
        if self.operation == "DELETE":
            yield from self._hook("DELETE", "post-delete")

    # the rest

    def check(self) -> Steps:
        """See that the resource is there. :raises Failure: it is not"""
        record = self.record
        kind = self.journal.kind(self.stack, record)
        if not kind.supports_check:
            if record.state != ("INIT", COMPLETE):
                self.state_set("CHECK", COMPLETE, f"CHECK not supported for {record.type}")
            return
        if record.state == ("INIT", COMPLETE):
            self.state_set("CHECK", FAILED, f"Can not check {record.name}, resource not created yet.")
            raise Failure(record, "CHECK", "Exception", f"Resource {record.name} not created yet.")
        values = frozen_values(kind)
        yield from self._recorded("CHECK", lambda: kind.check(values))

    def suspend(self) -> Steps:
        """Suspend the resource. :raises Failure: its state does not allow it"""
        # Upstream lets one pass that was never created, and takes it for an existing one ever after.
        if self.record.action in ("INIT", "DELETE") or (
            self.record.action != "SUSPEND" and self.record.status != COMPLETE
        ):
            raise self._wrong_state("suspend")
        yield from self._recorded("SUSPEND", _nothing)

    def resume(self) -> Steps:
        """Resume the resource. :raises Failure: its state does not allow it"""
        if self.record.state not in (("SUSPEND", COMPLETE), ("RESUME", FAILED), ("RESUME", COMPLETE)):
            raise self._wrong_state("resume")
        yield from self._recorded("RESUME", _nothing)

    def snapshot(self) -> Steps:
        """Record that the resource's data went into a snapshot; one that is not there, or failed, stays as it is.

        Upstream makes it SNAPSHOT_COMPLETE, so that the next update takes it for whole.
        """
        if self.record.action != "INIT" and self.record.status != FAILED:
            yield from self._recorded("SNAPSHOT", _nothing)

    def _wrong_state(self, verb: str) -> Failure:
        state = (str(self.record.action), str(self.record.status))
        return Failure.of(self.record, verb.upper(), heat.Error(f"State {state} invalid for {verb}"))

    # recording

    def _set(self, **columns: Any) -> None:
        self.journal.keep(self.record, **columns)

    def state_set(self, action: str, status: str, reason: str = CHANGED) -> None:
        """Change the resource's state and add the event, in one step."""
        self.journal.resource_state(self.stack, self.record, action, status, reason)

    def _recorded(
        self, action: str, steps: Callable[[], Steps], expected: type[Exception] | tuple[type[Exception], ...] = ()
    ) -> Steps:
        """Run steps between IN_PROGRESS and the state that their outcome means."""
        about = f"Task {action.lower()} from {self.journal.kind(self.stack, self.record).describe()} Timed out"
        self.state_set(action, IN_PROGRESS)
        try:
            yield from steps()
        except expected as error:
            self.state_set(action, COMPLETE, str(error))
            raise
        except Exception as error:
            failure = Failure.of(self.record, action, error)
            self.state_set(action, FAILED, str(failure))
            raise failure from error
        except (Cancelled, TimedOut) as error:
            text = about if isinstance(error, TimedOut) else str(error)
            self.state_set(action, FAILED, f"{action} aborted ({text})")
            raise
        self.state_set(action, COMPLETE)

    def _hook(self, action: str, hook: str) -> Steps:
        """Hold the resource until its user clears the hook, where the environment sets one."""
        record = self.record
        if not self.definition.has_hook(record.name, hook):
            return
        self._set(data={**record.data, hook: "True"})
        self.journal.resource_event(
            self.stack, record, record.action, record.status, f"{action} paused until Hook {hook} is cleared"
        )
        try:
            while self.journal.data_of(record).get(hook) == "True":
                yield _HOOK_POLL
        except (Exception, Cancelled, TimedOut) as error:
            self._clear_hook(hook)
            self.journal.resource_event(
                self.stack, record, record.action, record.status, "Failure occurred while waiting."
            )
            if not isinstance(error, Exception):
                raise
        record.data = self.journal.data_of(record)

    def _clear_hook(self, hook: str) -> None:
        data = self.journal.data_of(self.record)
        data.pop(hook, None)
        self._set(data=data)


def _nothing() -> Steps:
    yield from ()


def needs_update(
    kind: Resource, planned: Planned, before: Properties, after: Properties, *, after_creation: bool
) -> bool:
    """Whether anything of the definition changed.

    :param after_creation: a resource that was never created counts as one that must be replaced
    :raises ReplacementNeeded: the resource is in no state to be updated
    """
    record = kind.record
    if kind.never_updates():
        return False
    unusable = record.status == FAILED or record.state == ("DELETE", COMPLETE)
    if unusable or (after_creation and record.state == ("INIT", COMPLETE)):
        raise ReplacementNeeded(kind.describe())
    if record.definition != planned.frozen(frozen_properties(kind, after)):
        return True
    try:
        return dict(before) != dict(after)
    except ValueError:
        return True


def changed_properties(kind: Resource, before: Properties, after: Properties) -> dict[str, Any]:
    """New values of the properties that differ.

    :raises ReplacementNeeded: one of them cannot be changed in place
    """

    def same(key: str) -> bool:
        try:
            return bool(before[key] == after[key])
        except (TypeError, ValueError):
            return False

    changed = {key for key in after if not same(key)}
    if changed and kind.replaced_by_change(changed, after):
        raise ReplacementNeeded(kind.describe())
    if any(not after.schema[key].update_allowed for key in changed):
        raise ReplacementNeeded(kind.record.name)
    return {key: after[key] for key in changed}


def new_row(
    stack: records.Stack, name: str, type_name: str, *, at: Any, template_id: int, **columns: Any
) -> records.Resource:
    """A resource that nothing was done for yet."""
    return records.Resource(
        id=None,
        uuid=str(uuid.uuid4()),
        name=name,
        stack_id=stack.id,
        type=type_name,
        action="INIT",
        status=COMPLETE,
        created_at=at,
        template_id=template_id,
        **columns,
    )

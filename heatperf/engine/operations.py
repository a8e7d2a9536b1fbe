"""Operations on stacks: create, update, delete and the rest, in graph order and in parallel.

Comes in: a stack, an action, the definition it should meet. Goes out: rows and events (journal.py, work.py). Raises,
to the caller: what the start of an operation raises; later errors become the stack's state. Runs on threads of
requests (starting, cancelling) and on the scheduler's (everything after).

An operation is a graph of nodes. A resource has up to two: one brings it to the definition (in the order of
dependencies), one removes it where the definition does without it (in reverse order, and after everything that used
it was brought up to date). A replacement is a second resource of the same name that takes the first node over, so the
old one goes only when nobody uses it any more. When an operation fails, what is running runs on, but nothing follows;
the next operation on the stack waits for each resource that is still busy. All this is what upstream's convergence
engine does; the sequence of events is the same.
"""

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from heatperf.engine import records
from heatperf.engine.definition import Definition
from heatperf.engine.journal import Journal, LiveAttributes
from heatperf.engine.records import COMPLETE, FAILED, IN_PROGRESS
from heatperf.engine.resources.base import ReplacementNeeded, Steps
from heatperf.engine.rows import best_rows, fail_snapshots, living, snapshot_data, store_template
from heatperf.engine.scheduler import Cancelled, Scheduler, Task, TimedOut
from heatperf.engine.store import Session, StoreUnwritable
from heatperf.engine.work import Failure, Work, new_row
from heatperf.errors import heat

LOG = logging.getLogger(__name__)

#: Seconds an operation may take where the stack says nothing; upstream's stack_action_timeout.
DEFAULT_TIMEOUT = 3600

#: Operations that leave the definition alone: they visit every resource once.
_VISITS = {"CHECK": True, "RESUME": True, "SNAPSHOT": True, "SUSPEND": False}
#: Operations whose failure is followed by a rollback, unless the stack forbids it.
_ROLLED_BACK = ("CREATE", "ADOPT", "UPDATE", "RESTORE")

#: Seconds between two tries to record an end that the disk had no room for.
_RETRY = 1.0

#: A resource's row number, and whether it is brought to the definition (True) or removed (False).
Node = tuple[int, bool]


@dataclass
class Operation:
    """One running operation.

    :param rows: name -> row number of the resource that stands for it by now
    :param waits: node -> nodes it still waits for
    """

    id: str
    stack: records.Stack
    definition: Definition
    deadline: float
    rows: dict[str, int]
    waits: dict[Node, set[Node]] = field(default_factory=dict)
    users: dict[Node, list[Node]] = field(default_factory=dict)
    left: set[Node] = field(default_factory=set)
    #: replacement -> the row whose place in the graph it took
    stands_for: dict[int, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    #: nodes that a failed check keeps from being visited
    skipped: set[Node] = field(default_factory=set)
    abandon: bool = False
    snapshot_id: str | None = None
    watch: Task | None = None


class Control:
    """What is known of one stack in this process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.operation: Operation | None = None
        self.busy: dict[int, Task] = {}
        self.queued: dict[int, list[tuple[Operation, Node]]] = {}


class Operations:
    """Starts, cancels and carries out operations."""

    def __init__(
        self, journal: Journal, scheduler: Scheduler, load: Callable[[records.Stack, int | None], Definition]
    ) -> None:
        """:param load: gives the definition of a stack by template number, None: an empty one"""
        self.journal = journal
        self.store = journal.store
        self.scheduler = scheduler
        self._load = load
        self._controls: dict[str, Control] = {}
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def held(self, stack_id: str) -> Iterator[Control]:
        """The stack's control, locked: no operation starts, ends or moves on meanwhile."""
        while True:
            with self._guard:
                control = self._controls.setdefault(stack_id, Control())
            with control.lock:
                # Between the two lines above, whoever held it may have put it away for good.
                if self._controls.get(stack_id) is not control:
                    continue
                try:
                    yield control
                finally:
                    self._tidy(stack_id, control)
                return

    # starting

    def start(
        self,
        stack_id: str,
        action: str,
        definition: Definition,
        *,
        prepare: Callable[[Session], None] | None = None,
        traversal: str | None = None,
        abandon: bool = False,
        **columns: Any,
    ) -> records.Stack:
        """Begin an operation. When this returns, it is stored and has its first event.

        :param definition: what the stack should become
        :param prepare: stores, in the same transaction, what the operation needs (a new stack, a new template), or
            refuses by raising what the stack's present state does not allow
        :param columns: columns of the stack that the operation changes
        """
        with self.held(stack_id) as control:
            with self.store.transaction() as session:
                fail_snapshots(session, stack_id, f"Stack {action} started")
                if prepare is not None:
                    prepare(session)
                stack = living(session, stack_id)
                if action != "CREATE":
                    columns["updated_at"] = self.journal.now()
                if action not in _VISITS:
                    if definition.template_id is None:
                        definition.template_id = store_template(session, stack_id, definition)
                    columns["previous_template_id"] = None if action == "CREATE" else stack.template_id
                    columns["template_id"] = definition.template_id
                columns |= {
                    "action": action,
                    "status": IN_PROGRESS,
                    "status_reason": f"Stack {action} started",
                    "traversal": traversal or str(uuid.uuid4()),
                }
                session.update(records.Stack, stack_id, **columns)
                stack = living(session, stack_id)
                self.journal.stack_event(session, stack)
                operation = self._plan(session, stack, definition, abandon)
            if control.operation is not None:
                self._end_watch(control.operation)
            control.operation = operation
            if action == "DELETE":
                self._cancel_work(control)
            self._go(control, operation)
        return stack

    def _plan(self, session: Session, stack: records.Stack, definition: Definition, abandon: bool) -> Operation:
        """Choose or make a row for each resource of the definition, and build the graph."""
        existing = {row.key_id: row for row in session.select(records.Resource, "stack_id = ?", stack.id)}
        rows: dict[str, int] = {}
        named = best_rows(existing.values(), stack)
        for name in definition.names_reversed():
            best = named.get(name)
            if best is None:
                best = session.insert(
                    new_row(
                        stack,
                        name,
                        definition.planned(name).type,
                        at=self.journal.now(),
                        template_id=stack.template_id,
                    )
                )
            rows[name] = best.key_id
        seconds = DEFAULT_TIMEOUT if stack.timeout is None else stack.timeout * 60
        operation = Operation(
            id=stack.traversal,
            stack=stack,
            definition=definition,
            deadline=time.monotonic() + seconds,
            rows=rows,
            abandon=abandon,
            snapshot_id=stack.traversal if stack.action == "SNAPSHOT" else None,
        )
        definition.attach(LiveAttributes(self.journal, stack, rows))
        self._connect(operation, existing)
        return operation

    @staticmethod
    def _connect(operation: Operation, existing: dict[int, records.Resource]) -> None:
        def add(node: Node, needs: Node | None = None) -> None:
            operation.waits.setdefault(node, set())
            if needs is not None:
                operation.waits.setdefault(needs, set())
                operation.waits[node].add(needs)

        for name, wanted in operation.rows.items():
            add((wanted, True))
            for other in operation.definition.requires(name):
                add((wanted, True), (operation.rows[other], True))
        for number, row in existing.items():
            add((number, False))
            for required in row.requires:
                if required in existing:
                    add((required, False), (number, False))
            if row.replaces in existing:
                add((row.replaces, False), (number, False))
            if (number, True) in operation.waits:
                add((number, False), (number, True))
        for node, waited_for in operation.waits.items():
            for one in waited_for:
                operation.users.setdefault(one, []).append(node)
        operation.left = set(operation.waits)

    def _go(self, control: Control, operation: Operation) -> None:
        """Start what waits for nothing."""
        if not operation.left:
            self._complete(control, operation)
            return
        operation.watch = self.scheduler.start(
            self._watch(control, operation), _log_trouble, delay=_until(operation.deadline)
        )
        ready = [node for node, needs in operation.waits.items() if not needs]
        for node in sorted(ready, key=lambda node: node[1]):
            self._begin(control, operation, node)

    def _watch(self, control: Control, operation: Operation) -> Steps:
        """Fail the operation when its time is over; nodes that wait for a busy resource have no clock of their own."""
        with control.lock:
            if control.operation is operation:
                self._fail(control, operation, "Timed out")
        yield from ()

    def _end_watch(self, operation: Operation) -> None:
        if operation.watch is not None:
            self.scheduler.cancel(operation.watch, Cancelled())

    # nodes

    def _begin(self, control: Control, operation: Operation, node: Node) -> None:
        """Work on a node now, or when its resource is free."""
        number = node[0]
        if number in control.busy:
            control.queued.setdefault(number, []).append((operation, node))
            return
        if control.operation is not operation:
            return
        # The end of the steps needs the lock that this thread holds, so it cannot come before this entry.
        control.busy[number] = self.scheduler.start(
            self._steps(operation, node),
            lambda outcome: self._ended(control, operation, node, outcome),
            _until(operation.deadline),
        )

    def _steps(self, operation: Operation, node: Node) -> Steps:
        """Everything that a node means for its resource."""
        number, bring = node
        with self.store.reading() as session:
            record = session.get(records.Resource, number)
        if record is None or node in operation.skipped:
            return
        stack, action, definition = operation.stack, operation.stack.action, operation.definition
        work = Work(self.journal, stack, record, definition, action)
        if action in _VISITS:
            # What an operation that failed left behind has a place in no definition: only deletions go there.
            if bring == _VISITS[action] and (number, True) in operation.waits:
                yield from {
                    "CHECK": work.check,
                    "RESUME": work.resume,
                    "SNAPSHOT": work.snapshot,
                    "SUSPEND": work.suspend,
                }[action]()
            return
        assert definition.template_id is not None  # noqa: S101 - only a stored definition gets this far
        if not bring:
            if record.template_id != definition.template_id:
                yield from work.delete(operation.abandon)
                self._detach_replacement(record, definition.template_id)
            return
        planned = definition.planned(record.name)
        requires = sorted({operation.rows[name] for name in definition.requires(record.name)}, reverse=True)
        if record.action == "INIT":
            yield from work.create(planned, requires, definition.template_id)
        else:
            yield from work.update(planned, requires, definition.template_id)

    def _detach_replacement(self, record: records.Resource, template_id: int) -> None:
        """The resource is gone: what replaced it replaces nothing any more."""
        if record.replaced_by is not None:
            with self.store.transaction() as session:
                session.update(records.Resource, record.replaced_by, "template_id = ?", (template_id,), replaces=None)

    def _ended(self, control: Control, operation: Operation, node: Node, outcome: BaseException | None) -> None:
        """A node's steps are over: free the resource, and move on or fail."""
        with control.lock:
            control.busy.pop(node[0], None)
            try:
                if control.operation is operation:
                    self._conclude_safely(control, operation, node, outcome)
                elif outcome is not None and not isinstance(outcome, (Failure, ReplacementNeeded, Cancelled, TimedOut)):
                    _log_trouble(outcome)
            finally:
                for waiting in control.queued.pop(node[0], []):
                    self._begin(control, *waiting)
                self._tidy(operation.stack.id, control)

    def _conclude_safely(
        self, control: Control, operation: Operation, node: Node, outcome: BaseException | None
    ) -> None:
        """Whatever goes wrong here must not leave the stack in progress for ever."""
        try:
            self._conclude(control, operation, node, outcome)
        except Exception as error:
            LOG.exception("%s of stack %s cannot go on", operation.stack.action, operation.stack.id)
            if control.operation is operation:
                self._fail(control, operation, f"{type(error).__name__}: {error}")

    def _conclude(self, control: Control, operation: Operation, node: Node, outcome: BaseException | None) -> None:
        if isinstance(outcome, ReplacementNeeded):
            self._replace(control, operation, node)
            return
        if isinstance(outcome, Cancelled):
            return
        if outcome is not None:
            reason = _reason(outcome)
            if operation.stack.action != "CHECK":
                self._fail(control, operation, reason)
                return
            name = next((name for name, number in operation.rows.items() if number == node[0]), str(node[0]))
            operation.failures[name] = reason
            self._skip_users(operation, node)
        self._advance(control, operation, node)

    @staticmethod
    def _skip_users(operation: Operation, node: Node) -> None:
        waiting = list(operation.users.get(node, []))
        while waiting:
            user = waiting.pop()
            if user not in operation.skipped:
                operation.skipped.add(user)
                waiting += operation.users.get(user, [])

    def _advance(self, control: Control, operation: Operation, node: Node) -> None:
        """Strike the node off, and begin what waited for it alone."""
        place = node
        if place not in operation.waits:
            place = (operation.stands_for[node[0]], node[1])
        operation.left.discard(place)
        for user in operation.users.get(place, []):
            operation.waits[user].discard(place)
            if not operation.waits[user]:
                self._begin(control, operation, user)
        if not operation.left:
            self._complete(control, operation)

    def _replace(self, control: Control, operation: Operation, node: Node) -> None:
        """Let a new resource take the node over."""
        try:
            with self.store.transaction() as session:
                old = session.get(records.Resource, node[0])
                assert old is not None  # noqa: S101 - its node just ran
                new = session.insert(
                    new_row(
                        operation.stack,
                        old.name,
                        operation.definition.planned(old.name).type,
                        at=self.journal.now(),
                        template_id=operation.definition.template_id or 0,
                        replaces=old.id,
                    )
                )
                session.update(records.Resource, old.id, replaced_by=new.id)
        except StoreUnwritable as error:
            self._fail(control, operation, str(error))
            return
        operation.stands_for[new.key_id] = operation.stands_for.get(node[0], node[0])
        operation.rows[new.name] = new.key_id
        self._begin(control, operation, (new.key_id, True))

    # ending

    def _complete(self, control: Control, operation: Operation) -> None:
        if operation.failures:
            told = "; ".join(f"{name}: {reason}" for name, reason in operation.failures.items())
            self._fail(control, operation, f"Resource CHECK failed: {told}")
            return
        reason = f"Stack {operation.stack.action} completed successfully"
        self._finish(control, operation, COMPLETE, reason)

    def _fail(self, control: Control, operation: Operation, reason: str) -> None:
        self._finish(control, operation, FAILED, reason)

    def _undo(self, operation: Operation) -> None:
        """Start the rollback of an operation that failed, where there is to be one."""
        stack = operation.stack
        if not stack.disable_rollback and stack.action in _ROLLED_BACK:
            try:
                self.rollback(stack.id)
            except heat.HeatError:
                LOG.exception("The rollback of stack %s could not start", stack.id)

    def _finish(self, control: Control, operation: Operation, status: str, reason: str) -> None:
        """Record the operation's end, and do what follows from it. Where the disk has no room for it, go on trying."""
        if operation.stack.action == "CHECK" and not operation.definition.supports_check():
            reason += ". 'CHECK' not fully supported (see resources)"
        control.operation = None
        self._end_watch(operation)
        try:
            self._record_end(control, operation, status, reason)
        except StoreUnwritable:
            LOG.warning("The end of %s of stack %s is not stored yet", operation.stack.action, operation.stack.id)
            self.scheduler.start(self._finish_later(control, operation, status, reason), _log_trouble, delay=_RETRY)

    def _finish_later(self, control: Control, operation: Operation, status: str, reason: str) -> Steps:
        while True:
            with control.lock:
                if control.operation is not None:
                    return
                with contextlib.suppress(StoreUnwritable):
                    self._record_end(control, operation, status, reason)
                    return
            yield _RETRY

    def _record_end(self, control: Control, operation: Operation, status: str, reason: str) -> None:
        stack = operation.stack
        with self.store.transaction() as session:
            columns: dict[str, Any] = {"status": status, "status_reason": reason}
            if status == COMPLETE:
                columns["previous_template_id"] = None
            else:
                columns["traversal"] = ""
            changed = session.update(
                records.Stack, stack.id, "traversal = ? AND deleted_at IS NULL", (operation.id,), **columns
            )
            if not changed:
                return
            stack.status, stack.status_reason = status, reason
            self.journal.stack_event(session, stack)
            session.delete(records.Resource, "stack_id = ? AND action = 'DELETE' AND status = ?", stack.id, COMPLETE)
            if status == FAILED:
                self._settle_orphans(session, control, stack)
            if operation.snapshot_id is not None:
                self._keep_snapshot(session, operation, status, reason)
            if (stack.action, status) == ("DELETE", COMPLETE):
                session.delete(records.Snapshot, "stack_id = ?", stack.id)
                session.delete(records.Resource, "stack_id = ?", stack.id)
                session.update(records.Stack, stack.id, deleted_at=self.journal.now())
            # Also after a failure, or a stack that is updated in vain again and again would fill the disk.
            session.delete(
                records.Template,
                "stack_id = ? AND id != (SELECT template_id FROM stacks WHERE id = ?)"
                " AND id IS NOT (SELECT previous_template_id FROM stacks WHERE id = ?)",
                stack.id,
                stack.id,
                stack.id,
            )
        if status == FAILED:
            self._undo(operation)

    def _settle_orphans(self, session: Session, control: Control, stack: records.Stack) -> None:
        """Fail resources that say they are in progress while nothing works on them: their end could not be stored."""
        for row in session.select(records.Resource, "stack_id = ? AND status = ?", stack.id, IN_PROGRESS):
            if row.key_id not in control.busy:
                self.journal.resource_state(
                    stack, row, row.action, FAILED, f"Worker went down during resource {row.action}"
                )

    def _keep_snapshot(self, session: Session, operation: Operation, status: str, reason: str) -> None:
        data = snapshot_data(session, operation.stack)
        session.update(
            records.Snapshot,
            operation.snapshot_id,
            status=status,
            status_reason=reason,
            data={**data, "status": status},
        )

    # cancelling

    def rollback(self, stack_id: str) -> None:
        """Go back to what the stack was before its last operation; to nothing, where that created it."""
        with self.held(stack_id):
            with self.store.reading() as session:
                stack = living(session, stack_id)
            definition = self._load(stack, stack.previous_template_id)
            self.start(stack_id, "ROLLBACK", definition)

    def stop(self, stack_id: str) -> None:
        """End the running operation as FAILED; what its resources do runs on."""
        with self.held(stack_id) as control:
            operation = control.operation
            with self.store.transaction() as session:
                stack = living(session, stack_id)
                if stack.status != IN_PROGRESS:
                    return
                stack.status, stack.status_reason = FAILED, f"Stack {stack.action} cancelled"
                session.update(records.Stack, stack_id, status=FAILED, status_reason=stack.status_reason, traversal="")
                fail_snapshots(session, stack_id, stack.status_reason)
                self.journal.stack_event(session, stack)
            if operation is not None:
                self._end_watch(operation)
            control.operation = None

    def _cancel_work(self, control: Control) -> None:
        for task in control.busy.values():
            self.scheduler.cancel(task, Cancelled())

    def _tidy(self, stack_id: str, control: Control) -> None:
        """Forget a stack for which nothing runs."""
        if control.operation is None and not control.busy and not control.queued:
            with self._guard:
                if self._controls.get(stack_id) is control:
                    del self._controls[stack_id]


def _log_trouble(outcome: BaseException | None) -> None:
    """Log what ended a task and is nobody's state; a failing disk needs no traceback."""
    if isinstance(outcome, StoreUnwritable):
        LOG.error("A task of the engine failed: %s", outcome)
    elif outcome is not None and not isinstance(outcome, Cancelled):
        LOG.error("A task of the engine failed", exc_info=outcome)


def _reason(outcome: BaseException) -> str:
    if isinstance(outcome, Failure):
        return f"Resource {outcome.action} failed: {outcome}"
    if isinstance(outcome, TimedOut):
        return "Timed out"
    if not isinstance(outcome, heat.HeatError):
        LOG.error("An action failed in a way that is no resource's", exc_info=outcome)
    return str(outcome)


def _until(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())

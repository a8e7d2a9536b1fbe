"""The start after an end: what was under way when the last engine went down is settled before anyone asks.

Comes in: the journal of an opened store. Goes out: rows without a trace of anything in progress, with the events that
say so. Raises: StoreUnwritable. Runs once, before the first call.

As upstream's non-convergence engine does at its start: resources and stacks in progress become FAILED, and the user
decides what comes next (an update, a deletion). Nothing is begun anew here, since what a resource did last is unknown.
"""

from heatperf.engine import records
from heatperf.engine.journal import Journal
from heatperf.engine.records import COMPLETE, FAILED, IN_PROGRESS
from heatperf.engine.rows import fail_snapshots
from heatperf.engine.store import Session


def settle(journal: Journal) -> int:
    """Settle everything that is in progress; one transaction per stack, so that dying here does no harm either.

    :returns: number of stacks whose operation was cut off
    """
    with journal.store.reading() as session:
        cut_off = session.select(records.Stack, "deleted_at IS NULL AND status = ?", IN_PROGRESS)
        others = session.select(
            records.Stack,
            "deleted_at IS NULL AND status != ? AND id IN (SELECT stack_id FROM resources WHERE status = ?)",
            IN_PROGRESS,
            IN_PROGRESS,
        )
    for stack in cut_off:
        with journal.store.transaction() as session:
            _settle_stack(journal, session, stack)
    for stack in others:
        # The stack had failed already; its other resources were still at work.
        with journal.store.transaction() as session:
            _settle_resources(journal, session, stack, "Worker went down during resource {action}")
    return len(cut_off)


def _settle_stack(journal: Journal, session: Session, stack: records.Stack) -> None:
    reason = f"Engine went down during stack {stack.action}"
    _settle_resources(journal, session, stack, reason)
    session.delete(records.Resource, "stack_id = ? AND action = 'DELETE' AND status = ?", stack.id, COMPLETE)
    fail_snapshots(session, stack.id, reason)
    session.update(records.Stack, stack.id, status=FAILED, status_reason=reason, traversal="")
    stack.status, stack.status_reason = FAILED, reason
    journal.stack_event(session, stack)


def _settle_resources(journal: Journal, session: Session, stack: records.Stack, reason: str) -> None:
    for row in session.select(records.Resource, "stack_id = ? AND status = ?", stack.id, IN_PROGRESS):
        journal.resource_state(stack, row, row.action, FAILED, reason.replace("{action}", row.action))

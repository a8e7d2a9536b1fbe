"""Rows that belong together: the best resource of each name, a stack's export, a template's storing.

Comes in: a session and records. Goes out: records and plain data. Raises: what the store raises. Any thread.
"""

from collections.abc import Iterable
from typing import Any

from heatperf.engine import records
from heatperf.engine.definition import Definition
from heatperf.engine.records import FAILED, IN_PROGRESS
from heatperf.engine.store import Session
from heatperf.errors import heat


def living(session: Session, stack_id: str) -> records.Stack:
    """A stack that is not deleted. :raises EntityNotFound: it is, or never was"""
    stack = session.get(records.Stack, stack_id)
    if stack is None or stack.deleted_at is not None:
        raise heat.EntityNotFound(entity="Stack", name=stack.name if stack else stack_id)
    return stack


def store_template(session: Session, stack_id: str, definition: Definition) -> int:
    """Store a definition and return its number."""
    stored = session.insert(
        records.Template(
            id=None,
            stack_id=stack_id,
            template=dict(definition.template.raw),
            files=dict(definition.template.files),
            environment=definition.environment.as_dict(),
        )
    )
    assert stored.id is not None  # noqa: S101 - the store has just given it
    return stored.id


def best_rows(rows: Iterable[records.Resource], stack: records.Stack) -> dict[str, records.Resource]:
    """Of the resources of each name, the one to go on with: whole rather than failed, there rather than deleted."""

    def suitability(row: records.Resource) -> tuple[int, Any, int]:
        score = -30 * (row.status == FAILED) - 50 * (row.action == "DELETE") - (row.replaced_by is not None)
        score += 5 * (row.template_id == stack.previous_template_id) + 10 * (row.template_id == stack.template_id)
        return score, row.updated_at or row.created_at, row.key_id

    best: dict[str, records.Resource] = {}
    for row in rows:
        if row.name not in best or suitability(row) > suitability(best[row.name]):
            best[row.name] = row
    return best


def fail_snapshots(session: Session, stack_id: str, reason: str) -> None:
    """Fail what snapshots of a stack are in progress: their operation ends before it could take them."""
    for snapshot in session.select(records.Snapshot, "stack_id = ? AND status = ?", stack_id, IN_PROGRESS):
        session.update(records.Snapshot, snapshot.id, status=FAILED, status_reason=reason)


def snapshot_data(session: Session, stack: records.Stack) -> dict[str, Any]:
    """Everything of a stack that an export or a snapshot holds."""
    template = session.get(records.Template, stack.template_id)
    assert template is not None  # noqa: S101 - a living stack has one
    rows = session.select(records.Resource, "stack_id = ?", stack.id, tail="ORDER BY id")
    return {
        "name": stack.name,
        "id": stack.id,
        "action": stack.action,
        "environment": {
            section: content for section, content in template.environment.items() if section != "encrypted_param_names"
        },
        "files": template.files,
        "status": stack.status,
        "template": template.template,
        "resources": {
            row.name: {
                "name": row.name,
                "resource_id": row.physical_id,
                "type": row.type,
                "action": row.action,
                "status": row.status,
                "metadata": row.metadata,
                "resource_data": row.data,
            }
            for row in rows
        },
        "project_id": stack.tenant,
        "stack_user_project_id": stack.stack_user_project_id,
        "tags": list(stack.tags),
    }

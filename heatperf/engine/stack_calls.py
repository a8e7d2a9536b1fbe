"""The RPC methods about whole stacks; names and arguments as in rpc/methods.py.

Comes in: a caller and the arguments of a call. Goes out: answers as views.py formats them. Raises: upstream's errors.
Runs on threads of requests; what a call starts goes on after it returned.
"""

import sqlite3
import uuid
from collections.abc import Mapping
from typing import Any

from heatperf.engine import queries, records, requests, views
from heatperf.engine.bound import StackFacts
from heatperf.engine.caller import Caller
from heatperf.engine.core import Core, looks_like_uuid
from heatperf.engine.definition import Definition
from heatperf.engine.differences import compare
from heatperf.engine.environment import Environment
from heatperf.engine.records import COMPLETE, IN_PROGRESS
from heatperf.engine.requests import Request
from heatperf.engine.resource_views import preview_resource
from heatperf.engine.rows import snapshot_data
from heatperf.engine.store import Session
from heatperf.engine.template import Template
from heatperf.engine.validation import validate_template
from heatperf.errors import heat

Identity = Mapping[str, Any]
Answer = dict[str, Any]

_HIDDEN = "******"


class StackCalls:
    """Lists, shows, makes, changes and removes stacks."""

    def __init__(self, core: Core) -> None:
        self._core = core

    # finding

    def identify_stack(self, caller: Caller, stack_name: str) -> Answer:
        with self._core.store.reading() as session:
            found = None
            if looks_like_uuid(stack_name):
                found = self._core.find_stack(session, caller, stack_name, show_deleted=True)
            found = found or self._core.find_named(session, caller, stack_name)
        if found is None:
            raise heat.EntityNotFound(entity="Stack", name=stack_name)
        return views.stack_identity(found)

    def list_stacks(
        self,
        caller: Caller,
        limit: Any = None,
        marker: str | None = None,
        sort_keys: Any = None,
        sort_dir: str | None = None,
        filters: Mapping[str, Any] | None = None,
        tenant_safe: bool = True,
        show_deleted: bool = False,
        show_nested: bool = False,
        show_hidden: bool = False,
        **tags: Any,
    ) -> list[Answer]:
        where = queries.stacks_where(
            caller,
            queries.translate_filters(filters or {}),
            tenant_safe=tenant_safe,
            show_deleted=show_deleted,
            show_nested=show_nested,
            **tags,
        )
        with self._core.store.reading() as session:
            found = queries.list_stacks(
                session, where, limit=limit, marker=marker, sort_keys=sort_keys, sort_dir=sort_dir
            )
        return [views.format_listed_stack(stack) for stack in found]

    def count_stacks(
        self,
        caller: Caller,
        filters: Mapping[str, Any] | None = None,
        tenant_safe: bool = True,
        show_deleted: bool = False,
        show_nested: bool = False,
        show_hidden: bool = False,
        **tags: Any,
    ) -> int:
        where, parameters = queries.stacks_where(
            caller,
            filters,
            tenant_safe=tenant_safe,
            show_deleted=show_deleted,
            show_nested=show_nested,
            **tags,
        )
        with self._core.store.reading() as session:
            return session.count(records.Stack, where, *parameters)

    def show_stack(self, caller: Caller, stack_identity: Identity | None, resolve_outputs: bool = True) -> list[Answer]:
        if stack_identity is not None:
            stacks = [self._core.load_stack(caller, stack_identity, show_deleted=True)]
        else:
            with self._core.store.reading() as session:
                stacks = queries.list_stacks(session, queries.stacks_where(caller))
        return [self._shown(stack, resolve_outputs) for stack in stacks]

    def _shown(self, stack: records.Stack, resolve_outputs: bool) -> Answer:
        definition = self._core.present(stack)
        gone = stack.state == ("DELETE", COMPLETE)
        return views.format_stack(
            stack,
            parameters=shown_parameters(definition),
            description=definition.template.description,
            outputs=_outputs(definition) if resolve_outputs and not gone else None,
        )

    # making and changing

    def create_stack(
        self,
        caller: Caller,
        stack_name: Any,
        template: Any,
        params: Any,
        files: Any,
        args: Mapping[str, Any],
        environment_files: Any = None,
        files_container: Any = None,
        owner_id: Any = None,
        nested_depth: int = 0,
        user_creds_id: Any = None,
        stack_user_project_id: Any = None,
        parent_resource_name: Any = None,
        template_id: Any = None,
    ) -> Answer:
        if owner_id is not None or template_id is not None:
            # Only another engine asks for these, for a nested stack.
            raise heat.NotSupported(feature="Nested stack")
        columns = requests.options(args)
        request = Request.of(template, params, files, environment_files, files_container)
        stack_id = str(uuid.uuid4())
        definition = requests.new_definition(self._core, caller, stack_name, stack_id, request)
        stack = self._new_record(caller, stack_name, stack_id, columns)

        def prepare(session: Session) -> None:
            session.insert(stack)

        try:
            started = self._core.operations.start(stack_id, "CREATE", definition, prepare=prepare)
        except sqlite3.IntegrityError:
            raise heat.StackExists(stack_name=stack_name) from None
        return views.stack_identity(started)

    def _new_record(self, caller: Caller, name: str, stack_id: str, columns: Mapping[str, Any]) -> records.Stack:
        return records.Stack(
            id=stack_id,
            name=name,
            tenant=caller.project_id or "",
            username=caller.username,
            action="CREATE",
            status=IN_PROGRESS,
            status_reason="",
            template_id=0,
            created_at=self._core.now(),
            **columns,
        )

    def preview_stack(
        self,
        caller: Caller,
        stack_name: Any,
        template: Any,
        params: Any,
        files: Any,
        args: Mapping[str, Any],
        environment_files: Any = None,
        files_container: Any = None,
    ) -> Answer:
        columns = requests.options(args)
        request = Request.of(template, params, files, environment_files, files_container)
        # A stack that does not exist has the id "None" in upstream's answers.
        definition = requests.new_definition(self._core, caller, stack_name, "None", request)
        stack = self._new_record(caller, stack_name, "None", columns)
        answer = views.format_stack(
            stack,
            parameters=shown_parameters(definition),
            description=definition.template.description,
            outputs=_outputs(definition),
            preview=True,
        )
        host = self._core.journal.host(stack)
        answer["resources"] = [preview_resource(stack, definition, name, host) for name in definition.names()]
        return answer

    def update_stack(
        self,
        caller: Caller,
        stack_identity: Identity,
        template: Any,
        params: Any,
        files: Any,
        args: Mapping[str, Any],
        environment_files: Any = None,
        files_container: Any = None,
        template_id: Any = None,
    ) -> Answer:
        stack = self._core.load_stack(caller, stack_identity)
        _refuse_update(stack)
        if template_id is not None:
            raise heat.NotSupported(feature="Nested stack")
        request = Request.of(template, params, files, environment_files, files_container)
        definition, columns = requests.changed_definition(self._core, stack, request, args)

        def prepare(session: Session) -> None:
            # Others may have come first since the request was checked.
            _refuse_update(self._core.get_stack(session, caller, stack_identity))

        started = self._core.operations.start(stack.id, "UPDATE", definition, prepare=prepare, **columns)
        return views.stack_identity(started)

    def preview_update_stack(
        self,
        caller: Caller,
        stack_identity: Identity,
        template: Any,
        params: Any,
        files: Any,
        args: Mapping[str, Any],
        environment_files: Any = None,
        files_container: Any = None,
    ) -> dict[str, list[Answer]]:
        stack = self._core.load_stack(caller, stack_identity)
        request = Request.of(template, params, files, environment_files, files_container)
        definition, _columns = requests.changed_definition(self._core, stack, request, args)
        return compare(self._core, stack, definition)

    def stack_cancel_update(self, caller: Caller, stack_identity: Identity, cancel_with_rollback: bool = True) -> None:
        stack_id = self._core.load_stack(caller, stack_identity).id
        allowed = ("UPDATE",) if cancel_with_rollback else ("UPDATE", "CREATE")
        # Held: an update that ends between the look and the rollback leaves nothing to go back to but an empty stack.
        with self._core.operations.held(stack_id):
            stack = self._core.load_stack(caller, stack_identity)
            if stack.status != IN_PROGRESS or stack.action not in allowed:
                raise heat.NotSupported(feature=f"Cancelling update when stack is {stack.action}_{stack.status}")
            if cancel_with_rollback:
                self._core.operations.rollback(stack_id)
            else:
                self._core.operations.stop(stack_id)

    def delete_stack(self, caller: Caller, stack_identity: Identity) -> None:
        self._delete(self._core.load_stack(caller, stack_identity), abandon=False)

    def _delete(self, stack: records.Stack, abandon: bool) -> None:
        if stack.status == IN_PROGRESS:
            self._core.operations.stop(stack.id)
        self._core.operations.start(stack.id, "DELETE", self._core.emptied(stack), abandon=abandon)

    def export_stack(self, caller: Caller, stack_identity: Identity) -> Answer:
        return self.abandon_stack(caller, stack_identity, abandon=False)

    def abandon_stack(self, caller: Caller, stack_identity: Identity, abandon: bool = True) -> Answer:
        if not self._core.settings.enable_stack_abandon:
            raise heat.NotSupported(feature="Stack Abandon")
        with self._core.store.reading() as session:
            stack = self._core.get_stack(session, caller, stack_identity)
            data = snapshot_data(session, stack)
        if abandon:
            self._delete(stack, abandon=True)
        return data

    # actions

    def stack_suspend(self, caller: Caller, stack_identity: Identity) -> None:
        self._visit(caller, stack_identity, "SUSPEND")

    def stack_resume(self, caller: Caller, stack_identity: Identity) -> None:
        self._visit(caller, stack_identity, "RESUME")

    def stack_check(self, caller: Caller, stack_identity: Identity) -> None:
        self._visit(caller, stack_identity, "CHECK", again=True)

    def _visit(self, caller: Caller, stack_identity: Identity, action: str, again: bool = False) -> None:
        stack = self._core.load_stack(caller, stack_identity)
        if stack.state == (action, COMPLETE) and not again:
            return
        self._core.operations.start(stack.id, action, self._core.definition(stack, stack.template_id))

    # parts of a stack

    def validate_template(
        self,
        caller: Caller,
        template: Any,
        params: Any = None,
        files: Any = None,
        environment_files: Any = None,
        files_container: Any = None,
        show_nested: bool = False,
        ignorable_errors: Any = None,
    ) -> Answer:
        request = Request.of(template, params, files, environment_files, files_container)
        return validate_template(self._core, caller, request, ignorable_errors)

    def get_template(self, caller: Caller, stack_identity: Identity) -> Any:
        return self._core.template_row(self._core.load_stack(caller, stack_identity, show_deleted=True)).template

    def get_environment(self, caller: Caller, stack_identity: Identity) -> Answer:
        row = self._core.template_row(self._core.load_stack(caller, stack_identity, show_deleted=True))
        schemas = Template.parse(row.template, files=row.files).all_parameters(row.files)
        environment = dict(row.environment)
        for section in ("parameters", "parameter_defaults"):
            environment[section] = {
                name: _HIDDEN if name in schemas and schemas[name].hidden else value
                for name, value in (environment.get(section) or {}).items()
            }
        return environment

    def get_files(self, caller: Caller, stack_identity: Identity) -> dict[str, str]:
        return self._core.template_row(self._core.load_stack(caller, stack_identity, show_deleted=True)).files

    def list_outputs(self, caller: Caller, stack_identity: Identity) -> list[Answer]:
        stack = self._core.load_stack(caller, stack_identity)
        return list(self._core.present(stack).outputs().values())

    def show_output(self, caller: Caller, stack_identity: Identity, output_key: str) -> Answer:
        definition = self._core.present(self._core.load_stack(caller, stack_identity))
        if output_key not in definition.outputs():
            escaped = str(output_key).replace("%", "%%")
            raise heat.NotFound(f"Specified output key {escaped} not found.")
        return definition.output(output_key)

    # snapshots

    def stack_snapshot(self, caller: Caller, stack_identity: Identity, name: str | None) -> Answer:
        stack = self._core.load_stack(caller, stack_identity)
        snapshot_id = str(uuid.uuid4())
        made: list[records.Snapshot] = []

        def prepare(session: Session) -> None:
            present = self._core.get_stack(session, caller, stack_identity)
            if present.status == IN_PROGRESS:
                raise heat.ActionInProgress(stack_name=present.name, action=present.action)
            most = self._core.settings.max_snapshots_per_stack
            kept = session.count(records.Snapshot, "stack_id = ? AND tenant = ?", stack.id, caller.project_id)
            if not caller.is_admin and 0 <= most <= kept:
                raise heat.RequestLimitExceeded(
                    message=f"You have reached the maximum snapshots per stack, {most}. Please delete some snapshots."
                )
            data = {**snapshot_data(session, present), "resources": {}}
            made.append(
                session.insert(
                    records.Snapshot(
                        id=snapshot_id,
                        stack_id=stack.id,
                        tenant=caller.project_id or "",
                        name=name,
                        action="CREATE",
                        status=IN_PROGRESS,
                        created_at=self._core.now(),
                        data=data,
                    )
                )
            )

        definition = self._core.definition(stack, stack.template_id)
        self._core.operations.start(stack.id, "SNAPSHOT", definition, prepare=prepare, traversal=snapshot_id)
        return views.format_snapshot(made[0])

    def _snapshot(self, session: Session, caller: Caller, stack: records.Stack, snapshot_id: str) -> records.Snapshot:
        found = session.get(records.Snapshot, snapshot_id)
        if found is None or found.tenant != caller.project_id:
            raise heat.NotFound(f"Snapshot with id {str(snapshot_id).replace('%', '%%')} not found")
        if found.stack_id != stack.id:
            raise heat.SnapshotNotFound(snapshot=snapshot_id, stack=stack.name)
        return found

    def show_snapshot(self, caller: Caller, stack_identity: Identity, snapshot_id: str) -> Answer:
        with self._core.store.reading() as session:
            stack = self._core.get_stack(session, caller, stack_identity)
            return views.format_snapshot(self._snapshot(session, caller, stack, snapshot_id))

    def stack_list_snapshots(self, caller: Caller, stack_identity: Identity) -> list[Answer]:
        with self._core.store.reading() as session:
            stack = self._core.get_stack(session, caller, stack_identity)
            where = "stack_id = ? AND tenant = ?"
            found = session.select(records.Snapshot, where, stack.id, caller.project_id, tail="ORDER BY created_at, id")
        return [views.format_snapshot(snapshot) for snapshot in found]

    def delete_snapshot(self, caller: Caller, stack_identity: Identity, snapshot_id: str) -> None:
        with self._core.store.transaction() as session:
            stack = self._core.get_stack(session, caller, stack_identity)
            snapshot = self._snapshot(session, caller, stack, snapshot_id)
            if (snapshot.action, snapshot.status) == ("CREATE", IN_PROGRESS):
                raise heat.NotSupported(feature="Deleting in-progress snapshot")
            session.delete(records.Snapshot, "id = ?", snapshot_id)

    def stack_restore(self, caller: Caller, stack_identity: Identity, snapshot_id: str) -> None:
        with self._core.store.reading() as session:
            stack = self._core.get_stack(session, caller, stack_identity)
            snapshot = self._snapshot(session, caller, stack, snapshot_id)
        if snapshot.status != COMPLETE:
            raise heat.NotSupported(feature="Restoring incomplete snapshot")
        data = snapshot.data or {}
        template = Template.parse(data["template"], files=data["files"])
        facts = StackFacts(stack.name, stack.id, stack.tenant)
        definition = Definition(template, Environment(data["environment"]), facts)
        self._core.operations.start(stack.id, "RESTORE", definition, converge=False, tags=[])

    def migrate_convergence_1(self, caller: Caller, stack_id: str) -> None:
        """Every stack here is of the kind that this call makes of older ones."""
        with self._core.store.reading() as session:
            if self._core.find_stack(session, caller, stack_id) is None:
                raise heat.NotFound(f'No stack exists with id "{str(stack_id).replace("%", "%%")}"')


def _refuse_update(stack: records.Stack) -> None:
    if stack.action == "SUSPEND":
        raise heat.NotSupported(feature="Updating a stack when it is suspended")
    if stack.action == "DELETE":
        raise heat.NotSupported(feature="Updating a stack when it is deleting")


def _outputs(definition: Definition) -> list[Answer]:
    return [definition.output(name) for name in definition.outputs()]


def shown_parameters(definition: Definition) -> dict[str, str]:
    """Parameters as texts; hidden ones as stars."""
    return {name: str(parameter) for name, parameter in definition.parameters.parameters.items()}

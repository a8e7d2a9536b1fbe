"""What the calls of the engine share: the parts, the limits, and finding stacks and their definitions.

Comes in: callers, identities, records. Goes out: records and definitions. Raises: EntityNotFound and InvalidTenant as
upstream does for stacks that are not the caller's. Called from threads of requests and from the scheduler's.
"""

import datetime
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from heatperf.engine import queries, records
from heatperf.engine.bound import StackFacts
from heatperf.engine.caller import Caller
from heatperf.engine.definition import Definition
from heatperf.engine.environment import Environment
from heatperf.engine.journal import Journal, LiveAttributes
from heatperf.engine.operations import Operations
from heatperf.engine.rows import best_rows
from heatperf.engine.scheduler import Scheduler
from heatperf.engine.software import SoftwareConfigs
from heatperf.engine.store import Session, Store
from heatperf.engine.template import VERSION_KEY, Template
from heatperf.errors import heat

#: Version of a template that holds nothing, upstream's choice too.
_EMPTY = {VERSION_KEY: "2015-04-30"}


@dataclass(frozen=True)
class Settings:
    """Limits and switches, with upstream's names and defaults; -1 means no limit."""

    max_resources_per_stack: int = 1000
    max_stacks_per_tenant: int = 512
    max_snapshots_per_stack: int = 32
    enable_stack_abandon: bool = False
    #: role that users inside servers have; such a user sees no resources here
    heat_stack_user_role: str = "heat_stack_user"


def looks_like_uuid(text: Any) -> bool:
    """Whether a text is a UUID in any of its usual forms."""
    try:
        given = str(text).replace("urn:", "").replace("uuid:", "").strip("{}").replace("-", "").lower()
        return uuid.UUID(text).hex == given
    except (TypeError, ValueError, AttributeError):
        return False


class Core:
    """The engine's parts, wired."""

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], datetime.datetime]) -> None:
        self.store = store
        self.settings = settings
        self.now = clock
        self.configs = SoftwareConfigs(store, clock)
        self.journal = Journal(store, self.configs, clock)
        self.scheduler = Scheduler()
        self.operations = Operations(self.journal, self.scheduler, self.definition)

    # stacks

    def find_stack(
        self, session: Session, caller: Caller, stack_id: Any, show_deleted: bool = False
    ) -> records.Stack | None:
        """A stack by id, or None where there is none for this caller."""
        stack = session.get(records.Stack, stack_id)
        if stack is None or not caller.may_see(stack.tenant, stack.stack_user_project_id):
            return None
        if stack.deleted_at is not None and not (show_deleted or caller.show_deleted):
            return None
        return stack

    def find_named(self, session: Session, caller: Caller, name: Any) -> records.Stack | None:
        """The living stack of a name in the caller's project."""
        where = "name = ? AND deleted_at IS NULL AND (tenant = ? OR stack_user_project_id = ?)"
        found = session.select(
            records.Stack, where, name, caller.project_id, caller.project_id, tail="ORDER BY created_at LIMIT 1"
        )
        return found[0] if found else None

    def get_stack(
        self, session: Session, caller: Caller, identity: Mapping[str, Any], show_deleted: bool = False
    ) -> records.Stack:
        """The stack that an identity names.

        :raises EntityNotFound: there is none for this caller, or it has another name
        :raises InvalidTenant: the identity names a project that is not the caller's
        """
        stack = self.find_stack(session, caller, identity["stack_id"], show_deleted)
        name = identity["stack_name"]
        if stack is None:
            raise heat.EntityNotFound(entity="Stack", name=name)
        if not caller.may_see(identity["tenant"], stack.stack_user_project_id):
            raise heat.InvalidTenant(target=identity["tenant"], actual=caller.project_id)
        if identity.get("path") or stack.name != name:
            raise heat.EntityNotFound(entity="Stack", name=name)
        return stack

    def load_stack(self, caller: Caller, identity: Mapping[str, Any], show_deleted: bool = False) -> records.Stack:
        """get_stack in a view of its own."""
        with self.store.reading() as session:
            return self.get_stack(session, caller, identity, show_deleted)

    def count_stacks(self, caller: Caller) -> int:
        """Number of living stacks that the caller sees."""
        with self.store.reading() as session:
            return session.count(records.Stack, *_flat(queries.stacks_where(caller)))

    # definitions

    def template_row(self, stack: records.Stack, template_id: int | None = None) -> records.Template:
        """A stored template of a stack, its present one unless told otherwise. :raises NotFound: it is gone"""
        with self.store.reading() as session:
            row = session.get(records.Template, template_id if template_id is not None else stack.template_id)
        if row is None:
            raise heat.NotFound("raw template not found")
        return row

    def definition(self, stack: records.Stack, template_id: int | None) -> Definition:
        """A stored definition of a stack; ``template_id`` None: one that holds nothing."""
        facts = StackFacts(name=stack.name, id=stack.id, project_id=stack.tenant)
        if template_id is None:
            return Definition(Template.parse(dict(_EMPTY)), Environment(), facts)
        row = self.template_row(stack, template_id)
        template = Template.parse(row.template, files=row.files)
        return Definition(template, Environment(row.environment), facts, row.id)

    def present(self, stack: records.Stack) -> Definition:
        """The stack's present definition, with its living resources behind it."""
        definition = self.definition(stack, stack.template_id)
        rows = {name: row.key_id for name, row in self.resources(stack).items()}
        definition.attach(LiveAttributes(self.journal, stack, rows))
        return definition

    def emptied(self, stack: records.Stack) -> Definition:
        """The stack's present definition without any resource: what a deletion goes to."""
        row = self.template_row(stack)
        facts = StackFacts(name=stack.name, id=stack.id, project_id=stack.tenant)
        template = Template.parse({**row.template, "resources": {}}, files=row.files)
        return Definition(template, Environment(row.environment), facts)

    # resources

    def resources(self, stack: records.Stack, where: queries.Where = ("1", ())) -> dict[str, records.Resource]:
        """The stack's resources by name, one of each, in the order in which they were made."""
        condition, parameters = where
        with self.store.reading() as session:
            rows = session.select(
                records.Resource, f"stack_id = ? AND ({condition})", stack.id, *parameters, tail="ORDER BY id"
            )
        best = best_rows(rows, stack)
        return {row.name: row for row in rows if best[row.name] is row}


def _flat(where: queries.Where) -> tuple[Any, ...]:
    return (where[0], *where[1])

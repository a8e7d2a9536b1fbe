"""Who calls: what the engine takes from an RPC context.

Comes in: the context dictionary of a message (keys: research of the RPC contract, both upstream's old and new names).
Goes out: a Caller. Raises: nothing. Pure data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Caller:
    """One request's user and project.

    :param is_admin: sees stacks of all projects, where the call asks for that
    :param show_deleted: finds deleted stacks by id
    """

    project_id: str | None
    user_id: str | None = None
    username: str | None = None
    is_admin: bool = False
    roles: tuple[str, ...] = ()
    show_deleted: bool = False

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> "Caller":
        """The caller that a context describes; upstream's older names count where they are present."""

        def first(*names: str) -> Any:
            return next((context[name] for name in names if context.get(name) is not None), None)

        return cls(
            project_id=first("tenant_id", "project_id", "tenant"),
            user_id=first("user_id", "user"),
            username=first("username", "user_name"),
            is_admin=bool(context.get("is_admin")),
            roles=tuple(context.get("roles") or ()),
            show_deleted=bool(context.get("show_deleted")),
        )

    def may_see(self, *projects: str | None) -> bool:
        """Whether something of one of these projects is the caller's to see."""
        # Nobody's project is not the same project: a caller may lack one, and most records lack the second.
        return self.is_admin or (self.project_id is not None and self.project_id in projects)

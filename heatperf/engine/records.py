"""The rows of the engine's store, as plain data.

Comes in: columns of SQLite. Goes out: dataclasses whose field names are the columns. Raises: nothing. A record is a
snapshot: changing it changes no row, ``Session.update`` does. Safe to read from any thread.
"""

import datetime
import json
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

#: Actions and states of stacks and resources, as they stand in answers and events.
IN_PROGRESS, COMPLETE, FAILED = "IN_PROGRESS", "COMPLETE", "FAILED"

_STORED_TIME = "%Y-%m-%dT%H:%M:%S.%f"


class Record:
    """Base: one table, a primary key, and columns that hold JSON, times or booleans."""

    table: ClassVar[str]
    key: ClassVar[str] = "id"
    json_columns: ClassVar[frozenset[str]] = frozenset()
    time_columns: ClassVar[frozenset[str]] = frozenset()
    bool_columns: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Names of the columns, in the order of the fields."""
        return tuple(item.name for item in fields(cls))  # type: ignore[arg-type]

    @classmethod
    def encode(cls, column: str, value: Any) -> Any:
        """One value for SQLite; texts of times sort as the times do."""
        if value is None:
            return None
        if column in cls.json_columns:
            return json.dumps(value)
        if column in cls.time_columns:
            return value.strftime(_STORED_TIME)
        if column in cls.bool_columns:
            return int(value)
        if isinstance(value, str) and not value.isascii():
            # Half a surrogate pair is valid in JSON and cannot be stored as text; clients' data end up in reasons.
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        return value

    @classmethod
    def decode(cls, row: tuple[Any, ...]) -> Any:
        """A record from a row that holds ``columns()`` in order."""
        values = []
        for column, value in zip(cls.columns(), row, strict=True):
            if value is not None:
                if column in cls.json_columns:
                    value = json.loads(value)
                elif column in cls.time_columns:
                    value = datetime.datetime.fromisoformat(value)
                elif column in cls.bool_columns:
                    value = bool(value)
            values.append(value)
        return cls(*values)


_Time = datetime.datetime | None


@dataclass
class Stack(Record):
    table: ClassVar[str] = "stacks"
    json_columns: ClassVar[frozenset[str]] = frozenset({"tags"})
    time_columns: ClassVar[frozenset[str]] = frozenset({"created_at", "updated_at", "deleted_at"})
    bool_columns: ClassVar[frozenset[str]] = frozenset({"disable_rollback", "converge"})

    id: str
    name: str
    tenant: str
    username: str | None
    action: str
    status: str
    status_reason: str
    template_id: int
    created_at: datetime.datetime
    disable_rollback: bool = True
    converge: bool = False
    #: minutes; None: the default of the engine
    timeout: int | None = None
    tags: list[str] = field(default_factory=list)
    updated_at: _Time = None
    deleted_at: _Time = None
    #: what a rollback goes back to
    previous_template_id: int | None = None
    #: which of the operations that ever ran on the stack is the current one; empty: none
    traversal: str = ""
    owner_id: str | None = None
    parent_resource_name: str | None = None
    nested_depth: int = 0
    stack_user_project_id: str | None = None

    @property
    def state(self) -> tuple[str, str]:
        """Action and status."""
        return self.action, self.status


@dataclass
class Template(Record):
    table: ClassVar[str] = "templates"
    json_columns: ClassVar[frozenset[str]] = frozenset({"template", "files", "environment"})

    id: int | None
    stack_id: str | None
    template: dict[str, Any]
    files: dict[str, str]
    environment: dict[str, Any]


@dataclass
class Resource(Record):
    table: ClassVar[str] = "resources"
    json_columns: ClassVar[frozenset[str]] = frozenset({"properties", "metadata", "data", "definition", "requires"})
    time_columns: ClassVar[frozenset[str]] = frozenset({"created_at", "updated_at"})

    id: int | None
    uuid: str
    name: str
    stack_id: str
    type: str
    action: str
    status: str
    created_at: datetime.datetime
    status_reason: str = ""
    updated_at: _Time = None
    physical_id: str | None = None
    #: resolved properties as given, without defaults; None until the resource was created
    properties: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    #: what the type itself keeps (generated values, hooks)
    data: dict[str, Any] = field(default_factory=dict)
    #: frozen definition the resource was last brought to (see definition.freeze)
    definition: dict[str, Any] = field(default_factory=dict)
    #: ids of the resources this one needs
    requires: list[int] = field(default_factory=list)
    template_id: int | None = None
    replaces: int | None = None
    replaced_by: int | None = None

    @property
    def state(self) -> tuple[str, str]:
        """Action and status."""
        return self.action, self.status

    @property
    def key_id(self) -> int:
        """Row number of a stored resource."""
        assert self.id is not None  # noqa: S101 - a record that was never stored has no place in a graph
        return self.id


@dataclass
class Event(Record):
    table: ClassVar[str] = "events"
    json_columns: ClassVar[frozenset[str]] = frozenset({"resource_properties"})
    time_columns: ClassVar[frozenset[str]] = frozenset({"created_at"})

    id: int | None
    uuid: str
    stack_id: str
    created_at: datetime.datetime
    resource_name: str
    physical_resource_id: str | None
    resource_action: str
    resource_status: str
    resource_status_reason: str
    resource_type: str
    resource_properties: dict[str, Any] | None = None


@dataclass
class Snapshot(Record):
    table: ClassVar[str] = "snapshots"
    json_columns: ClassVar[frozenset[str]] = frozenset({"data"})
    time_columns: ClassVar[frozenset[str]] = frozenset({"created_at"})

    id: str
    stack_id: str
    tenant: str
    name: str | None
    action: str
    status: str
    created_at: datetime.datetime
    status_reason: str | None = None
    data: dict[str, Any] | None = None


@dataclass
class SoftwareConfig(Record):
    table: ClassVar[str] = "software_configs"
    json_columns: ClassVar[frozenset[str]] = frozenset({"config"})
    time_columns: ClassVar[frozenset[str]] = frozenset({"created_at"})

    id: str
    tenant: str
    name: str | None
    group: str | None
    config: dict[str, Any]
    created_at: datetime.datetime


@dataclass
class SoftwareDeployment(Record):
    table: ClassVar[str] = "software_deployments"
    json_columns: ClassVar[frozenset[str]] = frozenset({"input_values", "output_values"})
    time_columns: ClassVar[frozenset[str]] = frozenset({"created_at", "updated_at"})

    id: str
    tenant: str
    config_id: str
    server_id: str
    created_at: datetime.datetime
    stack_user_project_id: str | None = None
    input_values: dict[str, Any] | None = None
    output_values: dict[str, Any] | None = None
    action: str | None = None
    status: str | None = None
    status_reason: str | None = None
    updated_at: _Time = None


TABLES: tuple[type[Record], ...] = (
    Stack,
    Template,
    Resource,
    Event,
    Snapshot,
    SoftwareConfig,
    SoftwareDeployment,
)

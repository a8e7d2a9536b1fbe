"""What every resource type is made of.

Comes in: the resource's row, its properties, and a Host that keeps what the type wants kept. Goes out: steps of an
action, attributes, references. Raises: anything; the caller turns it into a failed resource whose reason holds the
exception's class and message. An action runs on the engine's step threads (scheduler.py): it may wait only by
yielding seconds.
"""

import base64
import uuid
from collections.abc import Generator, Mapping
from typing import Any, ClassVar, Protocol

from heatperf.engine import records
from heatperf.engine.resources.schema import MAP, Attribute, Properties, Property
from heatperf.errors import heat

#: Each value is the number of seconds after which the action wants to be continued.
Steps = Generator[float, None, None]

#: Every resource has it beside its own attributes.
BASE_ATTRIBUTES: Mapping[str, Attribute] = {"show": Attribute("Detailed information about resource.", MAP)}

_NAME_LIMIT = 255


class Host(Protocol):
    """What a type may ask of the engine."""

    stack_name: str
    stack_id: str

    def keep(self, record: records.Resource, **columns: Any) -> None:
        """Store columns of the resource's row (``physical_id``, ``data``) and set them in ``record``."""

    def now(self) -> float:
        """Seconds that only grow, for waiting."""

    def create_config(self, record: records.Resource, values: dict[str, Any]) -> None:
        """Store a software config and, in the same step, its id as the resource's physical id."""

    def show_config(self, config_id: str) -> dict[str, Any] | None:
        """A stored software config as the API shows it, or None."""

    def delete_config(self, config_id: str) -> None:
        """Remove a software config; a missing one is no error."""


class ReplacementNeeded(Exception):
    """The change cannot be made in place.

    :param text: what the event says
    """

    def __init__(self, text: str) -> None:
        super().__init__(f"The Resource {text} requires replacement.")


class Resource:
    """One resource, for the time of one question or action. Types are subclasses; they keep nothing in the object
    that must outlive it."""

    type_name: ClassVar[str]
    #: what ``resource type show`` says of the type
    description: ClassVar[str]
    #: name of the class upstream, which generated templates and event texts show
    class_name: ClassVar[str]
    since: ClassVar[str]
    properties_schema: ClassVar[dict[str, Property]] = {}
    attributes_schema: ClassVar[dict[str, Attribute]] = {}
    #: takes any property and has any attribute, like OS::Heat::None
    accepts_anything: ClassVar[bool] = False
    supports_check: ClassVar[bool] = False

    def __init__(self, record: records.Resource, host: Host) -> None:
        self.record = record
        self.host = host

    # what subclasses fill in

    def validate(self, properties: Properties) -> None:
        """Checks beyond the schema; :raises StackValidationFailed: without a path"""

    def create(self, properties: Properties) -> Steps:
        """Make the resource; set its physical id."""
        yield from ()

    def update(self, properties: Properties, changed: Mapping[str, Any]) -> Steps:
        """Bring the resource to ``properties``; ``changed`` holds new values of those that differ."""
        if changed:
            raise ReplacementNeeded(self.record.name)
        yield from ()

    def delete(self, properties: Properties) -> Steps:
        """Unmake the resource."""
        yield from ()

    def check(self, properties: Properties) -> Steps:
        """See that the resource is there; only where ``supports_check``."""
        yield from ()

    def attribute(self, name: str, properties: Properties) -> Any:
        """Value of an attribute in the type's schema; the resource exists."""
        return None

    def show(self) -> dict[str, Any] | None:
        """The ``show`` attribute: everything the resource's service tells of it."""
        return None

    def reference(self) -> str:
        """What get_resource gives."""
        return str(self.record.physical_id or self.record.name)

    def replaced_by_change(self, changed: set[str], after: Properties) -> bool:
        """Whether a change that the schema would allow in place still wants a new resource."""
        return False

    def never_updates(self) -> bool:
        """Whether updates pass the resource by, whatever changed."""
        return False

    @classmethod
    def schema_for(cls, properties: Properties) -> dict[str, Property]:
        """The schema of these values, where one property decides on another's type."""
        return cls.properties_schema

    # what they have in common

    def physical_name(self) -> str:
        """Name for the physical resource: stack, resource, and 60 of the random bits of its id."""
        name = f"{self.host.stack_name}-{self.record.name}-{short_id(self.record.uuid)}"
        if len(name) <= _NAME_LIMIT:
            return name
        return f"{name[:2]}-{name[-(_NAME_LIMIT - 3) :]}"

    def set_data(self, **values: Any) -> None:
        """Keep values of the type's own."""
        self.host.keep(self.record, data={**self.record.data, **values})

    def get_attribute(self, name: str, properties: Properties) -> Any:
        """Value of any attribute.

        :raises InvalidTemplateAttribute: the type has no such attribute
        """
        if self.accepts_anything:
            return None
        if name in self.attributes_schema:
            return self.attribute(name, properties)
        if name in BASE_ATTRIBUTES:
            return self.show() if self.record.physical_id is not None else None
        raise heat.InvalidTemplateAttribute(resource=self.record.name, key=name)

    def describe(self) -> str:
        """The resource as upstream's messages name it."""
        physical = f" [{self.record.physical_id}]" if self.record.physical_id is not None else ""
        stack = f'Stack "{self.host.stack_name}" [{self.host.stack_id}]'
        return f'{self.class_name} "{self.record.name}"{physical} {stack}'


def short_id(source: str) -> str:
    """Twelve characters from the 60 random bits in the time field of a version 4 UUID (RFC 9562, section 5.4)."""
    bits = uuid.UUID(source).time
    return base64.b32encode((bits << 4).to_bytes(8, "big"))[:12].decode("ascii").lower()

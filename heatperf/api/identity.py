"""Stack, resource and event identities: the four-field mapping of the RPC contract, ARNs and URL paths.

On the wire an identity is ``{"tenant", "stack_name", "stack_id", "path"}``; a resource's path is
``/resources/NAME``, an event's ``/resources/NAME/events/ID``.
"""

import re
from typing import Any
from urllib.parse import quote, unquote

_STACK_PATH = re.compile(r"stacks/([^/]+)/([^/]+)(.*)")


class Identity:
    """Where a stack, resource or event lives.

    :raises ValueError: the stack name holds a slash
    :raises TypeError: a field is missing, or one is given that is not part of an identity
    """

    __slots__ = ("path", "stack_id", "stack_name", "tenant")

    def __init__(self, tenant: str, stack_name: str, stack_id: str, path: str = "") -> None:
        if "/" in stack_name:
            raise ValueError('Stack name may not contain "/"')
        self.tenant = tenant
        self.stack_name = stack_name
        self.stack_id = str(stack_id)
        self.path = path if not path or path.startswith("/") else "/" + path

    @classmethod
    def from_arn(cls, arn: str) -> "Identity":
        """Parse ``arn:openstack:heat::TENANT:stacks/NAME/ID[/PATH]``.

        :raises ValueError: it is not one
        """
        fields = arn.split(":")
        if len(fields) < 6 or fields[0].lower() != "arn":
            raise ValueError(f'"{arn}" is not a valid ARN')
        match = _STACK_PATH.match(":".join(fields[5:]))
        if fields[1] != "openstack" or fields[2] != "heat" or not match:
            raise ValueError(f'"{arn}" is not a valid Heat ARN')
        return cls(unquote(fields[4]), *(unquote(group) for group in match.groups()))

    def to_wire(self) -> dict[str, str]:
        """Return the mapping that RPC messages carry."""
        return {
            "tenant": self.tenant,
            "stack_name": self.stack_name,
            "stack_id": self.stack_id,
            "path": self.path,
        }

    def url_path(self) -> str:
        """Return ``TENANT/stacks/NAME/ID[/PATH]``, each segment percent-encoded."""
        return "/".join(
            (quote(self.tenant, ""), "stacks", quote(self.stack_name, ""), quote(self.stack_id, ""))
        ) + quote(self.path)

    def stack(self) -> "Identity":
        """Return the identity of the stack that owns this resource (its path is two segments shorter)."""
        return self._shortened(2)

    def resource(self) -> "Identity":
        """Return the identity of the resource that this event belongs to."""
        return self._shortened(2)

    def last(self) -> str:
        """Return the last segment of the path: a resource's name, an event's id."""
        return self.path.lstrip("/").split("/")[-1]

    def _shortened(self, segments: int) -> "Identity":
        kept = self.path.lstrip("/").split("/")[:-segments]
        return type(self)(self.tenant, self.stack_name, self.stack_id, "/".join(kept))


def identity_of(value: dict[str, Any]) -> Identity:
    """Return the Identity of a mapping that came over RPC."""
    return Identity(**value)

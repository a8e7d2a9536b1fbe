"""The resource types of the embedded engine, and the lookup of a type by its name.

Comes in: names from templates and requests. Goes out: classes derived from base.Resource. Raises: upstream's errors
for names that nobody knows (EntityNotFound) and for those that need more than this engine (ResourceTypeUnavailable).
"""

from heatperf.engine.resources.base import Resource
from heatperf.engine.resources.elsewhere import SERVICE_OF
from heatperf.engine.resources.none import NoneResource
from heatperf.engine.resources.random_string import RandomString
from heatperf.engine.resources.schema import Properties
from heatperf.engine.resources.software_config import SoftwareConfig
from heatperf.engine.resources.test_resource import TestResource
from heatperf.engine.resources.value import Value
from heatperf.errors import heat

TYPES: dict[str, type[Resource]] = {
    kind.type_name: kind for kind in (NoneResource, RandomString, SoftwareConfig, TestResource, Value)
}


def is_nested(name: str) -> bool:
    """Whether the name is a template's address, so that the resource would be a nested stack."""
    return name.endswith((".yaml", ".template"))


def find(name: str) -> type[Resource]:
    """The type called ``name``.

    :raises ResourceTypeUnavailable: upstream has it, this engine has not
    :raises EntityNotFound: nobody has it
    """
    kind = TYPES.get(name)
    if kind is not None:
        return kind
    if is_nested(name):
        raise heat.ResourceTypeUnavailable(
            service_name="heat", resource_type=name, reason="the embedded engine has no nested stacks"
        )
    service = SERVICE_OF.get(name)
    if service is not None:
        reason = (
            "the embedded engine does not have this type"
            if service == "heat"
            else "Service endpoint not in service catalog."
        )
        raise heat.ResourceTypeUnavailable(service_name=service, resource_type=name, reason=reason)
    raise heat.EntityNotFound(entity="Resource Type", name=name)


def frozen_values(kind: Resource) -> Properties:
    """The properties that a resource was last brought to."""
    return Properties({} if kind.accepts_anything else kind.properties_schema, kind.record.properties or {})

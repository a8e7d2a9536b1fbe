"""OS::Heat::SoftwareConfig: an immutable piece of configuration. See base.py for what comes in and goes out."""

from typing import Any

from heatperf.engine.constraints import AllowedValues
from heatperf.engine.resources import schema
from heatperf.engine.resources.base import Resource, Steps
from heatperf.engine.resources.schema import Attribute, Properties, Property

TYPES = ("String", "Number", "CommaDelimitedList", "Json", "Boolean")


def _type(of: str) -> Property:
    return Property(
        schema.STRING,
        f"Type of the value of the {of}.",
        default="String",
        constraints=(AllowedValues(TYPES),),
    )


INPUT = {
    "name": Property(schema.STRING, "Name of the input.", required=True),
    "description": Property(schema.STRING, "Description of the input."),
    "type": _type("input"),
    "default": Property(schema.ANY, "Default value for the input if none is specified."),
    "replace_on_change": Property(
        schema.BOOLEAN,
        "Replace the deployment instead of updating it when the input value changes.",
        default=False,
    ),
}
OUTPUT = {
    "name": Property(schema.STRING, "Name of the output.", required=True),
    "description": Property(schema.STRING, "Description of the output."),
    "type": _type("output"),
    "error_output": Property(
        schema.BOOLEAN,
        "Denotes that the deployment is in an error state if this output has a value.",
        default=False,
    ),
}


class SoftwareConfig(Resource):
    type_name = "OS::Heat::SoftwareConfig"
    class_name = "SoftwareConfig"
    since = "2014.1"
    description = (
        "Describes and stores configuration for software on servers.\n\n"
        "A config never changes: a change of any property makes a new config and removes the old one. Other "
        "resources and stacks refer to it by its id."
    )
    properties_schema = {
        "group": Property(
            schema.STRING,
            "Namespace to group this software config by when delivered to a server. This may imply what "
            "configuration tool is going to perform the configuration.",
            default="Heat::Ungrouped",
        ),
        "config": Property(
            schema.STRING,
            "Configuration script or manifest which specifies what actual configuration is performed.",
        ),
        "options": Property(
            schema.MAP,
            "Map containing options specific to the configuration management tool used by this resource.",
        ),
        "inputs": Property(
            schema.LIST,
            "Schema representing the inputs that this software config is expecting.",
            schema=Property(schema.MAP, schema=INPUT),
        ),
        "outputs": Property(
            schema.LIST,
            "Schema representing the outputs that this software config will produce.",
            schema=Property(schema.MAP, schema=OUTPUT),
        ),
    }
    attributes_schema = {"config": Attribute("The config value of the software config.", schema.STRING)}

    def create(self, properties: Properties) -> Steps:
        values = {
            "group": properties["group"],
            "name": self.physical_name(),
            "config": properties["config"],
            "inputs": properties["inputs"] or [],
            "outputs": properties["outputs"] or [],
            "options": properties["options"] or {},
        }
        self.host.create_config(self.record, values)
        yield from ()

    def delete(self, properties: Properties) -> Steps:
        if self.record.physical_id is not None:
            self.host.delete_config(self.record.physical_id)
        yield from ()

    def show(self) -> dict[str, Any] | None:
        return self.host.show_config(str(self.record.physical_id))

    def attribute(self, name: str, properties: Properties) -> Any:
        shown = self.show() if self.record.physical_id else None
        return shown["config"] if shown else None

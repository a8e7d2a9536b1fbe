"""OS::Heat::None: stands in for any resource and does nothing. See base.py for what comes in and goes out."""

import uuid

from heatperf.engine.resources.base import Resource, Steps
from heatperf.engine.resources.schema import Properties


class NoneResource(Resource):
    type_name = "OS::Heat::None"
    class_name = "NoneResource"
    since = "5.0.0"
    description = (
        "Stands in for a resource that a resource registry switches off.\n\n"
        "Takes any properties, answers every attribute with null, and is never updated or replaced."
    )
    accepts_anything = True

    def create(self, properties: Properties) -> Steps:
        self.host.keep(
            self.record,
            physical_id=str(uuid.uuid4()),
            data={**self.record.data, "is_placeholder": "True"},
        )
        yield from ()

    def never_updates(self) -> bool:
        return True

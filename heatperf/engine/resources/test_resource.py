"""OS::Heat::TestResource: waits, fails and wants replacement as told, for tests. See base.py for what comes in and out.

Its polling of a service's client (client_name, entity_name) has no effect without a cloud, as upstream, where a failed
poll is ignored.
"""

import time
from collections.abc import Mapping
from typing import Any

from heatperf.engine.constraints import CustomConstraint
from heatperf.engine.resources import schema
from heatperf.engine.resources.base import Resource, Steps
from heatperf.engine.resources.schema import Attribute, Properties, Property

#: Seconds a property may make a caller's thread wait; callers give up after 60 anyway.
_LONGEST_SLEEP = 60.0
#: Seconds between two looks at an endless wait.
_POLL = 1.0


def _sleep(seconds: Any) -> None:
    time.sleep(min(float(seconds), _LONGEST_SLEEP))


class _Delay(CustomConstraint):
    """Takes as long to check a value as the value says."""

    def validate(self, value: Any, kind: str = "string") -> None:
        _sleep(value)


def _seconds(action: str) -> Property:
    article = "an" if action == "update" else "a"
    return Property(
        schema.NUMBER,
        f"Seconds to wait after {article} {action}. Defaults to the global wait_secs.",
        update_allowed=True,
    )


class TestResource(Resource):
    # pytest takes classes by their name
    __test__ = False

    type_name = "OS::Heat::TestResource"
    class_name = "TestResource"
    since = "5.0.0"
    description = (
        "Keeps a string, and behaves as its other properties tell it to.\n\n"
        "For tests of templates and of the engine: it can wait, fail, and demand its own replacement."
    )
    properties_schema = {
        "constraint_prop_secs": Property(
            schema.NUMBER,
            "Number value for delay during resolve constraint.",
            default=0,
            update_allowed=True,
            constraints=(_Delay("test_constr"),),
        ),
        "attr_wait_secs": Property(
            schema.NUMBER,
            "Number value for timeout during resolving output value.",
            default=0,
            update_allowed=True,
        ),
        "value": Property(schema.STRING, "The input string to be stored.", default="test_string", update_allowed=True),
        "update_replace_value": Property(schema.STRING, "Some value that can be stored but can not be updated."),
        "fail": Property(
            schema.BOOLEAN,
            "Value which can be set to fail the resource operation to test failure scenarios.",
            default=False,
            update_allowed=True,
        ),
        "update_replace": Property(
            schema.BOOLEAN,
            "Value which can be set to trigger update replace for the particular resource.",
            default=False,
            update_allowed=True,
        ),
        "wait_secs": Property(
            schema.NUMBER, "Seconds to wait after an action (-1 is infinite).", default=0, update_allowed=True
        ),
        "action_wait_secs": Property(
            schema.MAP,
            "Options for simulating waiting.",
            update_allowed=True,
            schema={action: _seconds(action) for action in ("create", "update", "delete")},
        ),
        "client_name": Property(schema.STRING, "Client to poll.", default="", update_allowed=True),
        "entity_name": Property(schema.STRING, "Client entity to poll.", default="", update_allowed=True),
    }
    attributes_schema = {
        "output": Attribute("The string that was stored. This value is also available by referencing the resource.")
    }
    supports_check = True

    def _wait(self, properties: Properties, action: str) -> Steps:
        secs = None
        if properties["action_wait_secs"]:
            secs = properties["action_wait_secs"][action]
        if secs is None:
            secs = properties["wait_secs"]
        until = self.host.now() + secs
        while secs < 0 or self.host.now() < until:
            yield _POLL if secs < 0 else min(_POLL, max(0.0, until - self.host.now()))
        if properties["fail"] and action != "delete":
            raise ValueError(f"Test Resource failed {self.record.name}")

    def create(self, properties: Properties) -> Steps:
        if not properties["fail"]:
            self.host.keep(
                self.record,
                physical_id=self.physical_name(),
                data={**self.record.data, "value": properties["value"]},
            )
        yield from self._wait(properties, "create")

    def replaced_by_change(self, changed: set[str], after: Properties) -> bool:
        return "value" in changed and bool(after["update_replace"])

    def update(self, properties: Properties, changed: Mapping[str, Any]) -> Steps:
        value = changed.get("value")
        if value:
            if not properties["fail"]:
                self.set_data(value=value)
            yield from self._wait(properties, "update")
        elif properties["fail"]:
            raise ValueError(f"Test Resource failed {self.record.name}")

    def delete(self, properties: Properties) -> Steps:
        yield from self._wait(properties, "delete")

    def check(self, properties: Properties) -> Steps:
        if not self.record.physical_id:
            raise Exception("Resource not created")  # noqa: TRY002 - its class name is part of the reason
        yield from ()

    def attribute(self, name: str, properties: Properties) -> Any:
        _sleep(properties["attr_wait_secs"])
        return self.record.data.get("value")

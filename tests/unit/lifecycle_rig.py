"""An engine with its state in a folder of the test's own, and short ways to call it."""

import copy
import pathlib
import time
from typing import Any

from heatperf.engine.service import Engine, Settings

VERSION = "2021-04-16"
_PATIENCE = 10.0


def hot(*, outputs: dict[str, Any] | None = None, **resources: Any) -> dict[str, Any]:
    """A template of these resources; a text stands for a TestResource with that value."""
    definitions = {
        name: {"type": "OS::Heat::TestResource", "properties": {"value": given}} if isinstance(given, str) else given
        for name, given in resources.items()
    }
    template: dict[str, Any] = {"heat_template_version": VERSION, "resources": copy.deepcopy(definitions)}
    if outputs:
        template["outputs"] = outputs
    return template


def probe(depends_on: Any = None, **properties: Any) -> dict[str, Any]:
    """A TestResource."""
    found: dict[str, Any] = {"type": "OS::Heat::TestResource", "properties": properties}
    if depends_on is not None:
        found["depends_on"] = depends_on
    return found


def await_that(condition: Any, what: str) -> Any:
    """Wait until ``condition()`` gives something and return it."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"{what} did not happen")


class Rig:
    """One engine and the calls of one project."""

    def __init__(self, state: pathlib.Path, settings: Settings | None = None, **context: Any) -> None:
        self.state = state
        self.settings = settings
        self.context = {"project_id": "p1", "user_id": "u1", "username": "me", "roles": ["member"], "is_admin": False}
        self.context |= context
        self.engine = Engine(state, host="here", settings=settings)

    def close(self, timeout: float = 5) -> None:
        self.engine.close(timeout)

    def reopen(self, timeout: float = 0) -> None:
        """Stop the engine, in the middle of things if need be, and start another on the same state."""
        self.close(timeout)
        self.engine = Engine(self.state, host="here", settings=self.settings)

    def call(self, method: str, as_caller: dict[str, Any] | None = None, /, **arguments: Any) -> Any:
        return self.engine.dispatch({**self.context, **(as_caller or {})}, method, arguments, "1.36")

    def create(self, name: str, template: Any, *, params: Any = None, files: Any = None, **args: Any) -> dict[str, str]:
        return self.call(
            "create_stack", stack_name=name, template=template, params=params or {}, files=files or {}, args=args
        )

    def update(self, identity: Any, template: Any, *, params: Any = None, files: Any = None, **args: Any) -> None:
        self.call(
            "update_stack",
            stack_identity=identity,
            template=template,
            params=params or {},
            files=files or {},
            args=args,
        )

    def show(self, identity: Any) -> dict[str, Any]:
        return self.call("show_stack", stack_identity=identity)[0]

    def ended(self, identity: Any, action: str | None = None) -> dict[str, Any]:
        """Wait for the stack's operation to end; ``action``: for one of this action."""

        def over() -> Any:
            shown = self.call("show_stack", stack_identity=identity, resolve_outputs=False)[0]
            return shown["stack_status"] != "IN_PROGRESS" and action in (None, shown["stack_action"])

        await_that(over, f"the end of {action or 'the operation'} of {identity['stack_name']}")
        return self.show(identity)

    def made(self, name: str, template: Any, **how: Any) -> dict[str, str]:
        """A stack that was created and is complete."""
        identity = self.create(name, template, **how)
        shown = self.ended(identity)
        assert shown["stack_status"] == "COMPLETE", shown["stack_status_reason"]
        return identity

    def state_of(self, identity: Any) -> str:
        shown = self.show(identity)
        return f"{shown['stack_action']}_{shown['stack_status']}"

    def resources(self, identity: Any) -> dict[str, dict[str, Any]]:
        found = self.call("list_stack_resources", stack_identity=identity, with_detail=True)
        return {resource["resource_name"]: resource for resource in found}

    def resource_states(self, identity: Any) -> dict[str, str]:
        return {
            name: f"{found['resource_action']}_{found['resource_status']}"
            for name, found in self.resources(identity).items()
        }

    def events(self, identity: Any, **how: Any) -> list[str]:
        """Events from the first on, as ``name ACTION_STATUS: reason``."""
        found = self.call("list_events", stack_identity=identity, **how)
        return [
            f"{event['resource_name']} {event['resource_action']}_{event['resource_status']}: "
            f"{event['resource_status_reason']}"
            for event in reversed(found)
        ]

"""Requests to make or change a stack: from their arguments to a checked definition.

Comes in: template, environment, files and options as they cross RPC. Goes out: Definition and options. Raises:
upstream's errors for everything a client can get wrong. Runs on threads of requests; nothing is stored here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heatperf.engine import records
from heatperf.engine.bound import StackFacts
from heatperf.engine.caller import Caller
from heatperf.engine.core import Core
from heatperf.engine.definition import Definition
from heatperf.engine.environment import Environment, merge_environments
from heatperf.engine.template import Template
from heatperf.errors import heat

_NAME = re.compile("[a-zA-Z][a-zA-Z0-9_.-]{0,254}$")
_TAG_LENGTH = 80


@dataclass(frozen=True)
class Request:
    """What a client sent with a stack.

    :param environment: its ``params`` argument
    :param environment_files: names among ``files``, in order
    """

    template: Any
    environment: dict[str, Any]
    files: dict[str, str]
    environment_files: list[str] | None = None
    files_container: str | None = None

    @classmethod
    def of(
        cls, template: Any, params: Any, files: Any, environment_files: Any = None, files_container: Any = None
    ) -> "Request":
        """A request from a call's arguments.

        :raises ClientNotAvailable: files are to be fetched from an object store, and there is none
        """
        if files_container:
            raise heat.ClientNotAvailable(client_name="swift")
        return cls(template, dict(params or {}), dict(files or {}), environment_files)

    def parse(self) -> tuple[Template, Environment]:
        """Template and merged environment."""
        template = Template.parse(self.template, files=self.files)
        merged = merge_environments(
            self.environment_files, self.files, self.environment, template.all_parameters(self.files)
        )
        return template, Environment(merged)

    def patched(self, row: records.Template, clear: Any) -> tuple[Template, Environment]:
        """Template and environment where what was not sent stays as it is stored.

        :param clear: names of parameters that go back to their defaults
        """
        files = {**row.files, **self.files}
        document = self.template if self.template is not None else row.template
        template = Template.parse(document, files=files)
        merged = merge_environments(
            self.environment_files, files, self.environment, template.all_parameters(self.files)
        )
        stored = row.environment
        cleared = set(clear or ())
        kept = {name: value for name, value in (stored.get("parameters") or {}).items() if name not in cleared}
        parameters = {**kept, **(merged.get("parameters") or {})}
        environment = Environment(
            {
                **stored,
                "parameters": {name: value for name, value in parameters.items() if name in template.parameters},
                "parameter_defaults": {
                    **(stored.get("parameter_defaults") or {}),
                    **(merged.get("parameter_defaults") or {}),
                },
                "event_sinks": [*(stored.get("event_sinks") or []), *(merged.get("event_sinks") or [])],
            }
        )
        environment.registry.load(merged.get("resource_registry") or {})
        return template, environment


def check_name(name: Any) -> None:
    """:raises StackValidationFailed: no stack can have this name"""
    if not isinstance(name, str):
        raise heat.StackValidationFailed(message=f"Invalid stack name {name}, must be a string")
    if not _NAME.match(name):
        raise heat.StackValidationFailed(
            message=f'Invalid stack name {name} must contain only alphanumeric or "_-." characters, must start with '
            "alpha and must be 255 characters or less."
        )


def options(args: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a stack that a request's ``args`` set.

    :raises ValueError: one has no such value
    :raises NotSupported: an adoption is asked for
    """
    found: dict[str, Any] = {}
    minutes = args.get("timeout_mins")
    if minutes not in ("0", 0, None):
        try:
            timeout = int(minutes)
        except (TypeError, ValueError):
            timeout = None
        if timeout is not None:
            if timeout <= 0:
                raise ValueError(f"Invalid timeout value {timeout}")
            found["timeout"] = timeout
    for name in ("converge", "disable_rollback"):
        if name in args:
            found[name] = _bool(name, args[name])
    if args.get("adopt_stack_data"):
        raise heat.NotSupported(feature="Stack Adopt")
    if args.get("tags") is not None:
        found["tags"] = _tags(args["tags"])
    return found


def _bool(name: str, value: Any) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise ValueError(f'Unrecognized value "{value}" for "{name}", acceptable values are: true, false.')
    return str(value).lower() == "true"


def _tags(tags: Any) -> list[str]:
    if not isinstance(tags, list):
        raise ValueError(f"Invalid tags, not a list: {tags}")
    for tag in tags:
        if not isinstance(tag, str):
            raise ValueError(f'Invalid tag, "{tag}" is not a string')
        if len(tag) > _TAG_LENGTH:
            raise ValueError(f'Invalid tag, "{tag}" is longer than {_TAG_LENGTH} characters')
        if "," in tag:
            raise ValueError(f'Invalid tag, "{tag}" contains a comma')
    return tags


def check_structure(core: Core, template: Template) -> None:
    """:raises StackValidationFailed: sections or keywords are wrong
    :raises RequestLimitExceeded: there are more resources than a stack may have
    """
    try:
        template.validate()
    except Exception as error:
        raise heat.StackValidationFailed(message=str(error)) from error
    _hold_limit(core, template)


def _hold_limit(core: Core, template: Template) -> None:
    most = core.settings.max_resources_per_stack
    if most != -1 and len(template.resources) > most:
        raise heat.RequestLimitExceeded(message=heat.StackResourceLimitExceeded.template)


def new_definition(core: Core, caller: Caller, name: Any, stack_id: str, request: Request) -> Definition:
    """The checked definition of a stack that is to be made.

    :raises StackExists: the project has a stack of this name
    :raises RequestLimitExceeded: the project has as many stacks as it may
    """
    template, environment = request.parse()
    with core.store.reading() as session:
        if core.find_named(session, caller, name) is not None:
            raise heat.StackExists(stack_name=name)
    most = core.settings.max_stacks_per_tenant
    if not caller.is_admin and 0 <= most <= core.count_stacks(caller):
        raise heat.RequestLimitExceeded(
            message=f"You have reached the maximum stacks per tenant, {most}. Please delete some stacks."
        )
    check_structure(core, template)
    check_name(name)
    facts = StackFacts(name=name, id=stack_id, project_id=caller.project_id or "")
    definition = Definition(template, environment, facts)
    definition.validate()
    return definition


def changed_definition(
    core: Core, stack: records.Stack, request: Request, args: Mapping[str, Any]
) -> tuple[Definition, dict[str, Any]]:
    """The checked definition that an update goes to, and the columns of the stack that it changes.

    :raises ImmutableParameterModified: a parameter that may not change would
    """
    existing = args.get("existing", False)
    if existing:
        template, environment = request.patched(core.template_row(stack), args.get("clear_parameters", []))
    else:
        template, environment = request.parse()
    _hold_limit(core, template)
    columns = {
        "timeout": stack.timeout,
        "disable_rollback": stack.disable_rollback,
        "converge": stack.converge,
        "tags": list(stack.tags) if existing else [],
        **options(args),
    }
    definition = Definition(template, environment, StackFacts(stack.name, stack.id, stack.tenant))
    current = core.definition(stack, stack.template_id)
    modified = current.parameters.immutable_modified(definition.parameters, environment.parameters)
    if modified:
        raise heat.ImmutableParameterModified(*modified)
    definition.validate()
    return definition, columns

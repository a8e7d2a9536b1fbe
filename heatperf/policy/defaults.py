"""The default policy rules, as tables.

In: nothing. Out: ``list_rules()`` with oslo.policy rule objects. Pure data; read before the fork.

Rule names, check strings, scopes and deprecated forms are a public contract: policy files of operators name them, and
one file serves heat-api, heat-api-cfn and heat-engine. Hence also rules that this server never asks (cloudformation:*,
resource_types:*). A test compares the tables with an installed Heat.
"""

from typing import NamedTuple

from oslo_log import versionutils
from oslo_policy import policy

MEMBER = "role:member and project_id:%(project_id)s"
READER = "role:reader and project_id:%(project_id)s"
ADMIN = "role:admin and project_id:%(project_id)s"
# Users that Heat itself creates for the resources of a stack, so that an instance can report back.
STACK_USER = "role:heat_stack_user and project_id:%(project_id)s"
READER_OR_STACK_USER = f"({READER}) or ({STACK_USER})"

DENY_STACK_USER = "rule:deny_stack_user"
ALLOW_EVERYBODY = "rule:allow_everybody"
DENY_EVERYBODY = "rule:deny_everybody"
CONTEXT_IS_ADMIN = "rule:context_is_admin"
PROJECT_ADMIN = "rule:project_admin"

PROJECT_SCOPE = ["project"]

_V1 = "/v1/{tenant_id}"
_STACK = f"{_V1}/stacks/{{stack_name}}/{{stack_id}}"
_RESOURCE = f"{_STACK}/resources/{{resource_name}}"
_SNAPSHOT = f"{_STACK}/snapshots/{{snapshot_id}}"
_CONFIGS = f"{_V1}/software_configs"
_DEPLOYMENTS = f"{_V1}/software_deployments"

DEPRECATED_REASON = (
    "Since the reader, member and admin roles of Keystone exist, the rule asks for one of them in the stack's own"
    " project. The old form, which only kept stack users out, counts in addition while [oslo_policy]"
    " enforce_new_defaults is off."
)


class Row(NamedTuple):
    """One rule: name without prefix, check, check of the deprecated form (None: there is none), purpose, calls."""

    name: str
    check: str
    old: str | None
    description: str
    calls: tuple[str, ...] = ()


BASE = (
    Row(
        "context_is_admin",
        "(role:admin and is_admin_project:True)",
        None,
        "Who counts as administrator of the whole deployment, and may then reach stacks of every project.",
    ),
    Row("project_admin", "role:admin", None, "Building block: administrators, whatever their project."),
    Row("deny_stack_user", "not role:heat_stack_user", None, "Building block: everybody but the users made by Heat."),
    Row("deny_everybody", "!", None, "Building block: nobody."),
    Row("allow_everybody", "", None, "Building block: everybody who got past authentication."),
)

# prefix -> rows. Each row: who may, who could before the default roles came, what for, "METHOD path" of the calls.
API: dict[str, tuple[Row, ...]] = {
    "actions": tuple(
        Row(name, check, DENY_STACK_USER, text, (f"POST {_STACK}/actions",))
        for name, check, text in (
            ("action", MEMBER, "Act on a stack as a whole, where no rule of the action's own is asked."),
            ("snapshot", MEMBER, "Take a snapshot through the actions call."),
            ("suspend", MEMBER, "Suspend all resources of a stack."),
            ("resume", MEMBER, "Wake a suspended stack."),
            ("check", READER, "Compare a stack with the real state of its resources."),
            ("cancel_update", MEMBER, "Stop an update under way and return to the state before it."),
            ("cancel_without_rollback", MEMBER, "Stop what is under way and leave the stack as it is then."),
        )
    ),
    "build_info": (
        Row("build_info", READER, DENY_STACK_USER, "See the revisions of API and engine.", (f"GET {_V1}/build_info",)),
    ),
    "events": (
        Row(
            "index",
            READER,
            DENY_STACK_USER,
            "List what happened to a stack, or to one of its resources.",
            (f"GET {_STACK}/events", f"GET {_RESOURCE}/events"),
        ),
        Row("show", READER, DENY_STACK_USER, "See one event.", (f"GET {_RESOURCE}/events/{{event_id}}",)),
    ),
    "resource": (
        Row("index", READER, DENY_STACK_USER, "List the resources of a stack.", (f"GET {_STACK}/resources",)),
        Row(
            "metadata",
            READER_OR_STACK_USER,
            ALLOW_EVERYBODY,
            "Read a resource's metadata; instances do it with their stack user.",
            (f"GET {_RESOURCE}/metadata",),
        ),
        Row(
            "signal",
            READER_OR_STACK_USER,
            ALLOW_EVERYBODY,
            "Signal a resource; wait conditions and scaling policies rely on stack users doing it.",
            (f"POST {_RESOURCE}/signal",),
        ),
        Row(
            "mark_unhealthy",
            MEMBER,
            DENY_STACK_USER,
            "Declare a resource broken, so that the next update replaces it.",
            (f"PATCH {_STACK}/resources/{{resource_name_or_physical_id}}",),
        ),
        Row("show", READER, DENY_STACK_USER, "See one resource.", (f"GET {_RESOURCE}",)),
    ),
    "service": (
        Row("index", ADMIN, CONTEXT_IS_ADMIN, "List the engines and whether they are alive.", (f"GET {_V1}/services",)),
    ),
    "software_configs": (
        Row(
            "global_index",
            DENY_EVERYBODY,
            None,
            "List software configurations of all projects.",
            (f"GET {_CONFIGS}",),
        ),
        Row("index", READER, DENY_STACK_USER, "List the project's software configurations.", (f"GET {_CONFIGS}",)),
        Row("create", MEMBER, DENY_STACK_USER, "Store a software configuration.", (f"POST {_CONFIGS}",)),
        Row("show", READER, DENY_STACK_USER, "See a software configuration.", (f"GET {_CONFIGS}/{{config_id}}",)),
        Row(
            "delete",
            MEMBER,
            DENY_STACK_USER,
            "Remove a software configuration that nothing deploys.",
            (f"DELETE {_CONFIGS}/{{config_id}}",),
        ),
    ),
    "software_deployments": (
        Row("index", READER, DENY_STACK_USER, "List software deployments.", (f"GET {_DEPLOYMENTS}",)),
        Row("create", MEMBER, DENY_STACK_USER, "Deploy a configuration to a server.", (f"POST {_DEPLOYMENTS}",)),
        Row(
            "show",
            READER,
            DENY_STACK_USER,
            "See a software deployment.",
            (f"GET {_DEPLOYMENTS}/{{deployment_id}}",),
        ),
        Row(
            "update",
            MEMBER,
            DENY_STACK_USER,
            "Change a software deployment or report its outcome.",
            (f"PUT {_DEPLOYMENTS}/{{deployment_id}}",),
        ),
        Row(
            "delete",
            MEMBER,
            DENY_STACK_USER,
            "Remove a software deployment.",
            (f"DELETE {_DEPLOYMENTS}/{{deployment_id}}",),
        ),
        Row(
            "metadata",
            READER_OR_STACK_USER,
            None,
            "Read what a server has to deploy; agents poll it with their stack user.",
            (f"GET {_DEPLOYMENTS}/metadata/{{server_id}}",),
        ),
    ),
    "stacks": (
        Row(
            "abandon",
            MEMBER,
            DENY_STACK_USER,
            "Forget a stack but keep its resources.",
            (f"DELETE {_STACK}/abandon",),
        ),
        Row("create", MEMBER, DENY_STACK_USER, "Create a stack.", (f"POST {_V1}/stacks",)),
        Row("delete", MEMBER, DENY_STACK_USER, "Delete a stack and its resources.", (f"DELETE {_STACK}",)),
        Row("detail", READER, DENY_STACK_USER, "List stacks with all their fields.", (f"GET {_V1}/stacks/detail",)),
        Row(
            "export",
            MEMBER,
            DENY_STACK_USER,
            "Export what adopting the stack elsewhere needs.",
            (f"GET {_STACK}/export",),
        ),
        Row(
            "generate_template",
            MEMBER,
            DENY_STACK_USER,
            "Get a template that shows how to use a resource type.",
            (f"GET {_V1}/resource_types/{{type_name}}/template",),
        ),
        Row(
            "global_index",
            DENY_EVERYBODY,
            None,
            "List stacks of all projects (global_tenant=true).",
            (f"GET {_V1}/stacks",),
        ),
        Row("index", READER, DENY_STACK_USER, "List the project's stacks.", (f"GET {_V1}/stacks",)),
        Row(
            "list_resource_types",
            READER,
            DENY_STACK_USER,
            "List the resource types that templates may use.",
            (f"GET {_V1}/resource_types",),
        ),
        Row(
            "list_template_versions",
            READER,
            DENY_STACK_USER,
            "List the template versions this cloud understands.",
            (f"GET {_V1}/template_versions",),
        ),
        Row(
            "list_template_functions",
            READER,
            DENY_STACK_USER,
            "List the functions of a template version.",
            (f"GET {_V1}/template_versions/{{template_version}}/functions",),
        ),
        Row(
            "lookup",
            READER_OR_STACK_USER,
            ALLOW_EVERYBODY,
            "Be redirected from a stack's name, id or ARN to its full address.",
            (f"GET {_V1}/stacks/{{stack_identity}}",),
        ),
        Row("preview", READER, DENY_STACK_USER, "See what creating a stack would do.", (f"POST {_V1}/stacks/preview",)),
        Row(
            "resource_schema",
            READER,
            DENY_STACK_USER,
            "See properties and attributes of a resource type.",
            (f"GET {_V1}/resource_types/{{type_name}}",),
        ),
        Row("show", READER, DENY_STACK_USER, "See a stack.", (f"GET {_STACK}",)),
        Row("template", READER, DENY_STACK_USER, "Read a stack's template.", (f"GET {_STACK}/template",)),
        Row("environment", READER, DENY_STACK_USER, "Read a stack's environment.", (f"GET {_STACK}/environment",)),
        Row(
            "files",
            READER,
            DENY_STACK_USER,
            "Read the files that belong to a stack's template.",
            (f"GET {_STACK}/files",),
        ),
        Row("update", MEMBER, DENY_STACK_USER, "Update a stack from a full template.", (f"PUT {_STACK}",)),
        Row(
            "update_patch",
            MEMBER,
            DENY_STACK_USER,
            "Update a stack, reusing what the request leaves out.",
            (f"PATCH {_STACK}",),
        ),
        Row(
            "update_no_change",
            "rule:stacks:update_patch",
            None,
            "Start an update that changes nothing, e.g. to replace what was marked unhealthy.",
            (f"PATCH {_STACK}",),
        ),
        Row("preview_update", MEMBER, DENY_STACK_USER, "See what a full update would do.", (f"PUT {_STACK}/preview",)),
        Row(
            "preview_update_patch",
            MEMBER,
            DENY_STACK_USER,
            "See what an update that reuses the rest would do.",
            (f"PATCH {_STACK}/preview",),
        ),
        Row("validate_template", MEMBER, DENY_STACK_USER, "Have a template checked.", (f"POST {_V1}/validate",)),
        Row("snapshot", MEMBER, DENY_STACK_USER, "Take a snapshot of a stack.", (f"POST {_STACK}/snapshots",)),
        Row("show_snapshot", READER, DENY_STACK_USER, "See a snapshot.", (f"GET {_SNAPSHOT}",)),
        Row("delete_snapshot", MEMBER, DENY_STACK_USER, "Delete a snapshot.", (f"DELETE {_SNAPSHOT}",)),
        Row("list_snapshots", READER, DENY_STACK_USER, "List the snapshots of a stack.", (f"GET {_STACK}/snapshots",)),
        Row(
            "restore_snapshot", MEMBER, DENY_STACK_USER, "Return a stack to a snapshot.", (f"POST {_SNAPSHOT}/restore",)
        ),
        Row("list_outputs", READER, DENY_STACK_USER, "List the outputs of a stack.", (f"GET {_STACK}/outputs",)),
        Row(
            "show_output",
            READER,
            DENY_STACK_USER,
            "Read one output of a stack.",
            (f"GET {_STACK}/outputs/{{output_key}}",),
        ),
    ),
}

# Asked by heat-api-cfn, which shares the policy file: query action -> who may, who could before.
CLOUDFORMATION: dict[str, tuple[str, str]] = {
    "ListStacks": (READER, DENY_STACK_USER),
    "CreateStack": (MEMBER, DENY_STACK_USER),
    "DescribeStacks": (READER, DENY_STACK_USER),
    "DeleteStack": (MEMBER, DENY_STACK_USER),
    "UpdateStack": (MEMBER, DENY_STACK_USER),
    "CancelUpdateStack": (MEMBER, DENY_STACK_USER),
    "DescribeStackEvents": (READER, DENY_STACK_USER),
    "ValidateTemplate": (READER, DENY_STACK_USER),
    "GetTemplate": (READER, DENY_STACK_USER),
    "EstimateTemplateCost": (READER, DENY_STACK_USER),
    "DescribeStackResource": (READER_OR_STACK_USER, ALLOW_EVERYBODY),
    "DescribeStackResources": (READER, DENY_STACK_USER),
    "ListStackResources": (READER, DENY_STACK_USER),
}

# Asked by heat-engine for each resource of a template: types that need an administrator.
RESOURCE_TYPES = (
    "OS::Nova::Flavor",
    "OS::Cinder::EncryptedVolumeType",
    "OS::Cinder::VolumeType",
    "OS::Cinder::Quota",
    "OS::Neutron::Quota",
    "OS::Nova::Quota",
    "OS::Octavia::Quota",
    "OS::Manila::ShareType",
    "OS::Neutron::ProviderNet",
    "OS::Neutron::QoSPolicy",
    "OS::Neutron::QoSBandwidthLimitRule",
    "OS::Neutron::QoSDscpMarkingRule",
    "OS::Neutron::QoSMinimumBandwidthRule",
    "OS::Neutron::QoSMinimumPacketRateRule",
    "OS::Neutron::Segment",
    "OS::Nova::HostAggregate",
    "OS::Cinder::QoSSpecs",
    "OS::Cinder::QoSAssociation",
    "OS::Keystone::*",
    "OS::Blazar::Host",
    "OS::Octavia::Flavor",
    "OS::Octavia::FlavorProfile",
    "OS::Octavia::AvailabilityZone",
    "OS::Octavia::AvailabilityZoneProfile",
)


def _deprecated(name: str, check: str | None) -> policy.DeprecatedRule | None:
    if check is None:
        return None
    return policy.DeprecatedRule(
        name=name,
        check_str=check,
        deprecated_reason=DEPRECATED_REASON,
        deprecated_since=versionutils.deprecated.WALLABY,
    )


def _api_rule(prefix: str, row: Row) -> policy.DocumentedRuleDefault:
    name = f"{prefix}:{row.name}"
    calls = [call.split(" ") for call in row.calls]
    return policy.DocumentedRuleDefault(
        name=name,
        check_str=row.check,
        description=row.description,
        operations=[{"method": method, "path": path} for method, path in calls],
        # What nobody may do by default has no scope either: an operator who opens it decides for whom.
        scope_types=None if row.check == DENY_EVERYBODY else PROJECT_SCOPE,
        deprecated_rule=_deprecated(name, row.old),
    )


def list_rules() -> list[policy.RuleDefault]:
    """All default rules, in the order of a sample file. Entry point ``oslo.policy.policies: heatperf``."""
    rules = [policy.RuleDefault(name=row.name, check_str=row.check, description=row.description) for row in BASE]
    rules += [_api_rule(prefix, row) for prefix, rows in API.items() for row in rows]
    for action, (check, old) in CLOUDFORMATION.items():
        name = f"cloudformation:{action}"
        rules.append(
            policy.RuleDefault(
                name=name,
                check_str=check,
                description=f"Call {action} of the CloudFormation API (asked by heat-api-cfn only).",
                scope_types=PROJECT_SCOPE,
                deprecated_rule=_deprecated(name, old),
            )
        )
    rules += [
        policy.RuleDefault(
            name=f"resource_types:{kind}",
            check_str=PROJECT_ADMIN,
            description=f"Use {kind} in a template (asked by heat-engine).",
            scope_types=PROJECT_SCOPE,
        )
        for kind in RESOURCE_TYPES
    ]
    return rules

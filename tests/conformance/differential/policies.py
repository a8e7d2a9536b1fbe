"""Strategies for policy files: rules for some of the API's actions, of the kinds that operators write."""

from typing import Any

from hypothesis import strategies as st

RULES = [
    *(f"stacks:{name}" for name in ("index", "global_index", "detail", "create", "preview", "lookup", "show")),
    *(f"stacks:{name}" for name in ("template", "environment", "files", "update", "update_patch", "delete")),
    *(f"stacks:{name}" for name in ("update_no_change", "preview_update", "preview_update_patch", "abandon", "export")),
    *(f"stacks:{name}" for name in ("validate_template", "list_resource_types", "resource_schema")),
    *(f"stacks:{name}" for name in ("generate_template", "list_template_versions", "list_template_functions")),
    *(f"stacks:{name}" for name in ("snapshot", "show_snapshot", "delete_snapshot", "list_snapshots")),
    *(f"stacks:{name}" for name in ("restore_snapshot", "list_outputs", "show_output")),
    *(f"resource:{name}" for name in ("index", "show", "metadata", "signal", "mark_unhealthy")),
    *(f"events:{name}" for name in ("index", "show")),
    *(f"actions:{name}" for name in ("action", "suspend", "resume", "check", "cancel_update")),
    *(f"software_configs:{name}" for name in ("index", "global_index", "show", "create", "delete")),
    *(f"software_deployments:{name}" for name in ("index", "metadata", "show", "create", "update", "delete")),
    *("build_info:build_info", "service:index", "context_is_admin", "deny_stack_user", "project_admin"),
    *("deny_everybody", "allow_everybody", "project_reader", "project_member", "project_context"),
]

_ATOMS = st.sampled_from(
    [
        *("@", "!", "", "role:admin", "role:member", "role:reader", "role:MEMBER", "role:heat_stack_user"),
        *("role:custom_role", "user_id:u-alice", "user_id:admin", "project_id:%(project_id)s", "is_admin:True"),
        *("project_id:11111111111111111111111111111111", "is_admin_project:True", "rule:deny_stack_user"),
        *("rule:mine", "rule:nobody_wrote_this", "'admin':%(role.name)s", "system_scope:all", "user_id:%(user_id)s"),
        *("tenant:%(project_id)s", "user:u-alice", "domain_id:default", "project_domain_id:default", "nonsense"),
        *("is_admin:False", "roles:member", "token.roles.name:member", "None:%(user_id)s", "True:%(is_admin)s"),
    ]
)


def _combined(parts: Any) -> Any:
    words = st.sampled_from(["and", "or"])
    pair = st.tuples(parts, words, parts).map(lambda three: f"({three[0] or '@'} {three[1]} {three[2] or '@'})")
    return pair | parts.map(lambda part: f"not {part}" if part else "!")


_CHECKS = st.recursive(_ATOMS, _combined, max_leaves=4)

#: Policies as mappings from rule to check.
POLICIES = st.dictionaries(st.sampled_from(RULES) | st.just("mine"), _CHECKS, max_size=14)

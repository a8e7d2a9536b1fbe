"""The policy.yaml sample: every default rule, commented out, with what it guards.

In: nothing. Out: text, the same on every machine. A test keeps etc/heatperf/policy.yaml.sample current.
"""

import textwrap

from oslo_policy import policy

from heatperf.policy import defaults

_HEADER = """\
Default rules of the Heat API. A rule in policy.yaml replaces the default of that name; leave out what shall stay
as it is. Rules are asked with the caller's token: its scope must be among the scopes named, and the rule must hold.

The forms called "before" count in addition only while [oslo_policy] enforce_new_defaults is false, and only for
rules that the file does not name.
"""


def _comment(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 118, initial_indent=f"# {indent}", subsequent_indent=f"# {indent}") + "\n"


def _entry(rule: policy.RuleDefault) -> str:
    text = _comment(rule.description or "")
    for operation in getattr(rule, "operations", ()):
        text += f"#   {operation['method']} {operation['path']}\n"
    if rule.scope_types:
        text += f"# Scope: {', '.join(rule.scope_types)}\n"
    if rule.deprecated_rule:
        text += f'# Before: "{rule.deprecated_rule.check_str}"\n'
    return f'{text}#"{rule.name}": "{rule.check_str}"\n'


def policy_yaml() -> str:
    """The sample file."""
    header = "".join(_comment(part) + "#\n" for part in _HEADER.split("\n\n"))
    return header.removesuffix("#\n") + "\n" + "\n".join(_entry(rule) for rule in defaults.list_rules())

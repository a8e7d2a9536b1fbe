"""One question: may this caller do that?

In: a RequestContext, a rule name and a target. Out: True or False. Raises oslo_policy's PolicyNotRegistered for a rule
that no default declares (a bug of ours, not of the caller), and whatever a remote check (http:) raises. Built before
the fork, so that a broken policy file refuses the start; asked on the worker's loop.

Files are those of oslo.policy: [oslo_policy] policy_file and policy_dirs, reloaded when they change.
"""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

import yaml
from oslo_config import cfg
from oslo_policy import policy

from heatperf.errors import ConfigurationError
from heatperf.policy import defaults

LOG = logging.getLogger(__name__)

LEGACY_FILE = "policy.json"


class Context(Protocol):
    """What a rule gets to know of the caller; heatperf.context.RequestContext is one."""

    def to_policy_values(self) -> Any: ...


class Policy:
    """The rules in force.

    :param conf: parsed configuration
    :raises ConfigurationError: a policy file cannot be read or is no mapping of rule names to rules
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        # A rule that neither files nor defaults declare is refused; oslo.policy's own default would look for a rule
        # called "default", which files of other services bring along.
        nobody = policy.Rules.from_dict({"nobody": "!"})["nobody"]
        self.enforcer = policy.Enforcer(conf, policy_file=_file(conf), default_rule=nobody)
        # Most defaults have a deprecated form; one warning each at every start says nothing an operator can use.
        self.enforcer.suppress_deprecation_warnings = True
        self.enforcer.register_defaults(defaults.list_rules())
        self._load()
        self._settings = conf.heatperf
        self._pool: Any = None
        self._checked: tuple[int, int, bool] = (0, 0, False)

    def start(self, loop: Any) -> None:
        """Make the pool that rules asking another server wait in: called in the worker, after the fork."""
        self._pool = loop.pool("policy", self._settings.auth_concurrency, self._settings.auth_queue)

    def stop(self) -> None:
        """Release it: called after the drain."""
        if self._pool is not None:
            self._pool.stop()

    def blocks(self) -> bool:
        """Whether any rule in force is of a kind that may wait: ``http:`` and checks that extensions bring."""
        rules: Mapping[str, Any] = self.enforcer.rules or {}
        rules_id, size, answer = self._checked
        if (rules_id, size) != (id(rules), len(rules)):
            answer = any(_may_wait(check) for check in rules.values())
            self._checked = (id(rules), len(rules), answer)
        return answer

    def _load(self) -> None:
        try:
            self.enforcer.load_rules()
        except cfg.ConfigFilesPermissionDeniedError as error:
            raise ConfigurationError(
                "this user may not read the file", remedy="run as the service user", file=", ".join(error.config_files)
            ) from None
        except (ValueError, AttributeError, TypeError, OSError) as error:
            raise _broken(self.enforcer, error) from None

    def allowed(self, context: Context, rule: str, target: Mapping[str, Any] | None = None) -> bool:
        """Whether the caller may do what a rule guards.

        A token of the wrong scope (system or domain where a project is needed) is simply not allowed.

        :param rule: full name, e.g. ``stacks:create``
        :param target: attributes of the object, e.g. ``{"project_id": ...}``
        :raises oslo_policy.policy.PolicyNotRegistered: no default declares the rule
        """
        if self._pool is not None and self.blocks():
            return bool(self._pool.run(self._ask, context, rule, target))
        return self._ask(context, rule, target)

    def _ask(self, context: Context, rule: str, target: Mapping[str, Any] | None) -> bool:
        return bool(self.enforcer.authorize(rule, target or {}, context.to_policy_values(), do_raise=False))

    def is_admin(self, context: Context) -> bool:
        """Whether the caller is an administrator of the whole deployment (rule ``context_is_admin``)."""
        return self.allowed(context, "context_is_admin")


def _may_wait(check: Any) -> bool:
    """Whether a parsed rule, or a part of it, is neither combination nor comparison of oslo.policy's own."""
    parts = getattr(check, "rules", None)
    if parts is None and isinstance(getattr(check, "rule", None), policy._checks.BaseCheck):
        parts = [check.rule]
    if parts is not None:
        return any(_may_wait(part) for part in parts)
    return type(check).__module__ != policy._checks.__name__


def _file(conf: cfg.ConfigOpts) -> str | None:
    """policy.json where an old installation has nothing else, None for what [oslo_policy] policy_file says.

    oslo.policy 6 dropped this fallback; without it the restrictions in such a file would silently vanish.
    """
    name = conf.oslo_policy.policy_file
    location = conf.get_location("policy_file", "oslo_policy")
    if location is not None and location.location.is_user_controlled:
        if not conf.find_file(name):
            LOG.warning("Policy file %s does not exist; only the default rules are in force", name)
        return None
    if conf.find_file(name) or not conf.find_file(LEGACY_FILE):
        return None
    LOG.warning(
        "Reading %s because there is no %s; rename it, as other services no longer look for it",
        conf.find_file(LEGACY_FILE),
        name,
    )
    return LEGACY_FILE


def _broken(enforcer: policy.Enforcer, error: Exception) -> ConfigurationError:
    """Say which file is at fault and where; oslo.policy's own exceptions name none."""
    if str(error).endswith("is not a directory"):
        return ConfigurationError(str(error), remedy="name directories", option="[oslo_policy] policy_dirs")
    # The file that was read last is the one that could not be used.
    file = next(reversed(enforcer._file_cache), None)
    remedy = 'write YAML lines like "stacks:create": "role:member"'
    cause = error.__context__
    if isinstance(cause, yaml.MarkedYAMLError) and cause.problem_mark:
        return ConfigurationError(
            f"this is no YAML: {cause.problem}", remedy=remedy, file=f"{file}:{cause.problem_mark.line + 1}"
        )
    if isinstance(error, AttributeError | TypeError):
        return ConfigurationError("this is no mapping of rule names to rules (texts)", remedy=remedy, file=file)
    return ConfigurationError(str(error), remedy=remedy, file=file)

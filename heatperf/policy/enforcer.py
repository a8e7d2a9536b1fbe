"""One question: may this caller do that?

In: a RequestContext, a rule name and a target. Out: True or False. Raises oslo_policy's PolicyNotRegistered for a rule
that no default declares (a bug of ours, not of the caller), and whatever a remote check (http:) raises. Built before
the fork, so that a broken policy file refuses the start; asked on the worker's loop.

Files are those of oslo.policy: [oslo_policy] policy_file and policy_dirs. The worker looks at them once a second, and
not per request; what has changed is read into a new RuleSet, which takes the place of the old one when it is whole. If
it cannot be read, that is logged, and the rules that were in force stay in force.

Rules are compiled (see compiled.py); what a caller may do in its own project is remembered with the caller, for as long
as the RuleSet is in force. What cannot be compiled is asked of oslo.policy's Enforcer, in native threads if it may wait
for another server. So is everything while oslo.policy logs at DEBUG, for its line about each decision.
"""

import difflib
import errno
import logging
import os
import stat
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Protocol

import yaml
from oslo_config import cfg
from oslo_policy import policy

from heatperf.context import RequestContext
from heatperf.errors import ConfigurationError
from heatperf.policy import defaults
from heatperf.policy.compiled import Decision, compile_rules

LOG = logging.getLogger(__name__)

#: Where oslo.policy says at DEBUG what it was asked.
_ENFORCER_LOG = logging.getLogger(policy.__name__)

LEGACY_FILE = "policy.json"

#: Seconds between two looks at the files.
INTERVAL = 1.0


class Context(Protocol):
    """What a rule gets to know of the caller; heatperf.context.RequestContext is one."""

    def to_policy_values(self) -> Any: ...


#: What oslo.policy raises for files that it cannot use; it wraps little of what goes wrong inside.
UNUSABLE = (ValueError, TypeError, AttributeError, OSError, RecursionError, StopIteration, yaml.YAMLError, cfg.Error)

#: Credentials of RequestContext.to_policy_values that are called otherwise there.
_ATTRIBUTES = {"user": "user_id", "tenant": "project_id", "is_admin": "_is_admin"}
#: And those that are called the same.
_SAME = (
    "auth_token_info",
    "domain_id",
    "is_admin_project",
    "project_domain_id",
    "project_id",
    "roles",
    "service_project_domain_id",
    "service_project_id",
    "service_roles",
    "service_user_domain_id",
    "service_user_id",
    "system_scope",
    "user_domain_id",
    "user_id",
)
_ATTRIBUTES.update(zip(_SAME, _SAME, strict=True))

#: Under this name a caller's ``decisions`` hold whether it is an administrator; no rule is called so.
_IS_ADMIN = "is_admin"
_NOTHING: Mapping[str, Any] = {}


class _Enforcer(policy.Enforcer):
    """oslo.policy's, which remembers where rules come from, and reads its files once."""

    def __init__(self, conf: cfg.ConfigOpts, policy_file: str | None = None) -> None:
        # A rule that neither files nor defaults declare is refused; oslo.policy's own default would look for a rule
        # called "default", which files of other services bring along.
        nobody = policy.Rules.from_dict({"nobody": "!"})["nobody"]
        super().__init__(conf, policy_file=policy_file, default_rule=nobody)
        # Most defaults have a deprecated form; one warning each at every start says nothing an operator can use.
        self.suppress_deprecation_warnings = True
        #: the file that was read last
        self.reading: str | None = None
        #: where files set which rule
        self.origins: dict[str, str] = {}
        #: directories of rules that were there
        self.directories: list[str] = []
        self._loaded = False

    def _load_policy_file(self, path: str, force_reload: bool, overwrite: bool = True) -> bool:
        self.reading = path
        # A file that vanished counts as an empty one to oslo.policy, which drops every restriction in it.
        os.stat(path)
        return super()._load_policy_file(path, force_reload, overwrite)

    def _record_file_rules(self, data: str, overwrite: bool = False) -> None:
        super()._record_file_rules(data, overwrite)
        for name in policy.parse_file_contents(data):
            self.origins[name] = self.reading or ""

    def load_rules(self, force_reload: bool = False) -> None:
        """Read the files; oslo.policy calls this before every decision, and only the first call counts."""
        if self._loaded:
            return
        super().load_rules(force_reload)
        found = [self.conf.find_file(path) for path in self.conf.oslo_policy.policy_dirs]
        self.directories = [path for path in found if path]
        self._loaded = True


class RuleSet:
    """The rules that files and defaults say together; never changes.

    :param enforcer: a new one, whose files have not been read
    :param before: the one whose place it takes: what that one had files for must still be there
    :raises UNUSABLE: a policy file cannot be read or is no mapping of rule names to rules
    """

    def __init__(self, enforcer: _Enforcer, before: "RuleSet | None" = None) -> None:
        self.enforcer = enforcer
        #: stands for this RuleSet where something outlives it
        self.generation = object()
        if before is None:
            enforcer.register_defaults(defaults.list_rules())
        else:
            enforcer.registered_rules = before.enforcer.registered_rules
            enforcer.policy_path = before.enforcer.policy_path
            for path in before.enforcer.directories:
                os.stat(path)
        enforcer.load_rules()
        #: whether a rule may wait for another server: ``http:`` and checks that extensions bring
        self.blocks = any(_may_wait(check) for check in enforcer.rules.values())
        self.decisions = {} if self.blocks else compile_rules(enforcer.rules, enforcer.registered_rules)

    def values(self, context: Context, decision: Decision) -> Mapping[str, Any]:
        """Return the credentials that a decision reads, as oslo.policy sees them."""
        values: MutableMapping[str, Any]
        if type(context) is RequestContext:
            # what to_policy_values says, without making all of it
            values = {name: getattr(context, _ATTRIBUTES[name]) for name in decision.reads if name in _ATTRIBUTES}
            if "system" in decision.reads and context.system_scope:
                values["system"] = context.system_scope
            return values
        values = context.to_policy_values()
        if values.get("system_scope"):
            values["system"] = values.get("system_scope")
        return values

    def decide(self, context: Context, rule: str, target: Mapping[str, Any]) -> bool:
        """Answer without waiting for anybody but, where the rule says so, another server.

        :raises oslo_policy.policy.PolicyNotRegistered: no default declares the rule
        """
        decision = self.decisions.get(rule)
        if decision is None or type(target) is not dict or _ENFORCER_LOG.isEnabledFor(logging.DEBUG):
            return bool(self.enforcer.authorize(rule, target, context.to_policy_values(), do_raise=False))
        return bool(decision.check(target, self.values(context, decision)))

    def may_remember(self, rule: str) -> bool:
        """Whether the answer depends on nothing but the caller, its project and this RuleSet.

        Whether the caller counts as administrator is decided for each request, perhaps by the RuleSet before.
        """
        decision = self.decisions.get(rule)
        return (
            decision is not None and "is_admin" not in decision.reads and not _ENFORCER_LOG.isEnabledFor(logging.DEBUG)
        )


class Policy:
    """The rules in force.

    :param conf: parsed configuration
    :raises ConfigurationError: a policy file cannot be read or is no mapping of rule names to rules
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._file = _file(conf)
        self._settings = conf.heatperf
        self._pool: Any = None
        #: the files as they were before they were last read
        self._seen = self._state(None)
        self._broken = False
        enforcer = _Enforcer(self._conf, self._file)
        try:
            self.rules = RuleSet(enforcer)
        except UNUSABLE as error:
            raise _broken(enforcer, error) from None

    @property
    def enforcer(self) -> _Enforcer:
        """oslo.policy's enforcer with the rules in force."""
        return self.rules.enforcer

    def start(self, loop: Any) -> None:
        """Watch the files, and make the pool for rules that ask another server: in the worker, after the fork."""
        self._pool = loop.pool("policy", self._settings.auth_concurrency, self._settings.auth_queue)
        loop.every(INTERVAL, self.reload)

    def blocks(self) -> bool:
        """Whether any rule in force is of a kind that may wait: ``http:`` and checks that extensions bring."""
        return self.rules.blocks

    def reload(self) -> None:
        """Read the files again if they have changed; never raises for what they hold."""
        state = self._state(self.rules.enforcer)
        if state == self._seen:
            return
        # Taken before the files are read, lest a correction in between goes unnoticed.
        self._seen = state
        enforcer = _Enforcer(self._conf, self._file)
        try:
            self.rules = RuleSet(enforcer, self.rules)
        except UNUSABLE as error:
            self._broken = True
            LOG.error("The rules that were in force stay in force, as policy is broken: %s", _broken(enforcer, error))
            return
        if self._broken:
            self._broken = False
            LOG.warning("Policy is usable again; the rules of its files are in force")

    def _state(self, enforcer: _Enforcer | None) -> list[Any]:
        """Name, times, size and inode of everything that a reload reads, links followed.

        A mounted ConfigMap changes by turning a link to another directory: other inodes under the same names.
        """
        conf = self._conf
        path = enforcer.policy_path if enforcer is not None else None
        paths = [path or conf.find_file(self._file or conf.oslo_policy.policy_file)]
        paths += [conf.find_file(directory) for directory in conf.oslo_policy.policy_dirs]
        found: list[Any] = []
        for known in paths:
            if known is None:
                continue
            names = [known]
            try:
                if os.path.isdir(known):
                    names += sorted(os.path.join(known, name) for name in os.listdir(known))
            except OSError as error:
                found.append((known, error.errno))
            found += map(_stamp, names)
        return found

    def unknown(self) -> Iterator[tuple[str, str]]:
        """Rules of the files that nothing asks for: the file, and a sentence that names the rule.

        Known are the rules that defaults declare, also under their old names, and what any rule in force refers to.
        """
        declared = dict(self.enforcer.registered_rules)
        known = set(declared)
        known.update(rule.deprecated_rule.name for rule in declared.values() if rule.deprecated_rule)
        for check in (self.enforcer.rules or {}).values():
            known.update(_referred(check))
        for name in self.enforcer.file_rules:
            if name in known:
                continue
            meant = difflib.get_close_matches(name, sorted(declared), n=1, cutoff=0.75)
            hint = f"did you mean {meant[0]!r}?" if meant else "it has no effect"
            yield self.enforcer.origins.get(name, ""), f"nothing asks for the rule {name!r}; {hint}"

    def allowed(self, context: Context, rule: str, target: Mapping[str, Any] | None = None) -> bool:
        """Whether the caller may do what a rule guards.

        A token of the wrong scope (system or domain where a project is needed) is simply not allowed.

        :param rule: full name, e.g. ``stacks:create``
        :param target: attributes of the object, e.g. ``{"project_id": ...}``
        :raises oslo_policy.policy.PolicyNotRegistered: no default declares the rule
        """
        caller = getattr(context, "caller", None)
        if caller is None or target != {"project_id": context.project_id}:  # type: ignore[attr-defined]
            return self._ask(context, rule, target or _NOTHING)
        return self._remembered(caller, rule, context, rule, target)

    def is_admin(self, context: Context) -> bool:
        """Whether the caller is an administrator of the whole deployment (rule ``context_is_admin``)."""
        caller = getattr(context, "caller", None)
        if caller is None:
            return self._ask(context, "context_is_admin", _NOTHING)
        return self._remembered(caller, _IS_ADMIN, context, "context_is_admin", _NOTHING)

    def _remembered(self, caller: Any, key: str, context: Context, rule: str, target: Mapping[str, Any]) -> bool:
        rules = self.rules
        if caller.decided_by is not rules.generation:
            caller.decisions.clear()
            caller.decided_by = rules.generation
        answer: bool | None = caller.decisions.get(key)
        if answer is None:
            answer = self._ask(context, rule, target)
            if rules.may_remember(rule):  # nobody has waited then, so the rules are still the same
                caller.decisions[key] = answer
        return answer

    def _ask(self, context: Context, rule: str, target: Mapping[str, Any]) -> bool:
        rules = self.rules
        if rules.blocks and self._pool is not None:
            return bool(self._pool.run(rules.decide, context, rule, target))
        return rules.decide(context, rule, target)


def _stamp(path: str) -> Any:
    try:
        status = os.stat(path)
    except OSError as error:
        return path, error.errno
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        return path, status.st_ino  # a device such as /dev/null has times of its own
    return path, status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _referred(check: Any) -> Iterator[str]:
    """Names that a parsed rule refers to by ``rule:``."""
    if isinstance(check, policy.RuleCheck):
        yield check.match
    parts = [*(getattr(check, "rules", None) or ()), getattr(check, "rule", None)]
    for part in parts:
        if isinstance(part, policy._checks.BaseCheck):
            yield from _referred(part)


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


def _broken(enforcer: _Enforcer, error: Exception) -> ConfigurationError:
    """Say which file is at fault and where; oslo.policy's own exceptions name none."""
    if str(error).endswith("is not a directory"):
        return ConfigurationError(str(error), remedy="name directories", option="[oslo_policy] policy_dirs")
    if isinstance(error, cfg.ConfigFilesPermissionDeniedError):
        return ConfigurationError(
            "this user may not read the file", remedy="run as the service user", file=", ".join(error.config_files)
        )
    if isinstance(error, OSError) and error.filename:
        remedy = "restore it; once restarted, the server would do without" if error.errno == errno.ENOENT else None
        return ConfigurationError(error.strerror or str(error), remedy, file=str(error.filename))
    file = enforcer.reading
    remedy = 'write YAML lines like "stacks:create": "role:member"'
    cause = error.__context__
    if isinstance(cause, yaml.MarkedYAMLError) and cause.problem_mark:
        return ConfigurationError(
            f"this is no YAML: {cause.problem}", remedy=remedy, file=f"{file}:{cause.problem_mark.line + 1}"
        )
    if isinstance(error, AttributeError | TypeError):
        return ConfigurationError("this is no mapping of rule names to rules (texts)", remedy=remedy, file=file)
    return ConfigurationError(str(error), remedy=remedy, file=file)

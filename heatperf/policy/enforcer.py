"""One question: may this caller do that?

In: a RequestContext, a rule name and a target. Out: True or False. Raises oslo_policy's PolicyNotRegistered for a rule
that no default declares (a bug of ours, not of the caller), and whatever a remote check (http:) raises. Built before
the fork, so that a broken policy file refuses the start; asked on the worker's loop.

Files are those of oslo.policy: [oslo_policy] policy_file and policy_dirs, reloaded when they change. One that breaks
while the server runs is logged, and the rules that were in force stay in force.
"""

import difflib
import errno
import logging
import os
import threading
from collections.abc import Iterator, Mapping
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


#: What oslo.policy raises for files that it cannot use; it wraps little of what goes wrong inside.
UNUSABLE = (ValueError, TypeError, AttributeError, OSError, RecursionError, yaml.YAMLError, cfg.Error)


class _Enforcer(policy.Enforcer):
    """oslo.policy's, which knows its files and survives that they break.

    Stock, a file that breaks fails the one request which notices, and leaves the rules half replaced from then on.
    """

    def __init__(self, conf: cfg.ConfigOpts, **options: Any) -> None:
        super().__init__(conf, **options)
        #: the file that was read last
        self.reading: str | None = None
        #: where files set which rule
        self.origins: dict[str, str] = {}
        #: raise for unusable files, as at the start; else keep the old rules
        self.strict = True
        # Rules that wait for another server are asked in native threads (see Policy.allowed).
        self._loading = threading.Lock()
        # State of the files when they were found unusable.
        self._unusable: Any = None

    def _load_policy_file(self, path: str, force_reload: bool, overwrite: bool = True) -> bool:
        self.reading = path
        if not self.strict:
            # A file that vanished counts as an empty one to oslo.policy, which drops every restriction in it.
            os.stat(path)
        return super()._load_policy_file(path, force_reload, overwrite)

    def _record_file_rules(self, data: str, overwrite: bool = False) -> None:
        super()._record_file_rules(data, overwrite)
        for name in policy.parse_file_contents(data):
            self.origins[name] = self.reading or ""

    def load_rules(self, force_reload: bool = False) -> None:
        """Reload what has changed; oslo.policy calls this before every decision."""
        if self.strict:
            super().load_rules(force_reload)
            return
        with self._loading:
            self._reload(force_reload)

    def _reload(self, force_reload: bool) -> None:
        if self._unusable is not None:
            # Without this, a file that may not be read would be tried, and logged, for every request.
            if self._state() == self._unusable:
                return
            force_reload = True
        # A reload replaces these before it fills them, so the old ones stay whole.
        rules, file_rules = self.rules, self.file_rules
        state = None
        while True:
            try:
                super().load_rules(force_reload)
                break
            except UNUSABLE as error:
                self.rules, self.file_rules = rules, file_rules
                if state is not None:
                    self._unusable = state
                    LOG.error(
                        "The rules that were in force stay in force, as policy is broken: %s", _broken(self, error)
                    )
                    return
            # Taken before another attempt, lest a correction in between goes unnoticed.
            state, force_reload = self._state(), True
        if self._unusable is not None:
            self._unusable = None
            LOG.warning("Policy is usable again; the rules of its files are in force")

    def _state(self) -> Any:
        """Name, times and size of everything a reload looks at."""
        paths = [self.policy_path, *(self.conf.find_file(path) for path in self.conf.oslo_policy.policy_dirs)]
        found: list[Any] = []
        for path in filter(None, paths):
            names = [path]
            try:
                if os.path.isdir(path):
                    names += sorted(os.path.join(path, name) for name in os.listdir(path))
            except OSError as error:
                found.append((path, error.errno))
            for name in names:
                try:
                    status = os.stat(name)
                    found.append((name, status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino))
                except OSError as error:
                    found.append((name, error.errno))
        return found


class Policy:
    """The rules in force.

    :param conf: parsed configuration
    :raises ConfigurationError: a policy file cannot be read or is no mapping of rule names to rules
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        # A rule that neither files nor defaults declare is refused; oslo.policy's own default would look for a rule
        # called "default", which files of other services bring along.
        nobody = policy.Rules.from_dict({"nobody": "!"})["nobody"]
        self.enforcer = _Enforcer(conf, policy_file=_file(conf), default_rule=nobody)
        # Most defaults have a deprecated form; one warning each at every start says nothing an operator can use.
        self.enforcer.suppress_deprecation_warnings = True
        self.enforcer.register_defaults(defaults.list_rules())
        self._load()
        self.enforcer.strict = False
        self._settings = conf.heatperf
        self._pool: Any = None
        self._checked: tuple[int, int, bool] = (0, 0, False)

    def start(self, loop: Any) -> None:
        """Make the pool that rules asking another server wait in: called in the worker, after the fork."""
        self._pool = loop.pool("policy", self._settings.auth_concurrency, self._settings.auth_queue)

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
        except UNUSABLE as error:
            raise _broken(self.enforcer, error) from None

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
        if self._pool is not None and self.blocks():
            return bool(self._pool.run(self._ask, context, rule, target))
        return self._ask(context, rule, target)

    def _ask(self, context: Context, rule: str, target: Mapping[str, Any] | None) -> bool:
        return bool(self.enforcer.authorize(rule, target or {}, context.to_policy_values(), do_raise=False))

    def is_admin(self, context: Context) -> bool:
        """Whether the caller is an administrator of the whole deployment (rule ``context_is_admin``)."""
        return self.allowed(context, "context_is_admin")


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

"""Parsed policy rules as closures: the same answers as ``Enforcer.authorize``, without walking its objects.

In: the rules in force, as oslo.policy parsed them, and the declared ones with their scopes. Out: one Decision per
declared rule that can be compiled. A rule is left to the Enforcer if it, or a rule it refers to, belongs to a cycle, is
of a kind that is not oslo.policy's own, or raises when it is asked. Built when rules are read; asked on the loop.

A closure is asked with the target's attributes and the caller's credentials, both mappings. It raises what the check it
was made of raises, such as TypeError for a path that leads into something that is no mapping.
"""

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

from oslo_policy import _checks, policy

#: (target, credentials) -> what the check says; only its truth counts
Closure = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]

_ONE_ATTRIBUTE = re.compile(r"%\(([^()]*)\)s")
_MISSING = object()


class Uncompilable(Exception):
    """A rule that only the Enforcer can answer."""


class Decision:
    """One declared rule.

    :ivar check: the closure, the scope of the token included
    :ivar reads: names of the credentials that it looks at
    """

    __slots__ = ("check", "reads")

    def __init__(self, check: Closure, reads: frozenset[str]) -> None:
        self.check = check
        self.reads = reads


def compile_rules(
    rules: Mapping[str, _checks.BaseCheck], declared: Mapping[str, policy.RuleDefault]
) -> dict[str, Decision]:
    """Return the decisions for all declared rules that can be compiled.

    :param rules: the rules in force, by name
    :param declared: the rules that may be asked for, by name
    """
    found = {}
    for name, rule in declared.items():
        compiler = _Compiler(rules)
        try:
            check = compiler.check(rules[name], (name,))
        except (Uncompilable, KeyError, RecursionError):
            continue
        if rule.scope_types:
            check = _in_scope(check, frozenset(rule.scope_types))
            compiler.reads |= {"system", "domain_id"}
        found[name] = Decision(check, frozenset(compiler.reads))
    return found


def _in_scope(check: Closure, scopes: frozenset[str]) -> Closure:
    def scoped(target: Mapping[str, Any], creds: Mapping[str, Any]) -> Any:
        if creds.get("system"):
            scope = "system"
        else:
            scope = "domain" if creds.get("domain_id") else "project"
        return scope in scopes and check(target, creds)

    return scoped


def always(_target: Mapping[str, Any], _creds: Mapping[str, Any]) -> bool:
    """Closure of ``@``."""
    return True


def never(_target: Mapping[str, Any], _creds: Mapping[str, Any]) -> bool:
    """Closure of ``!``."""
    return False


class _Compiler:
    """Compiles one rule, and notes which credentials it reads."""

    def __init__(self, rules: Mapping[str, _checks.BaseCheck]) -> None:
        self._rules = rules
        self._known: dict[str, Closure] = {}
        self.reads: set[str] = set()

    def check(self, check: Any, above: tuple[str, ...]) -> Closure:
        """Return the closure of a parsed check.

        :param above: the rules this check is part of
        :raises Uncompilable: there is none
        """
        kind = type(check)  # exactly: a subclass may do anything
        if kind is _checks.TrueCheck:
            return always
        if kind is _checks.FalseCheck:
            return never
        if kind is _checks.NotCheck:
            return _not(self.check(check.rule, above))
        if kind is _checks.AndCheck:
            return _and([self.check(part, above) for part in check.rules])
        if kind is _checks.OrCheck:
            return _or([self.check(part, above) for part in check.rules])
        if kind is _checks.RuleCheck:
            return self._rule(check.match, above)
        if kind is _checks.RoleCheck:
            self.reads.add("roles")
            return _role(check.match)
        if kind is _checks.GenericCheck:
            return self._generic(check)
        raise Uncompilable(str(check))

    def _rule(self, name: str, above: tuple[str, ...]) -> Closure:
        if name in above:
            raise Uncompilable(f"rule:{name} refers to itself")
        known = self._known.get(name)
        if known is None:
            try:
                rule = self._rules[name]  # one that nobody declares is the default rule
            except KeyError:
                return never
            known = self._known[name] = self.check(rule, (*above, name))
        return known

    def _generic(self, check: Any) -> Closure:
        try:
            literal = ast.literal_eval(check.kind)
        except ValueError:
            path = check.kind.split(".")
            self.reads.add(path[0])
            return _attribute(check.match, path)
        except Exception as error:  # what oslo.policy would raise whenever the rule is asked
            raise Uncompilable(check.kind) from error
        return _literal(check.match, str(literal))


def _not(check: Closure) -> Closure:
    return lambda target, creds: not check(target, creds)


def _and(checks: list[Closure]) -> Closure:
    if len(checks) == 2:
        first, second = checks
        return lambda target, creds: first(target, creds) and second(target, creds)
    return lambda target, creds: all(check(target, creds) for check in checks)


def _or(checks: list[Closure]) -> Closure:
    if len(checks) == 2:
        first, second = checks
        return lambda target, creds: first(target, creds) or second(target, creds)
    return lambda target, creds: any(check(target, creds) for check in checks)


def _filled(text: str) -> Callable[[Mapping[str, Any]], Any]:
    """Return the function that fills a target's attributes into a check's right side; it raises KeyError."""
    one = _ONE_ATTRIBUTE.fullmatch(text)
    if one is not None:
        name = one[1]
        return lambda target: str(target[name])
    return lambda target: text % target


def _role(wanted: str) -> Closure:
    if "%" not in wanted:
        constant = wanted.lower()

        def has_role(_target: Mapping[str, Any], creds: Mapping[str, Any]) -> bool:
            roles = creds.get("roles", _MISSING)
            return roles is not _MISSING and constant in [role.lower() for role in roles]

        return has_role
    filled = _filled(wanted)

    def has_role_of_target(target: Mapping[str, Any], creds: Mapping[str, Any]) -> bool:
        try:
            role = filled(target).lower()
        except KeyError:
            return False
        roles = creds.get("roles", _MISSING)
        return roles is not _MISSING and role in [known.lower() for known in roles]

    return has_role_of_target


def _literal(wanted: str, value: str) -> Closure:
    if "%" not in wanted:
        return always if wanted == value else never
    filled = _filled(wanted)

    def equal(target: Mapping[str, Any], _creds: Mapping[str, Any]) -> bool:
        try:
            return bool(filled(target) == value)
        except KeyError:
            return False

    return equal


def _attribute(wanted: str, path: list[str]) -> Closure:
    if "%" not in wanted:
        return lambda _target, creds: _found(creds, path, wanted)
    filled = _filled(wanted)
    if len(path) > 1:

        def reached(target: Mapping[str, Any], creds: Mapping[str, Any]) -> bool:
            try:
                text = filled(target)
            except KeyError:
                return False
            return _found(creds, path, text)

        return reached
    name = path[0]

    def equal(target: Mapping[str, Any], creds: Mapping[str, Any]) -> bool:
        try:
            text = filled(target)
        except KeyError:
            return False
        value = creds.get(name, _MISSING)
        if value is _MISSING:
            return False
        if isinstance(value, list):
            return any(text == str(item) for item in value)
        return bool(text == str(value))

    return equal


def _found(value: Any, path: list[str], wanted: str) -> bool:
    """Whether the text of what ``path`` leads to is ``wanted``; of a list on the way, any item counts."""
    for number, key in enumerate(path, 1):
        try:
            value = value[key]
        except KeyError:
            return False
        if isinstance(value, list):
            return any(_found(item, path[number:], wanted) for item in value)
    return wanted == str(value)

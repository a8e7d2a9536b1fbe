"""The enforcer: decisions equal to Heat's for odd policy files, and files that refuse the start."""

import itertools
import json
import os
import pathlib
import subprocess
from typing import Any

import pytest
from oslo_config import cfg
from oslo_policy import policy as oslo_policy

from heatperf.config import load
from heatperf.errors import ConfigurationError
from heatperf.policy import Policy, defaults

ROOT = pathlib.Path(__file__).parents[2]

# Policies in the field: overrides, rules of the operator's own, rules that parse to nothing, literals on the left.
FILES = {
    "defaults": {},
    "overrides": {
        "stacks:index": "not user_id:mallory",
        "stacks:global_index": "",
        "stacks:create": "role:nobody_has_this",
        "stacks:lookup": "!",
        "stacks:show": "role:admin and user_id:alice",
        "stacks:delete": "project_id:p2",
        "stacks:update": "@",
        "resource:signal": "not role:admin",
        "service:index": "@",
        "stacks:validate_template": "is_admin:True and tenant:%(project_id)s",
        "stacks:update_no_change": "role:member",
    },
    "odd": {
        "context_is_admin": "role:manager",
        "stacks:create": "rule:my_creator",
        "my_creator": "role:heat_stack_user",
        "stacks:index": "rule:never_defined",
        "stacks:delete": "('admin':%(role.name)s) or role:manager",
        "stacks:detail": "is_admin_project:True and role:reader",
        "stacks:template": "project_id:%(project_id)s and not role:member",
        "stacks:validate_template": "http_nonsense",
        "stacks:preview": "user_id:%(missing)s",
        "stacks:export": "system_scope:all",
        "stacks:files": None,
        "deny_stack_user": "!",
        "project_admin": "role:manager",
    },
}

# The same code decides with Heat's enforcer and, imported, with ours.
UPSTREAM = """
import json, sys
from oslo_config import cfg
from heat.common import exception, policy
given = json.load(sys.stdin)
cfg.CONF(['--config-file', given['file']], project='heat', prog='heat-api')
enforcer = policy.Enforcer()

class Context:
    def __init__(self, values):
        self.values = values
    def to_policy_values(self):
        return dict(self.values)

def decide(rule, values):
    if rule == 'context_is_admin':
        return bool(enforcer.check_is_admin(Context(values)))
    scope, action = rule.split(':', 1)
    try:
        return bool(enforcer.enforce(Context(values), action, scope, given['target'], is_registered_policy=True))
    except exception.Forbidden:
        return False

print(json.dumps([[decide(rule, values) for values in given['callers']] for rule in given['rules']]))
"""


class Context:
    def __init__(self, **values: Any) -> None:
        self.values = values

    def to_policy_values(self) -> dict[str, Any]:
        return dict(self.values)


def callers() -> list[dict[str, Any]]:
    """Roles x project x scope x admin project."""
    scopes = [{}, {"system_scope": "all"}, {"domain_id": "d"}]
    roles = [[], ["reader"], ["member", "reader"], ["admin", "member", "reader"], ["heat_stack_user"], ["manager"]]
    found = []
    for role, project, scope, whole in itertools.product(roles, ["p1", "p2"], scopes, [True, False]):
        user = "mallory" if project == "p2" else "alice"
        common = {"roles": role, "project_id": project, "tenant": project, "user_id": user}
        found.append({**common, "is_admin": "admin" in role, "is_admin_project": whole, **scope})
    return found


@pytest.fixture
def make(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def make(text: str = "", **files: str) -> Policy:
        for name, content in files.items():
            (tmp_path / name.replace("_", ".")).write_text(content)
        (tmp_path / "heat.conf").write_text(text)
        conf = cfg.ConfigOpts()
        load.load(conf, ["--config-file", str(tmp_path / "heat.conf")])
        return Policy(conf)

    return make


@pytest.mark.parametrize("new_defaults", ["true", "false"])
@pytest.mark.parametrize("name", FILES)
def test_same_decisions_as_heat(make, tmp_path, name, new_defaults):
    text = f"[oslo_policy]\nenforce_new_defaults = {new_defaults}\n"
    policy = make(text, policy_yaml=json.dumps(FILES[name]))
    rules = [rule for rule in policy.enforcer.registered_rules if ":" in rule] + ["context_is_admin"]
    given = {
        "file": str(tmp_path / "heat.conf"),
        "callers": callers(),
        "rules": rules,
        "target": {"project_id": "p1"},
    }
    python = os.environ.get("HEATPERF_UPSTREAM_PYTHON", str(ROOT / ".peers/heat-27/bin/python"))
    done = subprocess.run(
        [python, "-W", "ignore", "-c", UPSTREAM], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    theirs = dict(zip(rules, json.loads(done.stdout), strict=True))
    ours = {
        rule: [
            policy.is_admin(Context(**caller))
            if rule == "context_is_admin"
            else policy.allowed(Context(**caller), rule, given["target"])
            for caller in given["callers"]
        ]
        for rule in rules
    }
    assert ours == theirs
    assert any(itertools.chain(*ours.values()))


def test_rule_that_no_default_declares(make):
    with pytest.raises(oslo_policy.PolicyNotRegistered):
        make().allowed(Context(roles=["admin"]), "stacks:no_such_call", {})


def test_directory_comes_after_the_file(make, tmp_path):
    (tmp_path / "policy.d").mkdir()
    (tmp_path / "policy.d/10.yaml").write_text('"stacks:index": "@"\n')
    policy = make(policy_yaml='"stacks:index": "!"\n"stacks:show": "!"\n')
    caller = Context(roles=["reader"], project_id="p")
    assert policy.allowed(caller, "stacks:index", {"project_id": "p"})
    assert not policy.allowed(caller, "stacks:show", {"project_id": "p"})


def test_changed_file_is_read_again(make, tmp_path):
    policy = make(policy_yaml='"stacks:index": "!"\n')
    assert not policy.allowed(Context(roles=[]), "stacks:index")
    (tmp_path / "policy.yaml").write_text('"stacks:index": "@"\n')
    later = os.stat(tmp_path / "policy.yaml").st_mtime + 10
    os.utime(tmp_path / "policy.yaml", (later, later))
    assert not policy.allowed(Context(roles=[]), "stacks:index")
    policy.reload()
    assert policy.allowed(Context(roles=[]), "stacks:index")


class TestLegacyJson:
    def test_counts_where_nothing_else_is_there(self, make, caplog):
        policy = make(policy_json='{"stacks:index": "!"}')
        assert not policy.allowed(Context(roles=["reader"], project_id="p"), "stacks:index", {"project_id": "p"})
        assert "policy.json" in caplog.text

    def test_is_ignored_beside_policy_yaml(self, make):
        policy = make(policy_json='{"stacks:index": "!"}', policy_yaml="{}")
        assert policy.allowed(Context(roles=["reader"], project_id="p"), "stacks:index", {"project_id": "p"})

    def test_is_ignored_where_another_file_is_configured(self, make, caplog):
        policy = make("[oslo_policy]\npolicy_file = gone.yaml\n", policy_json='{"stacks:index": "!"}')
        assert policy.allowed(Context(roles=["reader"], project_id="p"), "stacks:index", {"project_id": "p"})
        assert "gone.yaml does not exist" in caplog.text

    def test_may_be_configured(self, make):
        policy = make("[oslo_policy]\npolicy_file = policy.json\n", policy_json='{"stacks:index": "@"}')
        assert policy.allowed(Context(roles=[]), "stacks:index")


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ('"stacks:index": "!"\n"a: b\n', ":3", "no YAML"),
        ("{a: b: c}\n", ":1", "no YAML"),
        ("- a\n- b\n", "", "no mapping"),
        ("just a text\n", "", "no mapping"),
    ],
)
def test_broken_file_refuses_the_start(make, tmp_path, content, line, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        make(policy_yaml=content)
    assert caught.value.file == f"{tmp_path}/policy.yaml{line}"


def test_broken_file_in_the_directory_is_the_one_named(make, tmp_path):
    (tmp_path / "policy.d").mkdir()
    (tmp_path / "policy.d/10.yaml").write_text("{}")
    (tmp_path / "policy.d/20.yaml").write_text('"a: b\n')
    with pytest.raises(ConfigurationError) as caught:
        make(policy_yaml="{}")
    assert caught.value.file.startswith(f"{tmp_path}/policy.d/20.yaml:")


def test_policy_dirs_must_be_directories(make, tmp_path):
    (tmp_path / "file.d").write_text("{}")
    with pytest.raises(ConfigurationError, match="not a directory"):
        make("[oslo_policy]\npolicy_dirs = file.d\n", policy_yaml="{}")


class TestFileThatBreaksWhileTheServerRuns:
    CALLER = Context(roles=["member", "reader"], project_id="p1")

    @staticmethod
    def edit(path: pathlib.Path, text: str) -> None:
        later = path.stat().st_mtime + 10 if path.exists() else None
        path.write_text(text)
        if later:
            os.utime(path, (later, later))

    def asked(self, policy: Policy) -> tuple[bool, bool]:
        """An overridden rule, and a default one, after the worker has looked at the files."""
        policy.reload()
        target = {"project_id": "p1"}
        return policy.allowed(self.CALLER, "stacks:index", target), policy.allowed(self.CALLER, "stacks:show", target)

    @pytest.mark.parametrize(
        "broken", ['"stacks:index": "@"\n"a: b\n', "- a\n", "just a text\n", '"stacks:index": 5\n', "\x00"]
    )
    def test_old_rules_stay_until_it_is_corrected(self, make, tmp_path, caplog, broken):
        policy = make(policy_yaml='"stacks:index": "!"\n')
        path = tmp_path / "policy.yaml"
        assert self.asked(policy) == (False, True)
        self.edit(path, broken)
        assert [self.asked(policy) for _ in range(3)] == [(False, True)] * 3
        errors = [record for record in caplog.records if record.name == "heatperf.policy.enforcer"]
        assert [record.levelname for record in errors] == ["ERROR"]
        assert str(path) in errors[0].getMessage()
        self.edit(path, '"stacks:index": "@"\n')
        assert self.asked(policy) == (True, True)

    def test_each_version_is_reported_once(self, make, tmp_path, caplog):
        policy = make(policy_yaml="{}")
        for text in ('"a: b\n', '"c: d\n'):
            self.edit(tmp_path / "policy.yaml", text)
            assert self.asked(policy) == self.asked(policy) == (True, True)
        assert len([record for record in caplog.records if "policy is broken" in record.getMessage()]) == 2

    def test_directory(self, make, tmp_path, caplog):
        (tmp_path / "policy.d").mkdir()
        first, second = tmp_path / "policy.d/10.yaml", tmp_path / "policy.d/20.yaml"
        first.write_text('"stacks:index": "!"\n')
        second.write_text("{}")
        policy = make(policy_yaml="{}")
        self.edit(second, '"a: b\n')
        assert self.asked(policy) == (False, True)
        assert f"{second}:" in caplog.text
        self.edit(tmp_path / "policy.yaml", '"stacks:show": "!"\n')
        assert self.asked(policy) == (False, True)
        second.unlink()
        assert self.asked(policy) == (False, False)

    def test_backup_moved_back_has_an_older_time(self, make, tmp_path):
        policy = make(policy_yaml='"stacks:index": "!"\n')
        path = tmp_path / "policy.yaml"
        backup = tmp_path / "backup"
        backup.write_text('"stacks:index": "@"\n')
        os.utime(backup, (1, 1))
        self.edit(path, '"a: b\n')
        assert self.asked(policy) == (False, True)
        os.replace(backup, path)
        assert self.asked(policy) == (True, True)

    def test_file_that_vanishes(self, make, tmp_path, caplog):
        policy = make(policy_yaml='"stacks:index": "!"\n')
        (tmp_path / "policy.yaml").unlink()
        assert self.asked(policy) == self.asked(policy) == (False, True)
        assert caplog.text.count("policy is broken") == 1
        (tmp_path / "policy.yaml").write_text("{}")
        assert self.asked(policy) == (True, True)

    def test_file_that_may_no_longer_be_read(self, make, tmp_path, caplog):
        policy = make(policy_yaml='"stacks:index": "!"\n')
        path = tmp_path / "policy.yaml"
        self.edit(path, '"stacks:index": "@"\n')
        path.chmod(0)
        root = os.geteuid() == 0
        if root:
            # Root may read everything; nobody may not, and the directory may be closed to him as well.
            os.seteuid(65534)
        try:
            assert [self.asked(policy) for _ in range(2)] == [(False, True)] * 2
        finally:
            if root:
                os.seteuid(0)
        assert caplog.text.count("policy is broken") == 1
        path.chmod(0o644)
        assert self.asked(policy) == (True, True)


def test_rules_that_nothing_asks_for(make, tmp_path):
    (tmp_path / "policy.d").mkdir()
    (tmp_path / "policy.d/10.yaml").write_text('"zzz": "@"\n')
    policy = make(
        policy_yaml='"stacks:indx": "@"\n"stacks:show": "rule:mine and not rule:other"\n"mine": "@"\n"other": "!"\n'
    )
    assert list(policy.unknown()) == [
        (f"{tmp_path}/policy.yaml", "nothing asks for the rule 'stacks:indx'; did you mean 'stacks:index'?"),
        (f"{tmp_path}/policy.d/10.yaml", "nothing asks for the rule 'zzz'; it has no effect"),
    ]


def test_every_declared_rule_is_known(make):
    names = [rule.name for rule in defaults.list_rules()]
    old = [rule.deprecated_rule.name for rule in defaults.list_rules() if rule.deprecated_rule]
    assert list(make(policy_yaml=json.dumps(dict.fromkeys([*names, *old], "@"))).unknown()) == []

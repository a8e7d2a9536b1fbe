"""``config show``: origins, masking, and that its output is itself a configuration."""

import io
import pathlib

import pytest
from oslo_config import cfg

from heatperf.config import load, masking, show

FILE = """\
[DEFAULT]
transport_url = rabbit://heat:hunter2@h1:5672,heat:hunter2@h2:5672//heat?ssl=1
bind_port = 9004
debug = false
stack_domain_admin_password = hunter2
[keystone_authtoken]
password = hunter2
memcache_secret_key = hunter2
memcached_servers = m1:11211,m2:11211
auth_url = https://user:hunter2@keystone/v3
[profiler]
hmac_keys = hunter2
connection_string = redis://:hunter2@redis:6379/0
[oslo_policy]
policy_dirs = one.d
policy_dirs = two.d
[revision]
heat_revision = costs $$5
[database]
connection = mysql+pymysql://heat:hunter2@db/heat
"""


def shown(tmp_path: pathlib.Path, *flags: str, text: str = FILE) -> tuple[str, str]:
    path = tmp_path / "heat.conf"
    path.write_text(text)
    conf = cfg.ConfigOpts()
    load.load(conf, ["--config-file", str(path), *flags])
    out = io.StringIO()
    show.show(conf, out)
    return str(path), out.getvalue()


def origin_of(text: str, line: str) -> str:
    lines = text.splitlines()
    return lines[lines.index(line) - 1]


def values_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_no_secret_is_shown(tmp_path):
    _, text = shown(tmp_path)
    assert "hunter2" not in text
    assert "transport_url = rabbit://heat:***@h1:5672,heat:***@h2:5672//heat?ssl=1" in text
    assert "connection_string = redis://:***@redis:6379/0" in text
    assert "memcached_servers = m1:11211,m2:11211" in text


def test_origins(tmp_path, monkeypatch):
    monkeypatch.setenv("OS_HEAT_API__WORKERS", "7")
    path, text = shown(tmp_path, "--debug", "--log-file", "x.log")
    assert origin_of(text, "bind_port = 9004") == f"# {path}:3, there as [DEFAULT] bind_port"
    assert origin_of(text, "bind_host = 0.0.0.0") == "# default"
    assert origin_of(text, "control_exchange = heat") == "# default of heatperf"
    assert origin_of(text, "debug = true") == "# command line"
    assert origin_of(text, "log_file = x.log") == "# command line"
    assert origin_of(text, "workers = 7") == "# environment variable OS_HEAT_API__WORKERS"
    assert origin_of(text, "hmac_keys = ***") == f"# {path}:12"


def test_options_of_other_services_are_listed_by_name_only(tmp_path):
    path, text = shown(tmp_path)
    assert f"# [DEFAULT] stack_domain_admin_password ({path}:5)" in text
    assert f"# [database] connection ({path}:20)" in text
    assert "[keystone_authtoken] password (" not in text


def test_output_loads_to_the_same_values(tmp_path):
    _, text = shown(tmp_path)
    (tmp_path / "again.conf").write_text(text)
    conf = cfg.ConfigOpts()
    load.load(conf, ["--config-file", str(tmp_path / "again.conf")])
    assert conf.heat_api.bind_port == 9004
    assert conf.oslo_policy.policy_dirs == ["one.d", "two.d"]
    assert conf.revision.heat_revision == "costs $5"
    assert conf.cors.allow_methods == ["GET", "PUT", "POST", "DELETE", "PATCH"]
    out = io.StringIO()
    show.show(conf, out)
    assert values_of(out.getvalue()) == values_of(text)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("rabbit://u:p@h:5672/v", "rabbit://u:***@h:5672/v"),
        ("rabbit://u1:p1@h1:1,u2:p2@h2:2//v", "rabbit://u1:***@h1:1,u2:***@h2:2//v"),
        ("rabbit://u:p@ss@h/", "rabbit://u:***@h/"),
        ("redis://token@h", "redis://***@h"),
        ("http://h/?a=1&X-Token=t#x", "http://h/?a=1&X-Token=***#x"),
        ("http://a:p@b, http://c:p@d", "http://a:***@b, http://c:***@d"),
        ("http://[::1]:5000/a@b", "http://[::1]:5000/a@b"),
        ("http://h1:5000/v3", "http://h1:5000/v3"),
        ("no url: a:b@c", "no url: a:b@c"),
    ],
)
def test_urls(url, masked):
    assert masking.mask_urls(url) == masked


@pytest.mark.parametrize("secret", ["p/w", "p?w", "p#w", "p,w", "p@w", "p:w", "p/w@x"])
def test_a_password_that_breaks_the_grammar_of_urls_is_still_hidden(secret):
    masked = masking.mask_urls(f"rabbit://user:{secret}@host:5672/vhost")
    assert masked.endswith("@host:5672/vhost")
    assert "w" not in masked.split("@host")[0]


@pytest.mark.parametrize(
    ("opt", "secret"),
    [
        (cfg.StrOpt("anything", secret=True), True),
        (cfg.StrOpt("ssl_client_key_password"), True),
        (cfg.StrOpt("auth_encryption_key"), True),
        (cfg.StrOpt("key_file"), False),
        (cfg.StrOpt("password_file"), False),
        (cfg.IntOpt("token_cache_time"), False),
    ],
)
def test_names_that_say_secret_count_as_secret(opt, secret):
    assert masking.is_secret(opt) is secret

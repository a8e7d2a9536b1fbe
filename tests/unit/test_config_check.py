"""``config check``: exit codes, and advice on what operators get wrong."""

import io
import pathlib

import pytest
from oslo_config import cfg

from heatperf.config import check
from heatperf.config.paths import packaged_file
from heatperf.errors import ConfigurationError

CALM = """\
[DEFAULT]
transport_url = rabbit://heat:x@h/
rpc_response_timeout = 50
[keystone_authtoken]
memcached_servers = m:11211
"""


@pytest.fixture
def checked(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    paste = pathlib.Path(packaged_file("api-paste.ini")).read_text()

    def checked(extra: str = "", base: str = CALM, paste: str | None = paste, **more) -> tuple[int, str]:
        (tmp_path / "conf").mkdir(exist_ok=True)
        (tmp_path / "conf/heat.conf").write_text(base + extra)
        (tmp_path / "conf/api-paste.ini").unlink(missing_ok=True)
        if paste is not None:
            (tmp_path / "conf/api-paste.ini").write_text(paste)
        out = io.StringIO()
        code = check.check(cfg.ConfigOpts(), ["--config-file", str(tmp_path / "conf/heat.conf")], out, **more)
        return code, out.getvalue()

    return checked


def test_nothing_to_say(checked):
    code, text = checked()
    assert code == 0
    assert "WARNING" not in text
    assert "0 error(s), 0 warning(s); a start would succeed" in text


@pytest.mark.parametrize(
    ("extra", "where", "words"),
    [
        (
            "[oslo_messaging_rabbit]\nrabbit_quorum_queues = true\n",
            ":7, [oslo_messaging_rabbit]",
            "rabbit_quorum_queue",
        ),
        ("[oslo_messaging_rabbit]\nheartbeat_in_pthread = true\n", ":7", "oslo.messaging 18 removed it"),
        ("[oslo_messaging_rabbit]\nrabbit_qos_prefetch = 1\n", ":7", "did you mean rabbit_qos_prefetch_count?"),
        ("[oslo_policy]\nenforce_scope = false\n", ":7", "enforces scope always"),
        ("[heat_api]\nbind_prot = 1\n", ":7", "did you mean bind_port?"),
        ("[cors]\nzzz = 1\n", ":7", "it has no effect"),
        ("[oslo_middleware]\nmax_request_body_size = 5\n", ":7", "no sizelimit filter"),
        ("[paste_deploy]\nflavor = noauth\n", ":7", "administrator"),
        ("[profiler]\nenabled = true\n", "[profiler] hmac_keys", "default key"),
        ("[oslo_policy]\npolicy_file = gone.yaml\n", ":7", "only the default rules"),
        ("[auth_password]\nmulti_cloud = true\n", ":7", "allowed_auth_uris is empty"),
        ("[cors]\nallowed_origin = https://h\n", ":7", "oslo_config_file"),
        ("[keystone_authtoken]\ninsecure = true\n", ":7", "any certificate"),
    ],
)
def test_advice(checked, extra, where, words):
    code, text = checked(extra)
    warnings = [line for line in text.splitlines() if line.startswith("WARNING")]
    assert code == 0
    assert len(warnings) == 1
    assert where in warnings[0]
    assert words in warnings[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("rpc_response_timeout = 50", "rpc_response_timeout = 600"), "load balancers"),
        (("rpc_response_timeout = 50", "rpc_response_timeout = 60"), "load balancers"),
        (("memcached_servers = m:11211", ""), "memcached"),
        (("rpc_response_timeout = 50", "rpc_response_timeout = 50\nmax_template_size = 9999999"), "max_json_body_size"),
        (("rpc_response_timeout = 50", "rpc_response_timeout = 50\nmax_json_body_sise = 1"), "max_json_body_size?"),
    ],
)
def test_advice_on_default(checked, change, words):
    code, text = checked(base=CALM.replace(*change))
    assert code == 0
    assert [words in line for line in text.splitlines() if line.startswith("WARNING")] == [True]


def test_a_default_that_nobody_chose_is_no_reason_for_advice(checked):
    assert "rpc_response_timeout" not in checked(base=CALM.replace("rpc_response_timeout = 50\n", ""))[1]


def test_old_names_are_named_with_their_present_ones(checked):
    _, text = checked(base=CALM.replace("[keystone", "bind_port = 9\n[keystone").replace("memcached_", "memcache_"))
    warnings = [line for line in text.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 2
    assert "heat.conf:4, [DEFAULT] bind_port: this is an old name of [heat_api] bind_port" in warnings[0]
    assert "heat.conf:6, [keystone_authtoken] memcache_servers: this is an old name" in warnings[1]


def test_options_of_the_engine_raise_no_doubt(checked):
    code, text = checked(
        base=CALM.replace("rpc_response", "max_nested_stack_depth = 3\nstack_user_domain_name = h\nrpc_response")
    )
    assert (code, "WARNING" in text) == (0, False)


def test_sizelimit_filter_gives_the_option_its_effect(checked):
    paste = "[filter:sizelimit]\npaste.filter_factory = oslo_middleware.sizelimit:RequestBodySizeLimiter.factory\n"
    assert "WARNING" not in checked("[oslo_middleware]\nmax_request_body_size = 5\n", paste=paste)[1]


def test_all_errors_are_listed(checked):
    code, text = checked("[heat_api]\nworkers = many\nbind_port = -1\n[heatperf]\nzzz = 1\n")
    assert code == 2
    assert [f"heat.conf:{line}, " in text for line in (7, 8, 10)] == [True, True, True]
    assert text.count("ERROR: ") == 3
    assert "3 error(s)" in text
    assert "refused" in text


def test_what_the_rest_of_a_start_refuses(checked):
    def policy(conf):
        raise ConfigurationError("broken policy", file="p.yaml")

    def pipeline(conf):
        raise RuntimeError("broken pipeline")

    code, text = checked(build=[policy, pipeline])
    assert code == 2
    assert "ERROR: p.yaml: broken policy\nERROR: broken pipeline\n" in text


def test_errors_of_every_kind_are_listed_together(checked, tmp_path):
    def flag():
        raise ConfigurationError("broken flag")

    def policy(conf):
        yield ConfigurationError("broken policy")
        yield ConfigurationError("broken pipeline")

    def unreadable(conf):
        return conf.heat_api.workers

    code, text = checked(
        "[heat_api]\nworkers = many\ncert_file = /nowhere\n[oslo_policy]\nenforce_scope = 1\n",
        CALM.replace("[keystone", f"log_file = {tmp_path}\n[keystone"),
        flags=[flag],
        build=[unreadable, policy],
    )
    errors = [line for line in text.splitlines() if line.startswith("ERROR")]
    wanted = ["broken flag", "'many'", "No such file", "is a directory", "broken policy", "broken pipeline"]
    assert code == 2
    assert all(word in line for word, line in zip(wanted, errors, strict=True)), text
    assert "enforces scope always" in text
    assert "6 error(s), 1 warning(s)" in text


def test_a_file_without_assignments_was_read_all_the_same(checked, tmp_path):
    assert f"{tmp_path}/conf/heat.conf: " in checked(base="# nothing\n")[1].splitlines()[-1]


def test_no_log_is_opened(checked, tmp_path):
    code, text = checked(base=CALM.replace("[keystone", f"log_dir = {tmp_path}/logs\n[keystone"))
    assert (code, f"there is no directory {tmp_path}/logs" in text) == (2, True)
    (tmp_path / "logs").mkdir()
    assert checked(base=CALM.replace("[keystone", f"log_dir = {tmp_path}/logs\n[keystone"))[0] == 0
    assert list((tmp_path / "logs").iterdir()) == []


def test_broken_file(checked):
    code, text = checked("oops\n")
    assert code == 2
    assert "heat.conf:6" in text

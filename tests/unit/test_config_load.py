"""Loading: search path, old names, defaults, and every way in which a configuration is refused."""

import os
import pathlib
import subprocess
import sys

import pytest
from oslo_config import cfg

from heatperf.config import files, load
from heatperf.errors import ConfigurationError


@pytest.fixture(autouse=True)
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty home directory, and no option from the environment."""
    directory = tmp_path / "home"
    directory.mkdir()
    monkeypatch.setenv("HOME", str(directory))
    for name in [name for name in os.environ if name.startswith("OS_")]:
        monkeypatch.delenv(name)
    return directory


@pytest.fixture
def write(tmp_path: pathlib.Path):
    """Write a file and return its path; ``[group]`` lines stand in column 0."""

    def write(text: str, name: str = "heat.conf") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def loaded(*argv: str, development: bool = False) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    load.load(conf, argv, development=development)
    return conf


def refused(*argv: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        loaded(*argv)
    return caught.value


class TestValues:
    def test_defaults_are_those_of_heat_api(self, write):
        conf = loaded("--config-file", write(""))
        api = conf.heat_api
        assert (api.bind_host, api.bind_port, api.backlog, api.workers) == ("0.0.0.0", 8004, 4096, 0)
        assert (api.max_header_line, api.tcp_keepidle, api.cert_file, api.key_file) == (16384, 600, None, None)
        assert (conf.eventlet_opts.wsgi_keep_alive, conf.eventlet_opts.client_socket_timeout) == (True, 900)
        assert (conf.max_json_body_size, conf.max_template_size, conf.template_fetch_timeout) == (1048576, 524288, 60)
        assert conf.control_exchange == "heat"
        assert conf.paste_deploy.api_paste_config == "api-paste.ini"
        assert "X-Auth-Token" in conf.cors.allow_headers
        assert conf.oslo_policy.policy_file == "policy.yaml"

    def test_old_places_in_default_still_count(self, write):
        text = "[DEFAULT]\nbind_port = 9004\nworkers = 3\nclient_socket_timeout = 5\nwsgi_keep_alive = false\n"
        conf = loaded("--config-file", write(text))
        assert (conf.heat_api.bind_port, conf.heat_api.workers) == (9004, 3)
        assert (conf.eventlet_opts.client_socket_timeout, conf.eventlet_opts.wsgi_keep_alive) == (5, False)

    def test_sections_and_options_of_other_services_are_tolerated(self, write):
        text = (
            "[DEFAULT]\nauth_encryption_key = x\n[heat_api_cfn]\nbind_port = 8000\n"
            "[heat_api_cloudwatch]\nbind_port = 8003\n[database]\nconnection = mysql://\n[heat_api]\nnonsense = 1\n"
        )
        assert loaded("--config-file", write(text)).heat_api.bind_port == 8004

    def test_later_file_then_directory_win(self, write, tmp_path):
        first = write("[heat_api]\nworkers = 1\nbacklog = 1\nbind_port = 1\n", "a.conf")
        second = write("[heat_api]\nworkers = 2\nbacklog = 2\n", "b.conf")
        write("[heat_api]\nworkers = 3\n", "d/50.conf")
        conf = loaded("--config-file", first, "--config-file", second, "--config-dir", str(tmp_path / "d"))
        assert (conf.heat_api.workers, conf.heat_api.backlog, conf.heat_api.bind_port) == (3, 2, 1)

    def test_search_path_finds_project_program_and_directories(self, home):
        (home / ".heat").mkdir()
        (home / ".heat/heat.conf").write_text("[heat_api]\nworkers = 5\nbacklog = 5\nbind_port = 5\n")
        (home / ".heat/heat-api.conf").write_text("[heat_api]\nbacklog = 6\nbind_port = 6\n")
        (home / "heat-api.conf.d").mkdir()
        (home / "heat-api.conf.d/x.conf").write_text("[heat_api]\nbind_port = 7\n")
        conf = loaded()
        assert (conf.heat_api.workers, conf.heat_api.backlog, conf.heat_api.bind_port) == (5, 6, 7)

    def test_development_reads_no_default_file_and_searches_nothing(self, home):
        (home / ".heat").mkdir()
        (home / ".heat/heat.conf").write_text("this is not even INI\n")
        (home / ".heat/policy.yaml").write_text('"stacks:index": "!"\n')
        (home / ".heat/policy.d").mkdir()
        (home / ".heat/api-paste.ini").write_text("")
        conf = loaded(development=True)
        assert conf.heat_api.bind_port == 8004
        assert not conf.find_file(conf.paste_deploy.api_paste_config).startswith(str(home))
        assert not conf.find_file(conf.oslo_policy.policy_file).startswith(str(home))
        assert conf.oslo_policy.policy_dirs == []

    def test_development_ignores_the_environment(self, write, monkeypatch):
        monkeypatch.setenv("OS_HEAT_API__BIND_PORT", "9")
        monkeypatch.setenv("OS_DEFAULT__TRANSPORT_URL", "rabbit://elsewhere")
        monkeypatch.setenv("OS_HEAT_API__WORKERS", "no number")
        conf = loaded("--config-file", write("[heat_api]\nbacklog = 5\n"), development=True)
        assert (conf.heat_api.bind_port, conf.heat_api.workers, conf.heat_api.backlog) == (8004, 0, 5)
        assert conf.get_location("transport_url").location.name == "opt_default"
        monkeypatch.delenv("OS_HEAT_API__WORKERS")
        load.load(conf, ["--config-file", write("")])
        assert conf.heat_api.bind_port == 9

    def test_development_ignores_directories_of_drop_in_files(self, home):
        for directory in (home / ".heat/heat.conf.d", home / "heat.conf.d", home / "heat-api.conf.d"):
            directory.mkdir(parents=True)
            (directory / "x.conf").write_text("[heat_api]\nbind_port = 7\n")
        assert loaded(development=True).heat_api.bind_port == 8004

    def test_development_looks_for_files_of_a_named_configuration_only_beside_it(self, home, write):
        (home / ".heat").mkdir()
        (home / ".heat/policy.yaml").write_text('"stacks:index": "!"\n')
        path = write("[oslo_policy]\npolicy_file = policy.yaml\n")
        conf = loaded("--config-file", path, development=True)
        assert conf.find_file("policy.yaml") is None
        beside = write("", "policy.yaml")
        assert conf.find_file("policy.yaml") == beside

    def test_development_still_reads_a_file_that_was_named(self, write):
        path = write("[oslo_policy]\npolicy_file = mine.yaml\n[heat_api]\nworkers = 9\n")
        conf = loaded("--config-file", path, development=True)
        assert (conf.heat_api.workers, conf.oslo_policy.policy_file) == (9, "mine.yaml")

    def test_options_of_the_keystone_plugin_are_read_from_its_section(self, write):
        conf = loaded("--config-file", write("[keystone_authtoken]\nauth_section = ks\n[ks]\nusername = heat\n"))
        assert conf.ks.username == "heat"

    def test_other_keystone_plugins_register_their_own_options(self, write):
        text = "[keystone_authtoken]\nauth_type = v3applicationcredential\napplication_credential_id = abc\n"
        assert loaded("--config-file", write(text)).keystone_authtoken.application_credential_id == "abc"

    def test_a_second_load_forgets_the_first(self, write):
        conf = cfg.ConfigOpts()
        load.load(
            conf, ["--config-file", write("[heat_api]\nworkers = 3\n[keystone_authtoken]\nauth_url = http://k\n")]
        )
        load.load(conf, ["--config-file", write("", "other.conf")])
        assert conf.heat_api.workers == 0

    def test_the_process_wide_configuration_works(self, write):
        load.load(cfg.CONF, ["--config-file", write("[heat_api]\nworkers = 3\n"), "--debug"])
        assert (cfg.CONF.heat_api.workers, cfg.CONF.debug) == (3, True)
        load.load(cfg.CONF, ["--config-file", write("")])
        assert (cfg.CONF.heat_api.workers, cfg.CONF.debug) == (0, False)


class TestLogFile:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("log_dir = /var/log/heat\n", "heat-api.log"),
            ("log_dir = /var/log/heat\nlog_file = mine.log\n", "mine.log"),
            ("", None),
        ],
    )
    def test_name_does_not_depend_on_the_program(self, write, text, expected):
        assert loaded("--config-file", write("[DEFAULT]\n" + text)).log_file == expected

    def test_directory_from_the_command_line(self, write):
        assert loaded("--config-file", write(""), "--log-dir", "/x").log_file == "heat-api.log"


class TestFlags:
    def test_what_flags_change_is_validated_with_the_rest(self, write):
        path = write("[keystone_authtoken]\nauth_type = pasword\n")
        conf = cfg.ConfigOpts()

        def adjust(conf):
            conf.set_override("flavor", "noauth", group="paste_deploy")

        load.load(conf, ["--config-file", path], adjust=adjust)
        assert conf.paste_deploy.flavor == "noauth"

    def test_old_names_are_not_reported_before_logging_is_set_up(self, write, caplog):
        loaded("--config-file", write("[keystone_authtoken]\nmemcache_servers = m:11211\n"))
        assert "Deprecated" not in caplog.text


class TestFiles:
    def test_missing_file(self, tmp_path):
        error = refused("--config-file", str(tmp_path / "none.conf"))
        assert (error.file, error.message) == (str(tmp_path / "none.conf"), "there is no such file")
        assert "--config-file" in error.remedy

    def test_missing_directory(self, tmp_path):
        assert refused("--config-dir", str(tmp_path / "none")).file == str(tmp_path / "none")

    def test_directory_in_place_of_a_file(self, tmp_path):
        assert refused("--config-file", str(tmp_path)).file == str(tmp_path)

    def test_unreadable_file(self, write):
        path = write("")
        os.chmod(path, 0)
        root = os.geteuid() == 0
        if root:
            # Root may read everything; nobody may not.
            os.seteuid(65534)
        try:
            error = refused("--config-file", path)
        finally:
            if root:
                os.seteuid(0)
        assert (error.file, "may not read" in error.message) == (path, True)

    def test_binary_file(self, tmp_path):
        (tmp_path / "heat.conf").write_bytes(b"[DEFAULT]\n\xff\xfe=1\n")
        assert "not text" in refused("--config-file", str(tmp_path / "heat.conf")).message

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("[DEFAULT]\n\npassword hunter2\n", 3),
            ("[DEFAULT\n", 1),
            ("\nworkers = 3\n", 2),
            ("[DEFAULT]\n  indented\n", 2),
            ("[]\n", 1),
            ("[DEFAULT]\n# fine\n= 3\n", 3),
        ],
    )
    def test_broken_line_is_named_but_not_quoted(self, write, text, line):
        path = write(text)
        error = refused("--config-file", path)
        assert error.file == f"{path}:{line}"
        assert "hunter2" not in str(error)


class TestWrongValues:
    @pytest.mark.parametrize(
        ("text", "line", "option", "expected"),
        [
            ("[heat_api]\nworkers = many\n", 2, "[heat_api] workers", "'many' is not a whole number from 0 to 4096"),
            ("[heat_api]\n\nworkers = -1\n", 3, "[heat_api] workers", "'-1' is not a whole number from 0 to 4096"),
            ("[heat_api]\nworkers = 4097\n", 2, "[heat_api] workers", "'4097' is not a whole number from 0 to 4096"),
            ("[heat_api]\nworkers =\n", 2, "[heat_api] workers", "'' is not a whole number"),
            ("[DEFAULT]\nbind_port = 70000\n", 2, "[DEFAULT] bind_port", "from 0 to 65535"),
            ("[eventlet_opts]\nwsgi_keep_alive = maybe\n", 2, "[eventlet_opts] wsgi_keep_alive", "true or false"),
            ("[DEFAULT]\ndebug = perhaps\n", 2, "[DEFAULT] debug", "'perhaps' is not true or false"),
            ("[clients_keystone]\nauth_uri = ftp://k\n", 2, "[clients_keystone] auth_uri", "http:// or https://"),
            ("[oslo_messaging_rabbit]\nheartbeat_rate = x\n", 2, "[oslo_messaging_rabbit] heartbeat_rate", "'x'"),
            ("[keystone_authtoken]\ntoken_cache_time = y\n", 2, "[keystone_authtoken] token_cache_time", "'y'"),
            ("[heat_api]\nbind_host = a b\n", 2, "[heat_api] bind_host", "address or host name"),
            ("[auth_password]\nallowed_auth_uris = http://a,b\n", 2, "[auth_password] allowed_auth_uris", "list"),
        ],
    )  # fmt: skip
    def test_value(self, write, text, line, option, expected):
        path = write(text)
        error = refused("--config-file", path)
        assert (error.file, error.option) == (f"{path}:{line}", option)
        assert expected in error.message
        assert error.remedy

    def test_the_file_that_wins_is_named(self, write):
        bad = write("[heat_api]\nworkers = many\nbacklog = 3\n", "bad.conf")
        good = write("[heat_api]\nbacklog = 4\n", "good.conf")
        assert refused("--config-file", bad, "--config-file", good).file == f"{bad}:2"

    def test_a_bad_value_that_a_later_file_corrects_is_no_error(self, write):
        bad = write("[heat_api]\nworkers = many\n", "bad.conf")
        good = write("[heat_api]\nworkers = 4\n", "good.conf")
        assert loaded("--config-file", bad, "--config-file", good).heat_api.workers == 4

    def test_environment_is_named(self, write, monkeypatch):
        monkeypatch.setenv("OS_HEAT_API__WORKERS", "lots")
        error = refused("--config-file", write("[heat_api]\nworkers = 3\n"))
        assert "'lots'" in error.message
        assert "OS_HEAT_API__WORKERS" in error.remedy

    def test_dollar_in_a_password(self, write):
        path = write("[keystone_authtoken]\npassword = a$ecret\n")
        error = refused("--config-file", path)
        assert error.file == f"{path}:2"
        assert "$$" in error.remedy
        assert "ecret" not in error.message

    @pytest.mark.parametrize("value", ["$nowhere/log", "${nowhere}/log"])
    def test_dollar_in_an_option_that_is_also_a_flag(self, write, value):
        path = write(f"[DEFAULT]\ndebug = true\nlog_dir = {value}\n")
        error = refused("--config-file", path)
        assert (error.file, error.option) == (f"{path}:3", "[DEFAULT] log_dir")
        assert "$nowhere" in error.message

    def test_old_name_where_deprecations_are_fatal(self, write):
        # The warning counts once per process, so this name is used by no other test.
        path = write("[DEFAULT]\nfatal_deprecations = true\nmax_header_line = 9999\n")
        conf = cfg.CONF
        with pytest.raises(ConfigurationError, match="fatal_deprecations") as caught:
            load.load(conf, ["--config-file", path])
        assert caught.value.file == f"{path}:3"
        load.load(conf, [], development=True)

    def test_unknown_option_in_our_own_group(self, write):
        path = write("[heatperf]\naccess_log = true\ndrain_timeuot = 3\n")
        error = refused("--config-file", path)
        assert (error.file, error.option) == (f"{path}:3", "[heatperf] drain_timeuot")
        assert error.remedy == "did you mean drain_timeout?"

    def test_unknown_keystone_plugin(self, write):
        path = write("[keystone_authtoken]\nauth_type = pasword\n")
        error = refused("--config-file", path)
        assert (error.file, error.option) == (f"{path}:2", "[keystone_authtoken] auth_type")
        assert "password" in error.remedy

    def test_unknown_keystone_plugin_does_not_matter_to_a_pipeline_without_it(self, write):
        text = "[keystone_authtoken]\nauth_type = pasword\n[paste_deploy]\nflavor = noauth\n"
        assert loaded("--config-file", write(text)).paste_deploy.flavor == "noauth"

    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            (["--no-such-flag"], "unrecognized arguments: --no-such-flag"),
            (["--config-file"], "--config-file: expected one argument"),
            (["--debug=3"], "ignored explicit argument '3'"),
        ],
    )
    def test_wrong_arguments_are_for_the_caller_to_report(self, argv, words, capsys):
        with pytest.raises(files.WrongArguments) as caught:
            loaded(*argv, development=True)
        assert caught.value.code == 2
        assert words in caught.value.message
        assert "\n" not in caught.value.message
        assert capsys.readouterr().err == ""

    def test_version_exits_with_0(self, capsys):
        with pytest.raises(SystemExit) as caught:
            loaded("--version", development=True)
        assert caught.value.code == 0
        assert capsys.readouterr().out.strip()


class TestTransport:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("no scheme at all", "no driver:// in front"),
            ("", "no driver:// in front"),
            ("://u:hunter2@h/", "no driver:// in front"),
            ("rabbit:/u:hunter2@h/", "no driver:// in front"),
            ("rabbit:u:hunter2@h/", "no driver:// in front"),
            ("rabbit://", "names no host"),
            ("rabbit:///u:hunter2@h/", "names no host"),
            ("rabbit://u:hunter2@/", "names no host"),
            ("rabbit://u:hunter2@h,u:hunter2@:5672/", "names no host"),
            ("rabbit://u:hunter2@[::1/", "cannot take it apart"),
            ("rabbit://u:hunter2@h:port/", "port is no number"),
            ("rabit://u:hunter2@h/", "no messaging driver 'rabit'"),
            ("rabbit://u:hunter2@h/?ssl=perhaps", "ssl in the broker URL is not true or false"),
            ("rabbit://u:hunter2@h/?sssl=1", "no option of [oslo_messaging_rabbit]"),
        ],
    )
    def test_malformed(self, write, url, expected):
        path = write(f"[DEFAULT]\ntransport_url = {url}\n")
        error = refused("--config-file", path)
        assert (error.file, error.option) == (f"{path}:2", "[DEFAULT] transport_url")
        assert expected in error.message
        assert "hunter2" not in error.message + error.remedy

    def test_both_urls_are_tried(self, write):
        path = write("[DEFAULT]\ntransport_url = x\n[oslo_messaging_notifications]\ntransport_url = y\n")
        conf = cfg.ConfigOpts()
        problems = load.problems(conf, load.parse(conf, ["--config-file", path]))
        assert [problem.file for problem in problems] == [f"{path}:2", f"{path}:4"]

    def test_that_it_is_not_set_is_no_error_here(self, write):
        assert loaded("--config-file", write("")).transport_url == "rabbit://"

    def test_notifications_have_their_own(self, write):
        path = write("[oslo_messaging_notifications]\ntransport_url = nope\n")
        assert refused("--config-file", path).option == "[oslo_messaging_notifications] transport_url"

    @pytest.mark.parametrize(
        "url",
        ["rabbit://a:b@h1:5671,c:d@[::1]:5672//heat?ssl=1&ssl_ca_file=/ca.pem", "fake://", "kombu://h", "kombu+memory:///"],
    )
    def test_good(self, write, url):
        assert loaded("--config-file", write(f"[DEFAULT]\ntransport_url = {url}\n")).transport_url == url

    @pytest.mark.parametrize(
        ("text", "option"),
        [
            ("rabbit_quorum_queue = true\nrabbit_ha_queues = true\n", "rabbit_ha_queues"),
            ("rabbit_stream_fanout = true\n", "rabbit_stream_fanout"),
            ("rabbit_stream_fanout = true\nrabbit_qos_prefetch_count = 1\n", "rabbit_stream_fanout"),
            ("rpc_conn_pool_size = 1\n", "rpc_conn_pool_size"),
            ("use_queue_manager = true\n", "use_queue_manager"),
        ],
    )
    def test_what_the_driver_would_refuse_later_is_refused_now(self, write, text, option):
        error = refused("--config-file", write("[oslo_messaging_rabbit]\n" + text))
        assert error.option == f"[oslo_messaging_rabbit] {option}"

    def test_a_queue_manager_with_a_place_for_its_lock(self, write, tmp_path):
        queues = "[oslo_messaging_rabbit]\nuse_queue_manager = true\n"
        path = write(f"{queues}[oslo_concurrency]\nlock_path = {tmp_path}\n")
        assert loaded("--config-file", path).oslo_messaging_rabbit.use_queue_manager is True


class TestMemcached:
    SERVERS = "[keystone_authtoken]\nmemcached_servers = m:11211\n"

    def test_present_modules_suffice(self, write):
        text = self.SERVERS + "memcache_security_strategy = ENCRYPT\nmemcache_secret_key = hunter2\n"
        loaded("--config-file", write(text))

    @pytest.mark.parametrize(
        ("extra", "missing", "line", "option", "package"),
        [
            ("", "memcache", 2, "memcached_servers", "python-memcached"),
            ("memcache_security_strategy = encrypt\nmemcache_secret_key = hunter2\n",
             "cryptography.hazmat.primitives.ciphers", 3, "memcache_security_strategy", "cryptography"),
            ("memcache_tls_enabled = true\n", "bmemcached", 3, "memcache_tls_enabled", "python-binary-memcached"),
            ("memcache_sasl_enabled = true\n", "bmemcached", 3, "memcache_sasl_enabled", "python-binary-memcached"),
            ("memcache_sasl_enabled = true\nmemcache_use_advanced_pool = false\n",
             "bmemcached", 3, "memcache_sasl_enabled", "python-binary-memcached"),
        ],
    )  # fmt: skip
    def test_missing_module(self, write, monkeypatch, extra, missing, line, option, package):
        monkeypatch.setitem(sys.modules, missing, None)
        path = write(self.SERVERS + extra)
        error = refused("--config-file", path)
        assert (error.file, error.option) == (f"{path}:{line}", f"[keystone_authtoken] {option}")
        assert f"pip install {package}" in error.remedy
        assert "hunter2" not in str(error)

    @pytest.mark.parametrize("extra", ["memcache_security_strategy = MAC\nmemcache_secret_key = x\n", ""])
    def test_what_is_not_needed_may_be_missing(self, write, monkeypatch, extra):
        for name in ("bmemcached", "cryptography.hazmat.primitives.ciphers"):
            monkeypatch.setitem(sys.modules, name, None)
        loaded("--config-file", write(self.SERVERS + extra))

    @pytest.mark.parametrize("servers", ["", "memcached_servers = m:11211\n"])
    def test_strategy_without_a_key(self, write, servers):
        error = refused("--config-file", write(f"[keystone_authtoken]\nmemcache_security_strategy = MAC\n{servers}"))
        assert error.option == "[keystone_authtoken] memcache_secret_key"

    def test_a_pipeline_without_tokens_needs_none_of_it(self, write, monkeypatch):
        monkeypatch.setitem(sys.modules, "memcache", None)
        loaded("--config-file", write(self.SERVERS + "[paste_deploy]\nflavor = noauth\n"))


class TestTLS:
    @pytest.fixture(scope="class")
    def pems(self, tmp_path_factory) -> pathlib.Path:
        """Two self-signed pairs, and the first key again behind a passphrase."""
        directory = tmp_path_factory.mktemp("tls")
        for name in ("a", "b"):
            arguments = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name}"
            self.openssl(directory, f"{arguments} -keyout {name}.key -out {name}.crt")
        self.openssl(directory, "pkey -in a.key -aes256 -passout pass:hunter2 -out locked.key")
        (directory / "junk").write_text("junk\n")
        return directory

    @staticmethod
    def openssl(directory: pathlib.Path, arguments: str) -> None:
        subprocess.run(["openssl", *arguments.split()], cwd=directory, check=True, capture_output=True)

    def test_good_pair(self, write, pems):
        conf = loaded("--config-file", write(f"[heat_api]\ncert_file = {pems}/a.crt\nkey_file = {pems}/a.key\n"))
        assert conf.heat_api.cert_file == f"{pems}/a.crt"

    @pytest.mark.parametrize(
        ("cert", "key", "line", "option", "expected"),
        [
            ("a.crt", None, None, "key_file", "key_file is not set"),
            (None, "a.key", None, "cert_file", "cert_file is not set"),
            ("none", "a.key", 2, "cert_file", "No such file"),
            ("a.crt", "none", 3, "key_file", "No such file"),
            ("a.crt", "b.key", 3, "key_file", "is not the private key of"),
            ("junk", "a.key", 2, "cert_file", "no PEM certificate"),
            ("a.crt", "locked.key", 3, "key_file", "passphrase"),
        ],
    )
    def test_refused(self, write, pems, cert, key, line, option, expected):
        text = "[heat_api]\n"
        text += f"cert_file = {pems}/{cert}\n" if cert else ""
        text += f"key_file = {pems}/{key}\n" if key else ""
        path = write(text)
        error = refused("--config-file", path)
        assert expected in error.message
        assert error.option == f"[heat_api] {option}"
        assert error.file == (f"{path}:{line}" if line else None)

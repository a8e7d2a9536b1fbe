"""transport_url and [oslo_messaging_rabbit] as the rabbit transport reads them, held against the stock driver."""

import logging
import os
import ssl
import subprocess
import sys
import textwrap
import warnings

import kombu
import pytest
from oslo_config import cfg
from pipeline_rig import OPEN, PASTE, configuration

from heatperf.errors import ConfigurationError
from heatperf.pipeline import application
from heatperf.rpc.oslo import OsloTransport
from heatperf.rpc.rabbit import options
from heatperf.rpc.rabbit.settings import random_reply_queue
from heatperf.rpc.rabbit.transport import RabbitTransport

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import oslo_messaging
    from oslo_messaging._drivers import amqpdriver, impl_rabbit

URL = "rabbit://heat:s3cret@broker:5672/"


@pytest.fixture
def read(tmp_path):
    def parsed(rabbit="", url=URL, more=""):
        text = f"{OPEN}[DEFAULT]\ntransport_url = {url}\n{more}\n[oslo_messaging_rabbit]\n{rabbit}"
        return options.read(configuration(tmp_path, text))

    return parsed


def test_defaults(read):
    found = read()
    assert [str(host) for host in found.hosts] == ["broker:5672"] and "s3cret" not in repr(found)
    assert (found.hosts[0].user, found.hosts[0].password, found.vhost) == ("heat", "s3cret", "/")
    assert (found.control_exchange, found.durable, found.reply_durable, found.heartbeat) == ("heat", False, False, 60)
    assert found.reply_arguments == {"x-expires": 1_800_000} and found.tls is None and found.prefetch == 0
    assert (found.response_timeout, found.connect_deadline, found.engine_grace) == (60, 5, 15)
    assert found.most_under_way == 512 and found.name_reply_queue is random_reply_queue
    assert (found.pace.first, found.pace.step, found.pace.most, found.shuffle) == (1, 2, 30, False)


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "rabbit://h/",
        "rabbit://h",
        "rabbit://h//",
        "rabbit://h//sub",
        "rabbit://u:p@h:1/heat",
        "rabbit://u:p%40x%3Ay@h/a%20b",
        "rabbit://u@h/v",
        "rabbit://:p@h/v",
        "rabbit://u:p@[::1]:5673/v",
        "rabbit://u:p@a:1,b,v:w@c:3/v?ssl=0",
        "rabbit://h/a%2Fb",
        "rabbit://h/100%2525",
    ],
)
def test_hosts_credentials_and_vhost_are_what_kombu_would_use(read, url):
    found = read(url=url)
    parsed = oslo_messaging.TransportURL.parse(cfg.CONF, url)
    stock = []
    for host in parsed.hosts:
        text = impl_rabbit.Connection._transform_transport_url(None, parsed, host)
        connection = kombu.Connection(text)
        info = connection.info()
        defaults = connection.transport.default_connection_params
        stock.append(
            (
                info["hostname"],
                info["port"],
                info["userid"] or defaults["userid"],
                connection.password or defaults["password"],
                info["virtual_host"],
            )
        )
    assert [(host.name, host.port, host.user, host.password, found.vhost) for host in found.hosts] == stock


@pytest.mark.parametrize(
    ("rabbit", "durable", "arguments"),
    [
        ("", False, {"x-expires": 1_800_000}),
        ("rabbit_transient_queues_ttl = 0", False, {}),
        ("rabbit_ha_queues = true", False, {"x-ha-policy": "all", "x-expires": 1_800_000}),
        ("rabbit_quorum_queue = true", False, {"x-expires": 1_800_000}),
        (
            "rabbit_transient_quorum_queue = true\nrabbit_quorum_delivery_limit = 3\n"
            "rabbit_quorum_max_memory_length = 4\nrabbit_quorum_max_memory_bytes = 5",
            True,
            {
                "x-queue-type": "quorum",
                "x-delivery-limit": 3,
                "x-max-in-memory-length": 4,
                "x-max-in-memory-bytes": 5,
                "x-expires": 1_800_000,
            },
        ),
    ],
)
def test_how_the_reply_queue_is_declared(read, rabbit, durable, arguments):
    found = read(rabbit)
    assert (found.reply_durable, found.reply_arguments) == (durable, arguments)
    driver = cfg.CONF.oslo_messaging_rabbit
    limits = impl_rabbit.QuorumMemConfig(
        driver.rabbit_quorum_delivery_limit,
        driver.rabbit_quorum_max_memory_length,
        driver.rabbit_quorum_max_memory_bytes,
    )
    assert arguments == impl_rabbit._get_queue_arguments(
        driver.rabbit_ha_queues, driver.rabbit_transient_queues_ttl, driver.rabbit_transient_quorum_queue, limits, False
    )


def test_the_rest(read):
    found = read(
        "amqp_durable_queues = true\namqp_auto_delete = true\nrabbit_qos_prefetch_count = 9\n"
        "heartbeat_timeout_threshold = 0\nkombu_failover_strategy = shuffle\nkombu_compression = gzip\n"
        "enable_cancel_on_failover = true\nrabbit_login_method = PLAIN\nrabbit_retry_interval = 4\n"
        "rabbit_retry_backoff = 5\nrabbit_interval_max = 6\nkombu_reconnect_splay = 7\n"
        "kombu_reconnect_delay = 4.5\n",
        more="control_exchange = other\nrpc_response_timeout = 8\n[heatperf]\nrpc_connect_deadline = 9\n"
        "rpc_engine_grace = 10\nrpc_concurrency = 11\nrpc_queue = 12",
    )
    assert (found.durable, found.auto_delete, found.prefetch, found.heartbeat) == (True, True, 9, 0)
    assert (found.shuffle, found.compression, found.mechanisms) == (True, "gzip", ("PLAIN",))
    assert found.consumer_arguments == {"x-cancel-on-ha-failover": True}
    assert (found.pace.first, found.pace.step, found.pace.most, found.pace.splay, found.pace.delay) == (4, 5, 6, 7, 4.5)
    assert (found.control_exchange, found.response_timeout) == ("other", 8)
    assert (found.connect_deadline, found.engine_grace, found.most_under_way) == (9, 10, 23)


def test_the_url_overrides_the_file(read):
    found = read("heartbeat_timeout_threshold = 7\n", url=URL + "?heartbeat_timeout_threshold=11&rabbit_quorum_queue=1")
    assert (found.heartbeat, found.durable) == (11, True)
    with pytest.raises(options.Unsupported, match="kombu_compression"):
        read(url=URL + "?kombu_compression=lz77")


@pytest.mark.parametrize(
    ("query", "option"),
    [
        ("use_queue_manager=1", "use_queue_manager"),
        ("rabbit_ha_queues=1&rabbit_transient_quorum_queue=1", "rabbit_ha_queues"),
        ("rabbit_ha_queues=1&rabbit_quorum_queue=1", "rabbit_ha_queues"),
    ],
)
def test_contradictions_in_the_url_refuse_the_start(read, query, option):
    with pytest.raises(ConfigurationError) as caught:
        read(url=f"{URL}?{query}")
    assert caught.value.option == f"[oslo_messaging_rabbit] {option}" and "s3cret" not in str(caught.value)


class TestTls:
    @pytest.fixture(scope="class")
    def files(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("tls")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "key.pem", "-out",
             folder / "cert.pem", "-days", "2", "-subj", "/CN=broker"],
            check=True, capture_output=True,
        )  # fmt: skip
        return folder

    def test_without_an_authority_the_name_is_not_verified(self, read, caplog):
        tls = read("ssl = true\n").tls
        assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, False)
        assert [record.levelno for record in caplog.records if "ssl_ca_file" in record.getMessage()] == [
            logging.WARNING
        ]

    def test_with_a_version_as_well_nothing_is(self, read, caplog):
        tls = read("ssl = true\nssl_version = TLSv1_2\n").tls
        assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_NONE, False) and "any certificate" in caplog.text

    def test_with_an_authority_everything_is(self, read, files, caplog):
        pair = f"ssl_cert_file = {files}/cert.pem\nssl_key_file = {files}/key.pem\n"
        for more in ("", "ssl_version = TLSv1_2\n", pair, "ssl_enforce_hostname_verification = false\n"):
            tls = read(f"ssl = true\nssl_ca_file = {files}/cert.pem\n{more}").tls
            assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
            assert len(tls.get_ca_certs()) == 1
        assert "not verified" not in caplog.text

    def test_nobody_is_asked_for_a_passphrase(self, read, files):
        locked = files / "locked.pem"
        subprocess.run(
            ["openssl", "rsa", "-aes128", "-passout", "pass:1234", "-in", files / "key.pem", "-out", locked],
            check=True, capture_output=True,
        )  # fmt: skip
        with pytest.raises(ConfigurationError, match="passphrase"):
            read(f"ssl = true\nssl_cert_file = {files}/cert.pem\nssl_key_file = {locked}\n")

    @pytest.mark.parametrize(
        ("lines", "option"),
        [
            ("ssl_ca_file = /nowhere/ca.pem\n", "ssl_ca_file"),
            ("ssl_ca_file = {key}\n", "ssl_ca_file"),
            ("ssl_cert_file = {cert}\nssl_key_file = /nowhere/key.pem\n", "ssl_key_file"),
            ("ssl_cert_file = {cert}\nssl_key_file = {cert}\n", "ssl_cert_file"),
        ],
    )
    def test_files_that_cannot_be_used_refuse_the_start(self, read, files, lines, option):
        lines = lines.format(key=files / "key.pem", cert=files / "cert.pem")
        with pytest.raises(ConfigurationError) as caught:
            read("ssl = true\n" + lines)
        assert caught.value.option == f"[oslo_messaging_rabbit] {option}"


class TestChoice:
    """rpc_transport = auto, lean, oslo."""

    @pytest.fixture
    def made(self, tmp_path):
        def transport(url=URL, more="", choice="auto"):
            text = f"{OPEN}[DEFAULT]\ntransport_url = {url}\n[heatperf]\nrpc_transport = {choice}\n{more}"
            return application._transport(configuration(tmp_path, text), "rpc", None)

        return transport

    CASES = (
        ("fake://", "", "[DEFAULT] transport_url"),
        ("kombu+memory://", "", "[DEFAULT] transport_url"),
        ("kombu://u:s3cret@h/", "", "[DEFAULT] transport_url"),
        (URL, "[oslo_messaging_metrics]\nmetrics_enabled = true\n", "[oslo_messaging_metrics] metrics_enabled"),
        (URL, "[oslo_messaging_tracing]\ntracing_enabled = true\n", "[oslo_messaging_tracing] tracing_enabled"),
        (
            URL,
            "[oslo_messaging_rabbit]\nrabbit_login_method = RABBIT-CR-DEMO\n",
            "[oslo_messaging_rabbit] rabbit_login_method",
        ),
        (URL, "[oslo_messaging_rabbit]\nkombu_compression = zstd\n", "[oslo_messaging_rabbit] kombu_compression"),
        (URL, "[oslo_messaging_rabbit]\nssl = true\nssl_version = TLSv9\n", "[oslo_messaging_rabbit] ssl_version"),
    )

    def test_lean_by_default(self, made):
        assert type(made()) is RabbitTransport
        assert type(made(choice="lean")) is RabbitTransport

    def test_stock_where_asked_for(self, made, caplog):
        assert type(made(choice="oslo")) is OsloTransport and "lean" not in caplog.text

    @pytest.mark.parametrize(("url", "more", "option"), CASES)
    def test_stock_where_lean_cannot(self, made, caplog, url, more, option):
        assert type(made(url, more)) is OsloTransport
        [line] = [record.getMessage() for record in caplog.records if "lean" in record.getMessage()]
        assert option in line and "s3cret" not in line

    @pytest.mark.parametrize(("url", "more", "option"), CASES)
    def test_refusal_where_nothing_else_will_do(self, made, url, more, option):
        with pytest.raises(ConfigurationError) as caught:
            made(url, more, "lean")
        assert caught.value.option == option and "s3cret" not in str(caught.value)


class TestNumberedQueues:
    """use_queue_manager: one counter for all processes of a host and name, stock or lean."""

    @pytest.fixture
    def numbered(self, read, tmp_path, monkeypatch, request):
        # The leader of the process group is asked for its age, by stock workers without looking whether it lives: a
        # program that was started in the background may have lost it.
        monkeypatch.setattr(os, "getpgrp", os.getpid)
        hostname = f"h{os.getpid()}"
        path = f"/dev/shm/{hostname}_heat-api_qmanager"  # noqa: S108 - oslo.messaging's own place
        rabbit = f"use_queue_manager = true\nhostname = {hostname}\n"
        lock_path = f"[oslo_concurrency]\nlock_path = {tmp_path}\n"
        found = read(rabbit, more=lock_path)
        yield found.name_reply_queue, amqpdriver.QManager(hostname, "heat-api"), hostname, path
        os.unlink(path)

    def test_lean_and_stock_workers_never_share_a_name(self, numbered):
        lean, stock, hostname, _path = numbered
        names = [lean(), "reply_" + stock.get(), lean(), lean(), "reply_" + stock.get()]
        assert names == [f"reply_{hostname}:heat-api:{number}" for number in (1, 2, 3, 4, 5)]

    def test_a_service_that_was_started_anew_begins_with_one(self, numbered):
        lean, _stock, hostname, path = numbered
        for text in ("1:77:5", "garbage", ""):
            with open(path, "w") as file:
                file.write(text)
            assert lean() == f"reply_{hostname}:heat-api:1"

    def test_the_numbers_go_on_when_whoever_leads_the_process_group_has_ended(self, numbered):
        """Its start time cannot be read any more, but workers with the numbers so far live on."""
        lean, _stock, hostname, path = numbered
        script = "import sys; from heatperf.rpc.rabbit import options; print(options._next(sys.argv[1]))"
        # The shell leads the group and ends first; what it has started waits for that.
        alive = f'{sys.executable} -c "{script}" {path}'
        after = f"while kill -0 $$ 2>/dev/null; do sleep 0.02; done; {alive}; {alive}"
        leader = ["sh", "-c", f"{alive}; ({after}) & exit 0"]
        with subprocess.Popen(leader, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            assert process.wait(30) == 0
            assert process.stdout.read().split() == ["1", "2", "3"]


def test_a_lean_worker_loads_neither_eventlet_nor_drivers(tmp_path):
    """Both cost memory in every worker, and eventlet is what upstream is leaving."""
    (tmp_path / "heat.conf").write_text("[DEFAULT]\ntransport_url = rabbit://u:p@127.0.0.1:9/\n")
    (tmp_path / "api-paste.ini").write_text(PASTE)
    program = textwrap.dedent(
        """
        import sys
        from oslo_config import cfg
        from heatperf.cli import service
        from heatperf.config import load
        from heatperf.pipeline import application
        import heatperf.server.worker, heatperf.server.supervisor
        from heatperf import loops
        load.load(cfg.CONF, ["--config-file", sys.argv[1]])
        pipeline = application.build(cfg.CONF, "rpc")
        loop = loops.create("gevent")
        def serve():
            pipeline.start(loop)
            loop.sleep(0.2)
            pipeline.stop()
            loop.stop()
        loop.spawn(serve)
        loop.run()
        heavy = ("eventlet", "oslo_messaging", "kombu", "amqp", "oslo_service", "oslo_metrics", "confluent_kafka")
        print(sorted({name.split(".")[0] for name in sys.modules} & set(heavy)))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "heat.conf")], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.strip().splitlines()[-1:] == ["[]"], done.stderr[-2000:]

"""The same calls in front of engines of several releases, alone and together, and with the broker's other options.

The newer releases' migrations only add to the schema, so that older engines work on it. Between releases the engines'
own calls to each other changed (25's workers refuse 27's check_resource), which has nothing to do with the API: so
upstream's guide to rolling upgrades gives the new engines a virtual host of their own, and on one queue engines of both
can only be mixed with ``convergence_engine`` off, where an engine does a stack's work itself.
"""

from pathlib import Path

import pytest
from client_table import STOCK, Serve, Table
from stack import Cloud, Keystone, MariaDB, OpenStackClient, RabbitMQ, run_script
from stack.launcher import Launcher

RELEASES = {"heat-24": "24.1.2", "heat-25": "25.0.1", "heat-27": STOCK}
SERVED = "heat.engine.service [None req-"
QUORUM = {"rabbit_quorum_queue": "true"}
TRANSIENT = QUORUM | {"rabbit_transient_quorum_queue": "true"}
MANAGER = TRANSIENT | {"use_queue_manager": "true"}
STREAM = MANAGER | {"rabbit_stream_fanout": "true", "rabbit_qos_prefetch_count": "1"}


@pytest.mark.parametrize(
    ("name", "releases", "rabbit"),
    [
        pytest.param("alone24", ["heat-24"], {}, id="24-alone"),
        pytest.param("alone25", ["heat-25"], {}, id="25-alone"),
        pytest.param("alone27", ["heat-27"], {}, id="27-alone"),
        pytest.param("rolling", ["heat-27", "heat-25"], {}, id="27-and-25"),
        pytest.param("quorum", ["heat-27"], QUORUM, id="quorum-queues"),
        pytest.param("transient", ["heat-27"], TRANSIENT, id="transient-quorum-queues"),
        pytest.param("manager", ["heat-27"], MANAGER, id="queue-manager"),
        pytest.param("stream", ["heat-27"], STREAM, id="stream-fanout"),
    ],
)
def test_the_same_calls_pass(
    launcher: Launcher,
    broker: RabbitMQ,
    keystone: Keystone,
    databases: MariaDB,
    serve: Serve,
    table: Table,
    nested: Path,
    scripts: Path,
    tmp_path: Path,
    name: str,
    releases: list[str],
    rabbit: dict[str, str],
) -> None:
    options = {"oslo_messaging_rabbit": rabbit}
    if len(releases) > 1:
        options["DEFAULT"] = {"convergence_engine": "false"}
    if rabbit:
        # The queue manager numbers its queues under a file lock, and wants a folder for it.
        options["oslo_concurrency"] = {"lock_path": str(tmp_path)}
    cloud = launcher.start(
        Cloud(tmp_path / "cloud", broker, keystone, vhost=name, releases=releases, options=options, database=databases)
    )
    try:
        _server, credentials = serve(tmp_path / "api", cloud.config_file)
        report = run_script(
            scripts / "heatclient_rows.py", nested, "core", credentials=credentials, directory=tmp_path, timeout=180
        )
        kept = name if rabbit else "defaults"
        engines = " + ".join(RELEASES[release] for release in releases)
        table.add(
            "python-heatclient",
            f"stacks, catalogue, software in front of it ({len(report.rows)} steps; queues: {kept})",
            not report.failures,
            engines,
        )
        assert report.failures == {}
        assert report.rows
        # Of a pair, both took calls: the queue hands them out in turn.
        for engine in cloud.engines:
            assert SERVED in "".join(log.read_text() for log in engine.logs), engine.release
    finally:
        launcher.stop(cloud)


def test_a_rolling_upgrade(
    launcher: Launcher,
    broker: RabbitMQ,
    keystone: Keystone,
    databases: MariaDB,
    serve: Serve,
    table: Table,
    nested: Path,
    tmp_path: Path,
) -> None:
    """25's engine goes on while 27's migrates the database and starts on a virtual host of its own."""
    engines = f"{RELEASES['heat-25']} to {STOCK}"
    source = ("-t", nested / "parent.yaml", "-e", nested / "environment.yaml")

    def part(release: str) -> tuple[Cloud, OpenStackClient]:
        cloud = launcher.start(
            Cloud(
                tmp_path / release,
                broker,
                keystone,
                vhost=f"upgrade-{release}",
                releases=[release],
                database=databases,
                schema="upgrade",
            )
        )
        started.append(cloud)
        _server, credentials = serve(tmp_path / f"api-{release}", cloud.config_file)
        return cloud, OpenStackClient(credentials, tmp_path)

    def said(client: OpenStackClient, stack: str) -> str:
        return str(client.json("stack", "output", "show", stack, "said")["output_value"])

    started: list[Cloud] = []
    try:
        _old_cloud, old = part("heat-25")
        old("stack", "create", "--wait", "--poll", "1", *source, "before")
        _new_cloud, new = part("heat-27")
        with table.row("openstackclient", "upgrade: both engines show and change stacks on the new schema", engines):
            old("stack", "create", "--wait", "--poll", "1", *source, "during")
            assert said(new, "before") == said(old, "during") == "Hello"
            old("stack", "update", "--wait", "--existing", "--parameter", "greeting=Old", "before")
            assert said(new, "before") == "Old"
        launcher.stop(started[0])
        with table.row("openstackclient", "upgrade: the new engine updates and deletes what the old one made", engines):
            for stack in ("before", "during"):
                new("stack", "update", "--wait", "--existing", "--parameter", "greeting=New", stack)
                assert said(new, stack) == "New"
            new("stack", "delete", "-y", "--wait", "before", "during")
    finally:
        for cloud in started:
            launcher.stop(cloud)

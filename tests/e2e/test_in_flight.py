"""Many slow engine calls at once in one worker, through a real broker."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import amqp
import requests
from stack import Heatperf, RabbitMQ
from stack.launcher import Launcher
from stack.paths import upstream_paste_file

CALLS = 200
TIMEOUT = 5  # seconds; rpc_response_timeout


def declare_engine_queue(broker: RabbitMQ, vhost: str) -> None:
    """As an engine leaves it behind that has just stopped."""
    address = f"127.0.0.1:{broker.port}"
    with amqp.Connection(address, userid="heat", password=broker.password, virtual_host=vhost) as connection:
        channel = connection.channel()
        channel.exchange_declare("heat", "topic", durable=False, auto_delete=False)
        channel.queue_declare("engine", durable=False, auto_delete=False)
        channel.queue_bind("engine", "heat", "engine")


def test_two_hundred_calls_wait_at_once(launcher: Launcher, broker: RabbitMQ, tmp_path: Path) -> None:
    """No engine serves the queue of this virtual host, so every call lasts rpc_response_timeout.

    One after the other they would take a quarter of an hour; meanwhile the worker answers what needs no engine.
    """
    url = broker.url("nobody")
    declare_engine_queue(broker, "nobody")
    config = tmp_path / "heat.conf"
    config.write_text(
        f"[DEFAULT]\ntransport_url = {url}\nrpc_response_timeout = {TIMEOUT}\n"
        f"[paste_deploy]\nflavor = noauth\napi_paste_config = {upstream_paste_file()}\n"
        "[oslo_policy]\nenforce_new_defaults = false\n"
    )
    server = launcher.start(Heatperf(tmp_path / "heatperf", config, workers=1))
    try:
        began = time.monotonic()
        with ThreadPoolExecutor(CALLS) as clients:
            waiting = [clients.submit(requests.get, f"{server.url}/v1/admin/stacks", timeout=60) for _ in range(CALLS)]
            while not any(call.done() for call in waiting):
                assert requests.get(server.url, timeout=TIMEOUT).status_code == 300
            answers = [call.result() for call in waiting]
        took = time.monotonic() - began
    finally:
        launcher.stop(server)
    assert {answer.json()["error"]["type"] for answer in answers} == {"MessagingTimeout"}
    assert took < 4 * TIMEOUT

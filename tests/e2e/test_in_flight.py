"""Many slow engine calls at once in one worker, through a real broker."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from stack import Heatperf, RabbitMQ
from stack.launcher import Launcher
from stack.paths import upstream_paste_file

CALLS = 200
TIMEOUT = 5  # seconds; rpc_response_timeout


def test_two_hundred_calls_wait_at_once(launcher: Launcher, broker: RabbitMQ, tmp_path: Path) -> None:
    """No engine listens on this virtual host, so every call lasts rpc_response_timeout.

    One after the other they would take a quarter of an hour; meanwhile the worker answers what needs no engine.
    """
    config = tmp_path / "heat.conf"
    config.write_text(
        f"[DEFAULT]\ntransport_url = {broker.url('nobody')}\nrpc_response_timeout = {TIMEOUT}\n"
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

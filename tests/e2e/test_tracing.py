"""A traced request: one trace from the API to the stock engine, read back by osprofiler's own program.

Collector is the broker (``messaging://``), as it needs no server of its own; osprofiler has drivers for others, which
heatperf knows nothing of either.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from osprofiler import _utils as signing
from stack import Cloud, HeatEngine, RabbitMQ
from stack.api import ApiServer
from stack.launcher import Launcher
from stack.paths import project, upstream_paste_file
from stack.process import environment, run

KEYS = ["an-old-key", "the-key"]
VHOST = "traced"


@pytest.fixture(scope="module")
def transport_url(broker: RabbitMQ) -> str:
    """A virtual host of its own: the traces of other tests' engines would end up in the same queue."""
    return broker.url(VHOST)


@pytest.fixture(scope="module")
def traced(
    api: ApiServer, cloud: Cloud, broker: RabbitMQ, launcher: Launcher, stack_directory: Path, transport_url: str
) -> Iterator[ApiServer]:
    """An API server with tracing on, and a stock engine with the same heat.conf behind it."""
    options = {"enabled": "true", "hmac_keys": ",".join(KEYS), "connection_string": "messaging://"}
    extra = {"DEFAULT": {"transport_url": transport_url}, "profiler": options}
    config = cloud.config("heat-traced.conf", upstream_paste_file(), extra)
    engine = launcher.start(HeatEngine(stack_directory / "traced-engine", config, broker, VHOST))
    server = launcher.start(type(api)(stack_directory / "traced-api", config, workers=1))
    yield server
    launcher.stop(server)
    launcher.stop(engine)


def signed(key: str, base_id: str) -> dict[str, str]:
    """The headers that a client started with ``--os-profile KEY`` sends."""
    info, digest = signing.signed_pack({"base_id": base_id, "parent_id": base_id}, key)
    return {"X-Trace-Info": info.decode() if isinstance(info, bytes) else info, "X-Trace-HMAC": digest}


def collected(transport_url: str, base_id: str, directory: Path) -> list[dict[str, Any]]:
    """The points of a trace, flat, in the order of the tree: service, name, and the depth below the request."""
    words = [project("osprofiler"), "trace", "show", "--json", "--connection-string", "messaging://"]
    words += ["--transport-url", transport_url, "--idle-timeout", "2", base_id]
    text = run(words, timeout=60, env=environment(), cwd=directory)
    points: list[dict[str, Any]] = []

    def walk(node: dict[str, Any], depth: int) -> None:
        if depth:
            points.append({**{key: node["info"][key] for key in ("service", "name", "project")}, "depth": depth})
        for child in node["children"]:
            walk(child, depth + 1)

    walk(json.loads(text[text.index("{") :]), 0)
    return points


def test_a_trace_goes_from_the_api_into_the_engine(
    traced: ApiServer, cloud: Cloud, transport_url: str, tmp_path: Path
) -> None:
    base_id = "10000000-0000-4000-8000-000000000001"
    url = f"{traced.url}/v1/{cloud.keystone.project_id(cloud.keystone.user)}/stacks"
    token = {"X-Auth-Token": cloud.keystone.token(cloud.keystone.user)}
    unsigned = requests.get(url, headers=token | signed("another key", base_id), timeout=60)
    answer = requests.get(url, headers=token | signed(KEYS[1], base_id), timeout=60)
    assert (unsigned.status_code, answer.status_code) == (200, 200)
    points = collected(transport_url, base_id, tmp_path)
    # the request that was signed with another key is not in it
    requested = [point for point in points if point["name"] == "wsgi"]
    assert [(point["service"], point["project"]) for point in requested] == [("heat-api", "heat")]
    engines = [point for point in points if point["service"] == "heat-engine"]
    assert engines
    # what the engine did is below the request that asked for it
    assert all(point["depth"] > requested[0]["depth"] for point in engines)

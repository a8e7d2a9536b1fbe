"""Flavor custombackend, for which nothing is recorded: upstream and heatperf beside each other on one engine.

Before every request of this flavor the engine is asked whether the caller is good; the identity is what the client's
headers say.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rig
from stack import Heatperf, RabbitMQ, UpstreamApi
from stack.launcher import Launcher
from stack.paths import upstream_paste_file

sys.path.insert(0, str(rig.PROGRAMS))
import replay  # type: ignore[import-not-found]  # noqa: E402

MEMBER = {"X-Project-Id": "p1", "X-User-Id": "u1", "X-Roles": "member"}
JSON_TYPE = {"Content-Type": "application/json"}
CREATE = '{"stack_name": "s", "template": {"heat_template_version": "2018-08-31"}}'

Ask = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def servers(broker: RabbitMQ, launcher: Launcher, stack_directory: Path) -> Iterator[tuple[Ask, Ask]]:
    """Functions that send a case to upstream and to heatperf, and return answer and messages."""
    folder = stack_directory / "custombackend"
    files = rig.rendered("base", folder, "http://keystone.invalid:5000", broker.url("custombackend"))
    heat_conf = files.read_text().replace("flavor = noauth", "flavor = custombackend")
    files.write_text(heat_conf.replace(f"{folder}/api-paste.ini", str(upstream_paste_file())))
    with rig.recording_engine(folder / "engine", files) as log, log.open() as messages:
        upstream = launcher.start(UpstreamApi(folder / "upstream", files, workers=1))
        heatperf = launcher.start(Heatperf(folder / "heatperf", files, workers=1))

        def asking(port: int) -> Ask:
            names = replay.Vars(argparse.Namespace(keystone_url="http://keystone.invalid:5000"))
            names.add("server", f"127.0.0.1:{port}")
            return lambda case: replay.run_once(case, names, "127.0.0.1", port, messages)

        yield asking(upstream.port), asking(heatperf.port)
        launcher.stop(heatperf)
        launcher.stop(upstream)


@pytest.mark.parametrize(
    "method, path, headers, body",
    [
        ("GET", "/v1/p1/stacks", MEMBER, None),
        ("GET", "/v1/p1/stacks", {}, None),
        ("GET", "/v1/p1/stacks", {**MEMBER, "X-Roles": ""}, None),
        ("GET", "/v1/p2/stacks", MEMBER, None),
        ("GET", "/v1/p2/stacks", {**MEMBER, "X-Roles": "admin"}, None),
        ("GET", "/v1/p1/stacks", {**MEMBER, "X-Auth-Token": "t", "X-Auth-User": "u", "X-Auth-Key": "k"}, None),
        ("POST", "/v1/p1/stacks", {**MEMBER, **JSON_TYPE}, CREATE),
        ("POST", "/v1/p1/stacks", {**MEMBER, **JSON_TYPE}, "{"),
        ("GET", "/v1/fail-NotFound/stacks", {**MEMBER, "X-Project-Id": "fail-NotFound"}, None),
        # to this project the recording engine says no
        ("GET", "/v1/shape-none/stacks", {**MEMBER, "X-Project-Id": "shape-none"}, None),
        ("GET", "/v1/p1/nowhere", MEMBER, None),
        ("GET", "/", {}, None),
        ("GET", "/v2/p1/stacks", MEMBER, None),
        ("OPTIONS", "/v1/p1/stacks", {}, None),
        ("GET", "/healthcheck", {}, None),
        ("GET", "/v1/p1/stacks", {**MEMBER, "Accept": "text/plain", "X-Project-Id": "no"}, None),
    ],
)
def test_both_answer_alike(
    servers: tuple[Ask, Ask], method: str, path: str, headers: dict[str, str], body: str | None
) -> None:
    case: dict[str, Any] = {"id": "c", "method": method, "path": path, "headers": list(headers.items())}
    if body is not None:
        case["body"] = body
    expected, got = (ask(case) for ask in servers)
    assert expected["response"]["status"]
    assert replay.compare(expected, got) == []


def test_the_engine_was_asked(servers: tuple[Ask, Ask]) -> None:
    case = {"id": "c", "method": "GET", "path": "/v1/p1/stacks", "headers": list(MEMBER.items())}
    for ask in servers:
        calls = [(message["method"], message["version"]) for message in ask(case)["rpc"]]
        assert calls == [("authenticated_to_backend", "1.0"), ("list_stacks", "1.33")]

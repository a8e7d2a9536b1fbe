"""Development mode on real input: the program as a newcomer starts it, the stock client, no cloud.

One server serves the tests that leave it as it was (``development``): it is started with no configuration of any kind,
and again, after it was killed, with ``--dev`` beside configuration that is broken. Tests that harm a server have one of
their own.
"""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from stack.client import CommandFailed
from stack.development import ENGINE, WORKER, Development, Project, Stranger
from stack.launcher import Launcher
from stack.paths import EXAMPLES, project
from stack.process import wait_until

VERSION = {"heat_template_version": "2021-04-16"}
SMALL = {**VERSION, "resources": {"value": {"type": "OS::Heat::Value", "properties": {"value": "kept"}}}}
BROKEN_CONF = "[heat_api]\nworkers = many\n[DEFAULT]\ntransport_url = nonsense://\nno option at all\n"


def slow(seconds: int) -> dict[str, Any]:
    """A template whose resource takes that long, and goes at once when it is deleted."""
    properties = {"wait_secs": seconds, "action_wait_secs": {"delete": 0, "update": 0}}
    return {**VERSION, "resources": {"slow": {"type": "OS::Heat::TestResource", "properties": properties}}}


def outputs(stack: dict[str, Any]) -> dict[str, Any]:
    return {output["output_key"]: output["output_value"] for output in stack["outputs"]}


def leave_nothing(demo: Project) -> None:
    """Delete what a test has made."""
    paths = [f"/stacks/{name}/{stack['id']}" for name, stack in demo.stacks().items()]
    for path in paths:
        assert demo("DELETE", path).status == 204
    assert {demo.wait(path) for path in paths} <= {"DELETE_COMPLETE"}


@pytest.fixture(scope="module")
def shared(launcher: Launcher, stack_directory: Path) -> Iterator[Development]:
    part = Development(stack_directory / "development", arguments=[])
    # Without --state it is below HOME.
    part.state = part.home / ".local" / "state" / "heatperf"
    launcher.start(part)
    yield part
    launcher.stop(part)


@pytest.fixture
def development(shared: Development) -> Iterator[Development]:
    """The server that stays."""
    yield shared
    for name in ("demo", "a", "b"):
        leave_nothing(shared.project(name))


@pytest.fixture
def own(launcher: Launcher, tmp_path: Path) -> Iterator[Development]:
    """A server to be harmed; not started yet."""
    part = Development(tmp_path / "own")
    yield part
    launcher.stop(part)


@pytest.fixture
def openstack(development: Development, tmp_path: Path) -> Stranger:
    return Stranger(tmp_path, development.url, "demo")


class TestStacks:
    def test_no_configuration_at_all_is_development_mode(self, development: Development) -> None:
        assert "development mode: no authentication, loopback only" in development.output
        assert f"kept in {development.state}." in development.output
        assert (development.state / "engine.sqlite").stat().st_mode & 0o777 == 0o600
        assert development.state.stat().st_mode & 0o777 == 0o700

    def test_a_stack_from_its_creation_to_its_end(self, openstack: Stranger, development: Development) -> None:
        created = openstack.json("stack", "create", "--wait", "--poll", "1", "-t", EXAMPLES / "hello.yaml", "s1")
        assert created["stack_status"] == "CREATE_COMPLETE"
        reading = (("show",), ("output", "show", "--all"), ("resource", "list"), ("event", "list"),
                   ("template", "show"), ("environment", "show"))  # fmt: skip
        with ThreadPoolExecutor(2) as two:
            shown, said, resources, events, template, environment = two.map(
                lambda words: openstack.json("stack", *words, "s1"), reading
            )
        name = outputs(shown)["name"]
        assert re.fullmatch(r"[a-z]{8}", name)
        assert outputs(shown) == {"name": name, "sentence": f"Hello, {name}!"}
        assert {key: output["output_value"] for key, output in said.items()} == outputs(shown)
        assert {one["resource_name"]: one["resource_status"] for one in resources} == dict.fromkeys(
            ("name", "sentence", "work"), "CREATE_COMPLETE"
        )
        told = [(event["resource_name"], event["resource_status"]) for event in events]
        assert told[0] == ("s1", "CREATE_IN_PROGRESS") and told[-1] == ("s1", "CREATE_COMPLETE")
        assert told.index(("sentence", "CREATE_COMPLETE")) < told.index(("work", "CREATE_IN_PROGRESS"))
        assert template["resources"].keys() == {"name", "sentence", "work"}
        assert environment["parameters"] == {}

        updated = openstack.json(
            *("stack", "update", "--wait", "-t", EXAMPLES / "hello-update.yaml"),
            *("--parameter", "greeting=Welcome", "s1"),
        )
        assert (updated["stack_status"], updated["id"]) == ("UPDATE_COMPLETE", created["id"])
        changed = development.project()("GET", f"/stacks/s1/{created['id']}").body["stack"]
        assert outputs(changed) == {"name": name, "sentence": f"Welcome, {name}!"}

        openstack("stack", "delete", "-y", "s1")
        assert development.project().wait(f"/stacks/s1/{created['id']}") == "DELETE_COMPLETE"

    def test_a_type_that_needs_a_cloud_is_refused_by_name(self, openstack: Stranger) -> None:
        """The signal example waits for more than this engine has; it must say so, not pretend."""
        with pytest.raises(CommandFailed, match="OS::Heat::WaitConditionHandle.*the embedded engine does not have"):
            openstack("stack", "create", "-t", EXAMPLES / "signal.yaml", "w1")
        assert openstack.json("stack", "list") == []

    def test_signal_to_a_resource_that_takes_none(self, development: Development) -> None:
        demo = development.project()
        path = demo.create("s", SMALL)
        assert demo.wait(path) == "CREATE_COMPLETE"
        answer = demo("POST", f"{path}/resources/value/signal", {"data": "x"})
        assert answer.status == 400 and answer.body["error"]["type"] == "ResourceActionNotSupported"

    def test_projects_do_not_see_each_other(self, development: Development) -> None:
        a, b = development.project("a"), development.project("b")
        of_a, of_b = a.create("same", SMALL), b.create("same", SMALL)
        assert (a.wait(of_a), b.wait(of_b)) == ("CREATE_COMPLETE", "CREATE_COMPLETE")
        assert [one.stacks()["same"]["id"] for one in (a, b)] == [path.rpartition("/")[2] for path in (of_a, of_b)]
        for method in ("GET", "DELETE"):
            assert b(method, of_a).status == 404
        assert b("PUT", of_a, {"template": SMALL}).status == 404
        assert b("GET", of_a + "/resources").status == 404
        assert a.state(of_a) == "CREATE_COMPLETE"


class TestDoor:
    def test_only_loopback_is_bound(self, development: Development) -> None:
        bound = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        six = [line.split()[1] for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
        port = f"{development.port:04X}"
        assert {place for place in [*bound, *six] if place.endswith(f":{port}")} == {f"0100007F:{port}"}

    def test_an_address_of_the_network_is_refused(self, tmp_path: Path) -> None:
        command = [project("heatperf"), "serve", "--dev", "--bind", "0.0.0.0:0", "--state", tmp_path / "s"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 2 and "serves on loopback only" in done.stderr
        assert not (tmp_path / "s").exists()

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param({"Host": "heat.example"}, id="rebound-name"),
            pytest.param({"Origin": "https://attacker.example", "Content-Type": "text/plain"}, id="form"),
            pytest.param({"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"}, id="fetch"),
        ],
    )
    def test_web_pages_of_other_places_stay_out(self, development: Development, headers: dict[str, str]) -> None:
        demo = development.project()
        answer = demo("POST", "/stacks", {"stack_name": "forged", "template": SMALL}, headers)
        assert answer.status == 403 and answer.body["error"]["type"] == "HTTPForbidden"
        assert demo.stacks() == {}


class TestEngine:
    def test_reload_keeps_the_engine_and_what_it_does(self, development: Development) -> None:
        demo = development.project()
        path = demo.create("under-way", slow(2))
        before, workers = development.pids(ENGINE), set(development.pids(WORKER))
        done = command("reload", development)
        assert (done.returncode, done.stdout) == (0, "generation 2 serves with 1 worker\n"), done
        assert development.pids(ENGINE) == before and len(before) == 1
        assert demo.wait(path) == "CREATE_COMPLETE"
        wait_until(lambda: workers.isdisjoint(development.pids(WORKER)), 15, "end the old workers")

    def test_a_killed_engine_is_replaced_while_requests_wait(self, development: Development) -> None:
        demo = development.project()
        kept, cut = demo.create("kept", SMALL), demo.create("cut", slow(60))
        assert demo.wait(kept) == "CREATE_COMPLETE"
        (before,) = development.pids(ENGINE)
        workers = development.pids(WORKER)
        os.kill(before, signal.SIGKILL)
        began = time.monotonic()
        answer = demo("GET", kept)
        # It waits for the next engine, which is started at once; the connection to the old one may tell first.
        if answer.status != 200:
            assert (answer.status, answer.body["error"]["type"]) in ((500, "EngineLost"), (503, "EngineUnavailable"))
        assert time.monotonic() - began < 10
        wait_until(development.ready, 15, "have an engine again")
        (after,) = development.pids(ENGINE)
        assert after != before and development.pids(WORKER) == workers
        assert demo.state(kept) == "CREATE_COMPLETE"
        stack = demo("GET", cut).body["stack"]
        assert (stack["stack_status"], stack["stack_status_reason"]) == (
            "CREATE_FAILED",
            "Engine went down during stack CREATE",
        )
        assert demo("PUT", cut, {"template": SMALL}).status == 202
        assert demo.wait(cut) == "UPDATE_COMPLETE"
        assert "The engine was killed by SIGKILL; it is started again now" in development.output
        done = command("status", development)
        assert done.returncode == 0 and "1 of 1 slots serving" in done.stdout, done

    def test_everything_is_killed_and_started_again_beside_broken_configuration(self, development: Development) -> None:
        demo = development.project()
        kept, cut = demo.create("kept", SMALL), demo.create("cut", slow(60))
        assert demo.wait(kept) == "CREATE_COMPLETE"
        development.kill_all()
        # --dev looks at none of this; without it, each is a reason to refuse (see TestConfiguration).
        (development.home / ".heat").mkdir()
        (development.home / ".heat" / "heat.conf").write_text(BROKEN_CONF)
        development.env |= {"OS_HEAT_API__BIND_PORT": "nonsense", "OS_DEFAULT__TRANSPORT_URL": "nonsense://"}
        development.arguments = ["--dev"]
        development.start()
        assert demo.stacks().keys() == {"kept", "cut"}
        assert (demo.state(kept), demo.state(cut)) == ("CREATE_COMPLETE", "CREATE_FAILED")
        for path in (kept, cut):
            assert demo("PUT", path, {"template": SMALL}).status == 202
            assert demo.wait(path) == "UPDATE_COMPLETE"

    def test_nothing_outlives_the_supervisor(self, own: Development, launcher: Launcher) -> None:
        launcher.start(own)
        demo = own.project()
        path = demo.create("cut", slow(60))
        assert demo.state(path) == "CREATE_IN_PROGRESS"
        assert sorted(own.processes().values()) == [
            *("heatperf", ENGINE, "heatperf-helper", WORKER, "heatperf-zygote"),
        ]
        os.kill(own.process.pid, signal.SIGKILL)
        wait_until(lambda: not own.process.running, 5, "die")
        wait_until(lambda: not own.processes(), 8, "end every process")
        own.start()
        assert demo.state(path) == "CREATE_FAILED"


def command(name: str, server: Development) -> subprocess.CompletedProcess[str]:
    """Run ``heatperf NAME`` for a server."""
    words = [project("heatperf"), name, "--control", server.control]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


def test_any_configuration_is_none_of_development_mode(tmp_path: Path) -> None:
    """It lacks transport_url, and that is no reason to make stacks here."""
    servers = [Development(tmp_path / kind, arguments=[]) for kind in ("file", "folder", "variable")]
    for server in servers:
        server.home.mkdir(parents=True)
    (servers[0].home / "heat.conf").write_text("[DEFAULT]\n")
    (servers[1].home / ".heat").mkdir()
    servers[2].env["OS_HEAT_API__WORKERS"] = "1"
    for server in servers:
        server.run()
    for server in servers:
        code, said = server.refusal()
        assert code == 2 and "transport_url" in said, said
        assert "development mode:" not in said and not (server.home / ".local").exists()


class TestState:
    """What cannot be used is refused, and left as it is."""

    def test_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        blocking = tmp_path / "file"
        blocking.write_text("mine")
        code, said = Development(tmp_path / "run", ["--dev", "--state", blocking / "state"]).run().refusal()
        assert code == 2 and f"the engine cannot keep its state in {blocking}/state" in said, said
        assert blocking.read_text() == "mine"

    def test_damaged_database(self, tmp_path: Path) -> None:
        server = Development(tmp_path / "run")
        server.state.mkdir(parents=True)
        database = server.state / "engine.sqlite"
        with contextlib.closing(sqlite3.connect(database)) as made:
            made.execute("CREATE TABLE t (x)")
            made.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 200)
            made.commit()
        data = bytearray(database.read_bytes())
        data[4096:12288] = b"\xff" * 8192
        database.write_bytes(data)
        code, said = server.run().refusal()
        assert code == 2 and f"the engine's database {database} is damaged" in said, said
        assert database.read_bytes() == data

    def test_held_by_another_server(self, development: Development, tmp_path: Path) -> None:
        holder = development.pids(ENGINE)
        demo = development.project()
        path = demo.create("kept", SMALL)
        second = Development(tmp_path / "run", ["--dev", "--state", development.state])
        code, said = second.run().refusal()
        assert code == 2 and f"(process {holder[0]}) holds the state in {development.state}" in said, said
        assert demo.wait(path) == "CREATE_COMPLETE" and development.pids(ENGINE) == holder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte; only root may mount one."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "heatperf-test", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(path: Path) -> None:
    """Leave not a page of the disk that holds ``path``."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def test_read_only_disk(small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    code, said = Development(tmp_path / "run", ["--dev", "--state", small_disk / "state"]).run().refusal()
    assert code == 2 and f"in {small_disk}/state: Read-only file system" in said, said


def test_full_disk(small_disk: Path, tmp_path: Path, launcher: Launcher) -> None:
    server = Development(tmp_path / "run", ["--dev", "--state", small_disk / "state"])
    launcher.start(server)
    try:
        demo = server.project()
        kept, busy = demo.create("kept", SMALL), demo.create("busy", slow(1))
        assert demo.wait(kept) == "CREATE_COMPLETE"
        filler = small_disk / "filler"
        fill(filler)
        large = {**SMALL, "description": "x" * 100_000}
        answer = demo("POST", "/stacks", {"stack_name": "large", "template": large})
        assert answer.status == 500 and "The engine cannot keep its state" in answer.body["error"]["message"], answer
        assert demo("PUT", kept, {"template": large}).status == 500
        assert demo.stacks().keys() == {"kept", "busy"} and demo.state(kept) == "CREATE_COMPLETE"
        wait_until(lambda: "The end of CREATE of stack" in server.output, 10, "miss the room for a stack's end")
        filler.unlink()
        # Its resource may be done without a way to say so.
        assert demo.wait(busy) in ("CREATE_COMPLETE", "CREATE_FAILED")

        fill(filler)
        server.kill_all()
        code, said = server.run().refusal()
        assert code == 2 and "stored stacks are as they were" in said, said
        filler.unlink()
        server.start()
        assert demo.stacks().keys() == {"kept", "busy"} and demo.state(kept) == "CREATE_COMPLETE"
        assert demo("PUT", kept, {"template": large}).status == 202
        assert demo.wait(kept) == "UPDATE_COMPLETE"
    finally:
        launcher.stop(server)

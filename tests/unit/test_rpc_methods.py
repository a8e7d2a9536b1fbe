"""The table of RPC methods against upstream's own client: names, versions, arguments and their defaults."""

import contextvars
import json
import subprocess
from typing import Any

import pytest
from stack import paths

from heatperf.context import RequestContext
from heatperf.rpc.client import EngineClient
from heatperf.rpc.methods import BASE_VERSION, METHODS, REQUIRED, TOPIC

# Runs in upstream's environment: calls every method of its client over a transport that writes down what would be sent,
# with the required arguments only and with all of them.
UPSTREAM = """
import inspect, json, sys
from heat.common import messaging
from heat.rpc import api, client

class Recorder:
    def __init__(self, version=client.EngineClient.BASE_RPC_API_VERSION, timeout=None):
        self.version, self.timeout = version, timeout
    def prepare(self, version=None, timeout=None):
        return Recorder(version or self.version, timeout or self.timeout)
    def call(self, context, method, **arguments):
        sent.append([method, self.version, arguments, self.timeout])
    def cast(self, context, method, **arguments):
        sent.append([method, self.version, arguments, "cast"])

messaging.get_rpc_client = lambda **target: targets.append(target) or Recorder()
targets, sent = [], []
engine = client.EngineClient()
helpers = ("call", "cast", "make_msg", "local_error_name", "ignore_error_named", "authenticated_to_backend")
for name, method in inspect.getmembers(engine, inspect.ismethod):
    if name.startswith("_") or name in helpers:
        continue
    parameters = list(inspect.signature(method).parameters.values())[1:]
    required = {p.name: "given " + p.name for p in parameters if p.default is p.empty}
    if "timeout" in required:
        required["timeout"] = 7
    method(None, **required)
    everything = {p.name: "given " + p.name for p in parameters if p.name not in ("cast",)} | required
    method(None, **everything)
engine.authenticated_to_backend(None)
json.dump({"topic": api.ENGINE_TOPIC, "targets": targets, "sent": sent}, sys.stdout)
"""


@pytest.fixture(scope="module")
def upstream() -> dict[str, Any]:
    python = paths.peer(paths.HEAT_PEER, "python")
    done = subprocess.run([python, "-W", "ignore", "-c", UPSTREAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def somebody() -> RequestContext:
    """A caller, made aside: a new context becomes the current one of whoever makes it."""
    return contextvars.Context().run(RequestContext, is_admin=False)


class Recorder:
    """A transport that writes down what would be sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, dict[str, Any], Any]] = []

    def start(self, loop: Any) -> None: ...

    def stop(self) -> None: ...

    def call(self, context: Any, method: str, arguments: Any, version: str, timeout: Any) -> None:
        self.sent.append((method, version, arguments, timeout))

    def cast(self, context: Any, method: str, arguments: Any, version: str) -> None:
        self.sent.append((method, version, arguments, "cast"))


def test_topic_and_base_version(upstream):
    assert upstream["targets"] == [{"topic": TOPIC, "version": BASE_VERSION}]
    assert upstream["topic"] == TOPIC


def test_the_same_methods(upstream):
    assert {method for method, *_ in upstream["sent"]} == set(METHODS)


def different(messages: list[Any]) -> list[Any]:
    """Those of upstream's messages that our client would send differently, given what upstream's caller gave."""
    found = []
    for method, version, arguments, _timeout in messages:
        table = METHODS[method].arguments
        given = {
            name: value
            for name, value in arguments.items()
            if name in table and (table[name] is REQUIRED or str(value).startswith("given "))
        }
        recorder = Recorder()
        EngineClient(recorder).call(somebody(), method, **given)
        if recorder.sent != [(method, version, arguments, None)]:
            found.append((method, version, arguments, recorder.sent))
    return found


def of(upstream: dict[str, Any], *methods: str) -> list[Any]:
    return [message for message in upstream["sent"] if message[0] in methods]


def test_messages_are_the_same(upstream):
    """What upstream's caller leaves out, ours leaves out; the message must not differ by it."""
    odd = ("check_software_deployment", "create_software_deployment")  # below
    assert not different(of(upstream, *(set(METHODS) - set(odd))))


def test_message_of_a_new_deployment(upstream):
    assert not different(of(upstream, "create_software_deployment"))


def test_a_misspelt_or_forgotten_argument_is_an_error():
    recorder = Recorder()
    client, caller = EngineClient(recorder), somebody()
    with pytest.raises(TypeError, match="stack_identiti"):
        client.call(caller, "show_stack", stack_identiti={})
    with pytest.raises(TypeError, match="stack_identity"):
        client.call(caller, "show_stack")
    with pytest.raises(KeyError):
        client.call(caller, "no_such_method")
    assert recorder.sent == []


def test_defaults_cannot_be_changed_by_a_caller():
    recorder = Recorder()
    client, caller = EngineClient(recorder), somebody()
    client.call(caller, "list_stacks", limit=5)
    recorder.sent[0][2]["limit"] = 6
    recorder.sent[0][2]["extra"] = 1
    client.call(caller, "list_stacks")
    assert recorder.sent[1][2]["limit"] is None and "extra" not in recorder.sent[1][2]
    with pytest.raises(TypeError):
        METHODS["list_stacks"].arguments["limit"] = 1


def test_method_with_an_argument_called_timeout(upstream):
    recorder = Recorder()
    client, caller = EngineClient(recorder), somebody()
    client.call(caller, "check_software_deployment", timeout=7, deployment_id="given deployment_id")
    assert recorder.sent == [tuple(of(upstream, "check_software_deployment")[0])]


def test_timeout_and_cast():
    recorder = Recorder()
    client, caller = EngineClient(recorder), somebody()
    client.call(caller, "get_revision", timeout=9)
    client.cast(caller, "get_revision")
    assert recorder.sent == [("get_revision", "1.0", {}, 9), ("get_revision", "1.0", {}, "cast")]

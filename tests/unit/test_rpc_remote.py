"""Failures of an engine: what clients see of each must be what upstream's API shows them.

Upstream's own code raises every exception it has, serialises it as an engine does, and has its API take the bytes
apart, pass them through a controller and render them; ours gets the same bytes.
"""

import builtins
import json
import subprocess
import sys
import traceback
import types
from typing import Any

import pytest
import webob
from stack import paths

from heatperf.api import dispatch
from heatperf.errors import heat
from heatperf.pipeline import faultwrap
from heatperf.rpc import remote

# Prints one case per line: [label, failure as sent, {debug: fault as upstream's API renders it}].
UPSTREAM = r"""
import builtins, inspect, json, logging, re, sys
import webob
from oslo_config import cfg
from oslo_log import log
from oslo_messaging._drivers import common
from heat.common import config, exception, serializers, wsgi
from heat.api.middleware.fault import FaultWrapper
log.register_options(cfg.CONF)
cfg.CONF([], project="heat", prog="heat-api", default_config_files=[])
logging.disable(logging.CRITICAL)

class Controller:
    def index(self, request):
        raise common.deserialize_remote_exception(self.data, ["heat.common.exception"])

controller = Controller()
application = FaultWrapper(
    wsgi.Resource(controller, wsgi.JSONRequestDeserializer(), serializers.JSONResponseSerializer())
)

def rendered(data, debug):
    cfg.CONF.set_override("debug", debug)
    controller.data = data
    request = webob.Request.blank("/")
    request.environ["wsgiorg.routing_args"] = ((), {"action": "index"})
    try:
        return request.get_response(application).json
    except Exception as error:
        return {"broken": type(error).__name__}

def emit(label, data):
    print(json.dumps([label, data, rendered(data, False), rendered(data, True)]))

def fail_in_engine(error):
    raise error

def serialised(error):
    try:
        fail_in_engine(error)
    except Exception:
        return common.serialize_remote_exception(sys.exc_info())

def candidates(kind):
    yield (), {}
    yield ("one",), {}
    yield ("one", "two"), {}
    yield ("one", ["res", "0", "prop", 3], "message"), {}
    yield ("line one\nline two",), {}
    yield ("100% sure",), {}
    yield (None,), {}
    yield (7, "seven"), {}
    names = re.findall(r"%\((\w+)\)s", str(getattr(kind, "msg_fmt", "")))
    yield (), {name: "the " + name for name in names}
    yield (), {name: "n\u00e4me <%s>" % name for name in names}
    yield (), {name: 5 for name in names}
    yield (), {"unexpected": 1}
    yield (), {"error": "Err", "path": ["a", "b"], "message": "m"}
    yield (), {"error": "Err", "path": "a.b", "message": ""}
    yield (), {"service_name": "s", "resource_type": "t", "reason": "r"}
    yield (), {"resource_name": "r"}
    yield (), {"name": "only the name"}
    yield (), {"message": "m\nn"}

classes = [v for _n, v in inspect.getmembers(exception, inspect.isclass) if issubclass(v, BaseException)]
classes += [v for v in vars(builtins).values() if inspect.isclass(v) and issubclass(v, Exception)]
for kind in classes:
    for args, kwargs in candidates(kind):
        try:
            error = kind(*args, **kwargs)
            data = serialised(error)
        except Exception:
            continue
        emit("%s%r%r" % (kind.__name__, args, kwargs), data)

def failure(name, module, args=(), kwargs=None, message="text", **more):
    trace = ["Traceback (most recent call last):\n", "x\n"]
    return json.dumps({"class": name, "module": module, "message": message, "tb": trace,
                       "args": list(args), "kwargs": kwargs or {}, **more})

ours = "heat.common.exception"
for name in ("HeatException", "Nonsense", "LOG", "sys", "excutils", "_", "__name__", "ERROR_CODE_MAP", "logging", ""):
    emit("odd " + name, failure(name, ours))
for name in ("print", "eval", "open", "exec", "BaseException", "KeyboardInterrupt", "SystemExit", "GeneratorExit",
             "int", "Nonsense", "__import__", "ExceptionGroup", "UnicodeDecodeError"):
    emit("builtins " + name, failure(name, "builtins", ["1"]))
    emit("exceptions " + name, failure(name, "exceptions", ["1"]))
for name, module in (("system", "os"), ("Popen", "subprocess"), ("UpdateReplace", "heat.engine.resource"),
                     ("HTTPNotFound", "webob.exc"), ("NotFound", "neutronclient.common.exceptions"),
                     ("StackValidationFailed", "heat.common.exception_Remote"), ("X", ""),
                     ("RPCVersionCapError", "oslo_messaging")):
    emit("foreign %s.%s" % (module, name), failure(name, module))
for kind in ("StackExists", "Error", "Forbidden", "NotFound", "StackValidationFailed", "ImmutableParameterModified"):
    emit("too many " + kind, failure(kind, ours, ["a", "b", "c", "d", "e", "f"]))
    emit("both " + kind, failure(kind, ours, ["a"], {"message": "m"}))
    emit("strange " + kind, failure(kind, ours, [], {"stack_name": {"a": [1]}, "message": None}))
emit("joined not text", failure("ImmutableParameterModified", ours, [1, 2]))
emit("path of numbers", failure("StackValidationFailed", ours, [], {"error": "E", "path": [1, 2], "message": "m"}))
emit("path of null", failure("StackValidationFailed", ours, [], {"error": "E", "path": [None], "message": "m"}))
emit("path is a number", failure("StackValidationFailed", ours, [], {"error": "E", "path": 5, "message": "m"}))
emit("resource null", failure("StackValidationFailed", ours, [], {"message": "m", "resource": None}))
emit("resource name", failure("StackValidationFailed", ours, [], {"message": "m", "resource": "r"}))
emit("resource and path", failure("StackValidationFailed", ours, [], {"message": "m", "path": "p", "resource": "r"}))
known = {"error": "E", "path": "", "message": "m"}
emit("failure of a resource", failure("ResourceFailure", ours, ["text", None, "create"], known))
emit("failure of a resource 2", failure("ResourceFailure", ours, ["Resource X failed: E: a.b: m", None, "x"], known))
emit("args null", failure("StackExists", ours, message="m", **{}).replace('"args": []', '"args": null'))
emit("kwargs null", failure("StackExists", ours).replace('"kwargs": {}', '"kwargs": null'))
emit("nothing at all", "{}")
emit("no args", json.dumps({"class": "StackExists", "module": ours, "message": "m"}))
emit("no trace", json.dumps({"class": "ValueError", "module": "builtins", "message": "m", "args": ["a"]}))
"""


@pytest.fixture(scope="module")
def cases() -> list[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    python = paths.peer(paths.HEAT_PEER, "python")
    done = subprocess.run([python, "-W", "ignore", "-c", UPSTREAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def ours(data: str, debug: bool) -> dict[str, Any]:
    """The fault that our API would render."""

    def action(_request: Any) -> Any:
        raise remote.rebuild(json.loads(data))

    def router(environ: Any, start_response: Any) -> Any:
        return dispatch.call_action(dispatch.ApiRequest(environ), action, {}, 1000)(environ, start_response)

    conf = types.SimpleNamespace(debug=debug)
    return webob.Request.blank("/").get_response(faultwrap.FaultWrapper(router, conf)).json


def compare(cases: list[Any], take: Any) -> str:
    """Differences, one per line."""
    lines = []
    for label, data, plain, debug in cases:
        theirs = take(plain, debug)
        mine = take(ours(data, False), ours(data, True))
        if theirs is not None and theirs != mine:
            lines.append(f"{label}:\n    upstream {theirs}\n    ours     {mine}")
    return "\n".join(lines)


def test_the_cases_are_many(cases):
    names = {data["class"] for _label, text, *_ in cases if "class" in (data := json.loads(text))}
    assert len(cases) > 500
    assert set(heat.BY_NAME) - {"HTTPExceptionDisguise"} <= names, "each of our classes stands for one of upstream's"


def test_every_fault_is_upstreams(cases):
    assert not (text := compare(cases, lambda plain, _debug: None if "broken" in plain else plain)), text


def test_debug_shows_the_engines_trace_as_upstream_does(cases):
    def take(_plain: Any, debug: dict[str, Any]) -> Any:
        trace = debug.get("error", {}).get("traceback") or ""
        # a message of several lines is cut after the first by upstream, and the rest goes before the trace
        return trace if "fail_in_engine" in trace and trace.startswith("Traceback") else None

    assert not (text := compare(cases, take)), text


def test_faults_that_break_upstream_are_500(cases):
    broken = [data for _label, data, plain, _debug in cases if "broken" in plain]
    assert {ours(data, False)["code"] for data in broken} <= {500}


def failure(name: str, module: str, **more: Any) -> dict[str, Any]:
    return {"class": name, "module": module, "message": "m", "tb": [], "args": [], "kwargs": {}, **more}


def test_nothing_named_on_the_wire_is_imported_or_called(tmp_path, monkeypatch):
    (tmp_path / "wire_bait.py").write_text("raise SystemError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("wire_bait", "heat.common.exception.wire_bait", "antigravity", "os.path"):
        before = set(sys.modules)
        error = remote.rebuild(failure("Anything", module))
        assert isinstance(error, heat.RemoteError)
        assert set(sys.modules) == before
    marker = tmp_path / "marker"
    for name in ("open", "exec", "eval", "__import__"):
        remote.rebuild(failure(name, "builtins", args=[str(marker), "w"]))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["KeyboardInterrupt", "SystemExit", "GeneratorExit", "BaseException"])
def test_an_engine_cannot_stop_a_worker(name):
    assert isinstance(remote.rebuild(failure(name, "builtins")), heat.RemoteError)


def test_rebuilt_errors_are_fresh():
    """Two requests that fail alike must not share an exception: tracebacks grow on a shared one."""
    first = remote.rebuild(failure("StackExists", remote.HEAT_MODULE, kwargs={"stack_name": "s"}))
    second = remote.rebuild(failure("StackExists", remote.HEAT_MODULE, kwargs={"stack_name": "s"}))
    assert first is not second and isinstance(first, heat.StackExists)
    assert "".join(traceback.format_exception_only(first)).endswith("The Stack (s) already exists.\n")


def test_every_builtin_exception_survives():
    for name, kind in vars(builtins).items():
        if isinstance(kind, type) and issubclass(kind, Exception):
            error = remote.rebuild(failure(name, "builtins", args=["x"]))
            assert type(error).__name__ in (name, "RemoteError", kind.__name__)

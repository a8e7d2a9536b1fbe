"""Who may import whom, and what nobody may do. Read from the sources, so that imports inside functions count too."""

import ast
import pathlib
from collections.abc import Iterator

import pytest

import heatperf

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "heatperf"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Each may import only what stands after it; the ground floor may be imported by all and imports nothing above it.
ORDER = ("cli", "tuning", "server", "loops", "pipeline", "api", "policy", "rpc", "engine", "helper")
GROUND = ("config", "errors", "context", "jsontext", "outbox", "socketfile")
#: Get objects handed in: they serve any application.
SERVES_ANYTHING = ("server", "loops")
OF_HEAT = ("pipeline", "api", "policy", "rpc", "engine", "helper", "context", "config", "cli")

#: ``python -m heatperf`` is the command line.
CALLERS_OF_THE_TOP = {"heatperf/__main__.py"}


def name_of(path: pathlib.Path) -> str:
    """Dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a module imports, wherever the statement stands.

    ``from a import b`` counts as ``a`` and ``a.b``, since b may be a module. Relative imports are made absolute.
    Strings given to import_module and __import__ count too.
    """
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            yield node.lineno, module
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__", "import_class") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def part_of(dotted: str) -> str | None:
    """``rpc`` for heatperf.rpc.client; None for what is not ours."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "heatperf" and len(parts) > 1 else None


def relative(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_parser_sees_every_kind_of_import(tmp_path, monkeypatch):
    """If this one fails, the tests below prove nothing."""
    monkeypatch.setattr("test_architecture.ROOT", tmp_path)
    module = tmp_path / "heatperf" / "rpc" / "x.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        "import a.b\nfrom c import d\nfrom . import e\nfrom ..api import f\n"
        "def g():\n    from h import i\n    import importlib; importlib.import_module('j.k')\n"
    )
    found = {name for _line, name in imports_of(module)}
    assert {"a.b", "c", "c.d", "heatperf.rpc.e", "heatperf.api", "heatperf.api.f", "h.i", "j.k"} <= found


def test_every_part_has_its_place():
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert parts - {"__init__", "__main__"} <= {*ORDER, *GROUND}


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_go_downwards_only(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if relative(path) in CALLERS_OF_THE_TOP or own == "__init__":
        return
    below = ORDER[ORDER.index(own) :] if own in ORDER else ()
    allowed = {own, *below, *GROUND}
    if own in SERVES_ANYTHING:
        allowed = {own, "loops", "errors"} | ({"server"} if own == "server" else set())
    if own == "tuning":  # what it measures is another process
        allowed = {own, "server", "loops", "config", "errors"}
    ours = [(line, name) for line, name in imports_of(path) if part_of(name) not in (None, "__version__")]
    wrong = [f"line {line}: {name}" for line, name in ours if part_of(name) not in allowed]
    assert not wrong, f"{relative(path)} may import {sorted(allowed)} only"


@pytest.mark.parametrize("folder", SERVES_ANYTHING)
def test_server_and_loops_know_nothing_of_heat_or_openstack(folder):
    openstack = ("oslo_", "keystone", "osprofiler", "paste", "webob", "routes", "heat")
    wrong = [
        f"{relative(path)}:{line}: {name}"
        for path in (PACKAGE / folder).rglob("*.py")
        for line, name in imports_of(path)
        if part_of(name) in OF_HEAT or (name.startswith(openstack) and not name.startswith("heatperf"))
    ]
    assert not wrong


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_nobody_imports_upstream_or_patches_anything(path):
    wrong = [
        f"line {line}: {name}"
        for line, name in imports_of(path)
        if name.split(".")[0] in ("heat", "eventlet", "monotonic") or name.startswith("gevent.monkey")
    ]
    assert not wrong
    assert "patch_all" not in path.read_text()


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_files_stay_readable(path):
    assert len(path.read_text().splitlines()) <= 600
    assert ast.get_docstring(ast.parse(path.read_text())), "a module says what comes in and what goes out"


def test_only_its_own_module_knows_a_loop_library():
    knowing = {
        (relative(path), name.split(".")[0])
        for path in MODULES
        for _line, name in imports_of(path)
        if name.split(".")[0] in ("gevent", "greenlet", "uvloop", "asyncio", "meinheld")
    }
    assert knowing == {
        ("heatperf/loops/gevent_loop.py", "gevent"),
        ("heatperf/loops/gevent_loop.py", "greenlet"),
        ("heatperf/loops/uvloop_loop.py", "greenlet"),
        ("heatperf/loops/uvloop_loop.py", "uvloop"),
        ("heatperf/loops/meinheld_loop.py", "greenlet"),
    }


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").iterdir()), ids=relative)
def test_requirements_pin_versions_and_name_no_registry(path):
    """Where packages come from is the installer's configuration; an address here would bypass an operator's mirror."""
    for line in path.read_text().splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        assert "://" not in text
        assert not text.startswith(("-i", "--index", "--extra-index", "--trusted", "-f", "--find-links"))
        assert "==" in text or text.startswith("-r "), f"{line} is not pinned"


def test_version_is_stated_once():
    assert f'version = "{heatperf.__version__}"' not in (ROOT / "pyproject.toml").read_text()
    assert heatperf.__version__

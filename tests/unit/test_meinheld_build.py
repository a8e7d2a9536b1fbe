"""meinheld is used only where it was built for what is installed; any other is refused, with the way to build it."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import time

import pytest

from heatperf.errors import ConfigurationError
from heatperf.loops import meinheld_build, meinheld_extension

COMPILER = shutil.which("cc") or shutil.which("gcc")
# An extension of that name that can do nothing but be loaded, and crash when it is told to run.
SOURCE = """
#include <Python.h>
%s
static PyObject *nothing(PyObject *self, PyObject *args) { Py_RETURN_NONE; }
static PyObject *crash(PyObject *self, PyObject *args) { raise(SIGSEGV); Py_RETURN_NONE; }
static PyMethodDef methods[] = {
    {"set_error_logger", nothing, METH_VARARGS}, {"set_picoev_max_fd", nothing, METH_VARARGS},
    {"set_listen_socket", nothing, METH_VARARGS}, {"schedule_call", nothing, METH_VARARGS},
    {"trampoline", nothing, METH_VARARGS}, {"run", crash, METH_VARARGS}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "meinheld.server", NULL, -1, methods};
PyMODINIT_FUNC PyInit_server(void) { return PyModule_Create(&module); }
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of a package meinheld that is found before any other, here and in child processes."""
    folder = tmp_path / "meinheld"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit('the package itself must not be imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    meinheld_extension.extension.cache_clear()
    yield folder
    meinheld_extension.extension.cache_clear()


@pytest.fixture
def compiled(package):
    """Put an extension into the package."""
    if COMPILER is None:
        pytest.skip("no C compiler")

    def compile_extension(declarations):
        source = package / "server.c"
        source.write_text(SOURCE % f"#include <signal.h>\n{declarations}")
        target = package / ("server" + sysconfig.get_config_var("EXT_SUFFIX"))
        command = [COMPILER, "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}", str(source), "-o", str(target)]
        subprocess.run(command, check=True)

    return compile_extension


def refusal():
    with pytest.raises(ConfigurationError) as caught:
        meinheld_extension.extension()
    assert "python -m heatperf.loops.meinheld_build" in caught.value.remedy
    return caught.value.message


def test_a_package_without_the_extension(package):
    assert refusal() == "meinheld is not installed"


def test_an_extension_that_cannot_be_loaded(package):
    (package / ("server" + sysconfig.get_config_var("EXT_SUFFIX"))).write_bytes(b"nonsense")
    assert "cannot be loaded" in refusal()


def test_an_extension_that_was_built_by_somebody_else(compiled):
    compiled("")
    assert refusal() == "The installed meinheld was not built for heatperf"


def test_an_extension_that_crashes_does_so_in_a_process_of_its_own(compiled):
    compiled("int meinheld_epoll_fd = -1;")
    assert "signal 11" in refusal()


def test_a_missing_compiler_is_named(package, monkeypatch, capsys):
    monkeypatch.setenv("CC", "/nowhere/cc -O2")
    assert meinheld_build.main() == 1
    assert "needs a C compiler (/nowhere/cc;" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("meinheld") is None, reason="make meinheld")
class TestInstalled:
    """What ``make meinheld`` has put into this environment."""

    def test_it_is_what_the_build_makes_and_need_not_be_built_again(self, monkeypatch):
        monkeypatch.setenv("CC", "/nowhere/cc")
        assert meinheld_build.main() == 0

    def test_another_greenlet_needs_another_build(self, monkeypatch):
        monkeypatch.setattr(meinheld_build.importlib.metadata, "version", lambda name: f"other {name}")
        assert not meinheld_build.is_built()

    def test_trying_it_out_is_cheap(self):
        before = os.times()
        began = time.monotonic()
        meinheld_extension.check()
        after = os.times()
        spent = after.children_user - before.children_user + after.children_system - before.children_system
        assert spent < 0.3 and time.monotonic() - began < 5

    def test_loading_it_leaves_the_process_as_it_was(self):
        """meinheld's package adds log handlers, and its middleware patches the socket module."""
        program = (
            "import logging, socket, sys; before = socket.socket, logging.Logger.manager.loggerDict.copy();"
            "from heatperf.loops import meinheld_loop; meinheld_loop.preload();"
            "loggers = {name for name in logging.Logger.manager.loggerDict if name.startswith('meinheld')};"
            "modules = {name for name in sys.modules if name.startswith('meinheld')};"
            "assert not loggers and modules == {'meinheld.server'} and socket.socket is before[0], (loggers, modules)"
        )
        subprocess.run([sys.executable, "-P", "-c", program], check=True)

"""meinheld's C extension: find it, load it, and make sure that it was built for what is installed here.

Goes out: the extension. Raises ConfigurationError with the way to build it. In the zygote, which hands it to
its workers; whoever creates a loop without that has it done then. ``try_out`` runs in a process of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import select
import socket
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from pathlib import Path
from typing import Any

from heatperf.errors import ConfigurationError
from heatperf.loops.base import Interrupted

REMEDY = "build it with: python -m heatperf.loops.meinheld_build; or use --loop gevent"
# Seconds. Trying it out takes a tenth of one.
CHILD_TIMEOUT = 30.0
STEP_TIMEOUT = 5.0


class Extension:
    """The extension and what meinheld_compat.h adds to it.

    :ivar server: the module meinheld.server
    """

    def __init__(self, server: Any) -> None:
        """:raises ConfigurationError: it was built without meinheld_compat.h"""
        self.server = server
        try:
            self._epoll_fd = ctypes.c_int.in_dll(ctypes.PyDLL(server.__file__), "meinheld_epoll_fd")
        except ValueError:
            raise ConfigurationError("The installed meinheld was not built for heatperf", remedy=REMEDY) from None

    def epoll(self) -> select.epoll:
        """Another handle of the set in which meinheld waits, while it runs."""
        return select.epoll.fromfd(os.dup(self._epoll_fd.value))


@functools.cache
def extension() -> Extension:
    """The extension, loaded and tried out, once per process and its forks.

    :raises ConfigurationError: it is not installed, or was not built by meinheld_build for what is installed here
    """
    found = load()
    check()
    return found


def location() -> Path | None:
    """The folder of the installed package."""
    found = importlib.util.find_spec("meinheld")
    places = found.submodule_search_locations if found is not None else None
    return Path(next(iter(places))) if places else None


def load() -> Extension:
    """Load the extension alone: its package sets up log handlers, and one of its modules patches the socket module.

    :raises ConfigurationError: it is not there, or cannot be loaded
    """
    folder = location()
    for suffix in EXTENSION_SUFFIXES if folder is not None else ():
        file = Path(folder or "", "server" + suffix)
        if not file.exists():
            continue
        loader = ExtensionFileLoader("meinheld.server", str(file))
        spec = importlib.util.spec_from_file_location("meinheld.server", file, loader=loader)
        try:
            server = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
            loader.exec_module(server)
        except ImportError as exc:
            raise ConfigurationError(f"The installed meinheld cannot be loaded: {exc}", remedy=REMEDY) from exc
        return Extension(server)
    raise ConfigurationError("meinheld is not installed", remedy=REMEDY)


def check() -> None:
    """Run ``try_out`` in a child process, because a meinheld that was built otherwise crashes or hangs.

    :raises ConfigurationError: it did
    """
    flags = ["-I"] if sys.flags.isolated else ["-s"] * bool(sys.flags.no_user_site)
    command = [sys.executable, "-P", *flags, "-c", f"from {__name__} import try_out; try_out()"]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_TIMEOUT)  # noqa: S603
    except subprocess.TimeoutExpired as exc:
        raise ConfigurationError("The installed meinheld hangs", remedy=REMEDY) from exc
    if child.returncode:
        step = (child.stdout.split() or ["start"])[-1]
        said = (child.stderr.strip() or "nothing said").rpartition("\n")[2]
        what = f"signal {-child.returncode}" if child.returncode < 0 else said
        raise ConfigurationError(
            f"The installed meinheld was not built for this Python and greenlet (at {step}: {what})", remedy=REMEDY
        )


def try_out() -> None:
    """Use the extension in all the ways the loop does, and say which before each."""
    from heatperf.loops.meinheld_loop import MeinheldLoop, MeinheldStream

    loop = MeinheldLoop(load())
    failed = []

    def steps() -> None:
        near, far = socket.socketpair()
        ours, theirs = MeinheldStream(loop, near, ""), MeinheldStream(loop, far, "")
        print("wait", flush=True)
        loop.call_later(0.001, theirs.send_all, b"x")
        ours.recv(1, True)
        print("write-after-read", flush=True)
        rest = 4 * near.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        loop.spawn(ours.send_all, bytes(rest))
        while rest:
            rest -= len(theirs.recv(rest))
        print("interrupt", flush=True)
        loop.call_later(0.001, ours.interrupt)
        with contextlib.suppress(Interrupted):
            ours.recv(1)
        print("hang-up", flush=True)
        reading, writing = os.pipe()
        end = loop.waiter()
        loop.on_readable(reading, end.wake)
        loop.call_later(0.001, os.close, writing)
        end.wait()
        print("stop", flush=True)

    def body() -> None:
        try:
            steps()
        except BaseException as exc:
            failed.append(repr(exc))
        loop.stop()

    def overdue() -> None:
        print("it hangs", file=sys.stderr, flush=True)
        os._exit(1)

    loop.spawn(body)
    loop.call_later(STEP_TIMEOUT, overdue)
    loop.run()
    if failed:
        sys.exit(failed[0])

"""What every process that the supervisor starts has in common: how it begins, fails and ends.

``python -P -m MODULE FD`` (see spawn). Comes in: a channel, whose first message is hello. Goes out: ``failed`` with the
reason, and an exit code. Child processes only, but for spawn.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import heatperf
from heatperf.errors import ConfigurationError
from heatperf.server import worker_protocol as protocol
from heatperf.server.channel import MAX_TEXT, PROTOCOL, Channel, Closed, Message

# What the supervisor or a terminal sends to a whole process group, or an operator to the wrong process: not for us.
# They stay blocked, so that a worker gets what was sent to it between its birth and its readiness for signals.
BLOCKED = {*protocol.LEAVING, signal.SIGHUP, signal.SIGQUIT, protocol.SHOW_STACKS, protocol.WRITE_REPORT}
EXIT_OK, EXIT_FAILED, EXIT_CONFIGURATION = 0, 1, 2
# How long the last words may take, in seconds.
LEAVE_TIMEOUT = 2.0
PR_SET_PDEATHSIG = 1


def spawn(module: str, fd: int) -> subprocess.Popen[bytes]:
    """Run a module of ours in a fresh interpreter. In the supervisor.

    :param module: gets the number of the descriptor as its only argument
    :param fd: stays open in it; of the others it has standard input, output and error
    """
    flags = ["-I"] if sys.flags.isolated else ["-s"] * bool(sys.flags.no_user_site)
    # -P: the working directory is no place to import from (-m would make it one).
    command = [sys.executable, "-P", *flags, "-m", module, str(fd)]
    # The mask is inherited: a new interpreter would die of the first HUP or USR2 to the process group.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        return subprocess.Popen(command, pass_fds=[fd])  # noqa: S603 - this interpreter, a module of ours, a number
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run(fd: int, name: str, body: Callable[[Channel, Message], int]) -> None:
    """Be a child; never returns.

    :param name: for ps and top, at most 15 characters
    :param body: gets hello, and returns an exit code. A ConfigurationError is the reason why it cannot go on, and so is
        a SystemExit with a text; one with a number says that the reason has been printed. Closed is an ordinary end
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    name_process(name)
    os.set_inheritable(fd, False)
    channel = Channel(socket.socket(fileno=fd))
    text = None
    try:
        hello = channel.receive()
        _check_protocol(hello)
        code = body(channel, hello)
    except Closed:
        code = EXIT_OK
    except ConfigurationError as error:
        text, code = f"ERROR: {error}", EXIT_CONFIGURATION
    except SystemExit as request:
        text = request.code if isinstance(request.code, str) else ""
        code = EXIT_CONFIGURATION if text else int(request.code or 0)
    except BaseException:
        text, code = traceback.format_exc(), EXIT_FAILED
    if text is not None:
        with contextlib.suppress(Closed):
            channel.send("failed", text=text[-MAX_TEXT:], exit_code=code)
    leave(code)


def _check_protocol(hello: Message) -> None:
    if hello["protocol"] != PROTOCOL:
        raise ConfigurationError(
            f"heatperf {heatperf.__version__} is installed, but the supervisor that runs is {hello['version']} and"
            " cannot start it",
            remedy="restart the service",
        )


def find(entry: str) -> Callable[..., Any]:
    """
    :param entry: "module:function"
    """
    module, _, function = entry.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def die_with_parent() -> None:
    """Have the kernel send KILL when the supervisor is gone, since loading may hang and see no end of file (prctl(2)).

    What is forked from here does not inherit it.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def name_process(name: str) -> None:
    """Set the name that ps and top show, at most 15 characters (proc(5), comm)."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write(name)


def leave(code: int) -> None:
    """End the process without running the zygote's exit handlers, of which the fork made copies.

    :param code: exit code of the process
    """
    # A native thread may hold the lock of a log handler or of a stream for ever (blocked in a write to a full pipe,
    # say), and both steps below take it. A thread keeps the time, because signal handlers run on the one that is stuck.
    bound = threading.Timer(LEAVE_TIMEOUT, os._exit, (code,))
    bound.daemon = True
    with contextlib.suppress(RuntimeError):  # no thread to be had
        bound.start()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)

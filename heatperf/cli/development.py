"""Development mode: when it is meant, and where its embedded engine keeps what it knows. And where sockets lie.

In: flags, environment, home directory. Out: decisions and paths. Imports no OpenStack library: the supervisor asks.
"""

import argparse
import hashlib
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from heatperf.server.settings import Specification

# Where heat-api looks for configuration, and what it may be called there.
NAMES = ("heat.conf", "heat-api.conf", "heat.conf.d", "heat-api.conf.d")
SYSTEM = (Path("/etc/heat"), Path("/etc"))
# These hold nothing but configuration: where one exists, somebody has configured something.
OWN_FOLDERS = (".heat", "heat")
# Bytes of a folder below which there is room for the path of a helper's socket, see socketfile.MAX_PATH.
_LONGEST_ROOT = 40


def is_meant(
    options: argparse.Namespace, rest: Sequence[str], environ: Mapping[str, str], system: Sequence[Path] = SYSTEM
) -> bool:
    """Whether to run without a configuration: asked for, or there is none of any kind.

    A configuration that lacks something is never a reason.

    :param rest: arguments for oslo.config
    :param environ: HOME and OS_* are looked at
    """
    if options.dev:
        return True
    chosen = options.engine == "rpc" or options.flavor is not None or options.paste is not None
    if chosen or any(word.startswith("--config-") for word in rest):
        return False
    if any(name.startswith("OS_") for name in environ):
        return False
    home = Path(environ.get("HOME") or "/")
    folders = (home / ".heat", home, *system)
    if any(folder.name in OWN_FOLDERS and folder.exists() for folder in folders):
        return False
    return not any((folder / name).exists() for folder in folders for name in NAMES)


def state_folder(options: argparse.Namespace, environ: Mapping[str, str]) -> Path:
    """:returns: --state, else heatperf below $XDG_STATE_HOME (XDG Base Directory Specification)"""
    if options.state:
        return Path(options.state).absolute()
    base = environ.get("XDG_STATE_HOME", "")
    home = Path(environ.get("HOME") or "/")
    return (Path(base) if base.startswith("/") else home / ".local" / "state") / "heatperf"


def engine_socket(state: Path, environ: Mapping[str, str], uid: int) -> Path:
    """A short path in a folder of its own: the path of a unix socket has at most 107 bytes.

    :returns: one for each state folder
    """
    for base in (environ.get("RUNTIME_DIRECTORY", "").split(":")[0], environ.get("XDG_RUNTIME_DIR", "")):
        if base.startswith("/"):
            root = Path(base)
            break
    else:
        root = Path("/run") if uid == 0 and os.access("/run", os.W_OK) else Path(tempfile.gettempdir())
    mark = hashlib.sha256(str(state).encode()).hexdigest()[:12]
    return root / f"heatperf-{uid}-{mark}" / "engine"


def helper_folder(environ: Mapping[str, str], uid: int) -> Path | None:
    """:returns: a folder for the sockets of helper processes, which they make; another one with each call. None: there
    is no place for it
    """
    own = [environ.get("RUNTIME_DIRECTORY", "").split(":")[0], environ.get("XDG_RUNTIME_DIR", "")]
    for root in (*own, "/run", tempfile.gettempdir()):
        if root.startswith("/") and len(os.fsencode(root)) <= _LONGEST_ROOT and os.access(root, os.W_OK | os.X_OK):
            return Path(root) / f"heatperf-{uid}-{secrets.token_hex(6)}"
    return None


def engine(state: Path, socket: Path) -> Specification:
    """:returns: the engine's process, for the supervisor"""
    return Specification("engine", "heatperf.cli.engine:run", {"state": str(state), "socket": str(socket)})

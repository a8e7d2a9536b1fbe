"""Build and install meinheld for this Python and its greenlet: ``python -m heatperf.loops.meinheld_build``

meinheld 1.0.2 is the last there is, asks for a greenlet that no longer builds, and ships as source only. It works with
today's greenlet if it is compiled as meinheld_compat.h says. Comes in: the pinned source, through pip and whatever
index pip is set up for. Goes out: meinheld in the environment of the running interpreter. Needs pip, a C compiler and
Python's headers. Does nothing where it has been done. Exit code 1 and a reason on standard error when it cannot be.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from heatperf.errors import ConfigurationError
from heatperf.loops import meinheld_extension

SOURCE = "meinheld==1.0.2 --hash=sha256:008c76937ac2117cc69e032dc69cea9f85fc605de9bac1417f447c41c16a56d6"
COMPAT = Path(__file__).with_name("meinheld_compat.h")
# In the folder of the installed package: what it was built from and for.
RECORD = "heatperf-build.txt"


class BuildError(Exception):
    """It cannot be built here; the text says why."""


def main() -> int:
    """See the module's text."""
    try:
        if is_built():
            return 0
        print(f"Building {SOURCE.split()[0]} for greenlet {importlib.metadata.version('greenlet')}", flush=True)
        build()
        meinheld_extension.check()
    except (BuildError, ConfigurationError) as exc:
        print(f"meinheld: {exc}", file=sys.stderr)
        return 1
    return 0


def wanted() -> str:
    """What decides whether an installed meinheld is the right one."""
    version = importlib.metadata.version("greenlet")
    compat = hashlib.sha256(COMPAT.read_bytes()).hexdigest()
    return f"{SOURCE}\nPython {platform.python_version()}\ngreenlet {version}\n{COMPAT.name} {compat}\n"


def is_built() -> bool:
    """Whether the installed meinheld is what this program builds, and works."""
    folder = meinheld_extension.location()
    if folder is None or not (folder / RECORD).exists() or (folder / RECORD).read_text() != wanted():
        return False
    try:
        meinheld_extension.check()
    except ConfigurationError:
        return False
    return True


def build() -> None:
    """Compile and install.

    :raises BuildError: something is missing, or pip or the compiler failed
    """
    found = importlib.util.find_spec("greenlet")
    header = Path(found.origin if found and found.origin else "").with_name("greenlet.h")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    for there, what in (
        (shutil.which(compiler), f"a C compiler ({compiler}; Debian and Ubuntu: gcc libc6-dev)"),
        (Path(sysconfig.get_path("include"), "Python.h").exists(), "Python's headers (Debian and Ubuntu: python3-dev)"),
        (header.exists(), "greenlet with its header, as pip installs it"),
    ):
        if not there:
            raise BuildError(f"needs {what}")
    flags = ["-DNDEBUG", "-w", f"-I{header.parent}", "-include", str(COMPAT)]
    environment = {**os.environ, "CFLAGS": shlex.join([*shlex.split(os.environ.get("CFLAGS", "")), *flags])}
    # --no-deps: it pins greenlet<0.5. No cache: pip would reuse what was compiled for another greenlet.
    options = ["--no-deps", "--no-cache-dir", "--force-reinstall", "--no-binary=meinheld", "--require-hashes"]
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text(SOURCE + "\n")
        command = [sys.executable, "-m", "pip", "install", "-qq", "--no-input", *options, "-r", str(requirements)]
        if subprocess.run(command, env=environment).returncode:  # noqa: S603
            raise BuildError("pip could not build it, see above")
    installed = meinheld_extension.location()
    if installed is None:
        raise BuildError("pip has installed it where this Python does not find it")
    (installed / RECORD).write_text(wanted())


if __name__ == "__main__":
    sys.exit(main())

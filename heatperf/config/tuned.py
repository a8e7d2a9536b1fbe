"""What ``heatperf tune --write`` leaves for ``serve``: a file of settings that everything else goes before.

    # Written by heatperf tune. ...         the marker: only files that begin with it are ever replaced
    [machine]
    measured_on = 8 CPUs, quota 6           settings of another machine are left alone
    [heatperf]
    loop = uvloop
    pin_workers = true
    [heat_api]
    workers = 6

Its values become defaults of oslo.config, so that a file, the environment and the command line win without further
ado. In: the environment, a ConfigOpts. Out: its defaults; the file. Raises ConfigurationError naming file and line.
Runs in the zygote and in the process of a command; imports nothing of oslo until it applies a file.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heatperf.errors import ConfigurationError

MARKER = "# Written by heatperf tune."
HEAD = f"""\
{MARKER} The next heatperf tune --write replaces this file, so change nothing here:
# what the command line, heat.conf or the environment say goes before it anyway.
"""
NAME = Path("heatperf") / "tuned.conf"
SYSTEM = Path("/etc")
MACHINE = ("machine", "measured_on")
#: group -> options that may stand in it
KNOWN = {"heatperf": ("loop", "pin_workers"), "heat_api": ("workers",)}
REMEDY = "run heatperf tune --write again, or remove the file"


@dataclass(frozen=True)
class Tuned:
    """A file that was read.

    :param file: its path
    :param machine: what it was measured on
    :param values: (group, option) -> value as text
    :param places: (group, option) -> "FILE:LINE"
    """

    file: str
    machine: str = ""
    values: dict[tuple[str, str], str] = field(default_factory=dict)
    places: dict[tuple[str, str], str] = field(default_factory=dict)


def places(environ: Mapping[str, str]) -> list[Path]:
    """
    :param environ: HOME and XDG_CONFIG_HOME are looked at (XDG Base Directory Specification)
    :returns: where a file is looked for, the first that exists wins: the user's own, then the system's
    """
    base, home = environ.get("XDG_CONFIG_HOME", ""), environ.get("HOME", "")
    own = Path(base) if base.startswith("/") else Path(home) / ".config" if home.startswith("/") else None
    return [folder / NAME for folder in (own, SYSTEM) if folder is not None]


def default_place(environ: Mapping[str, str], uid: int) -> Path:
    """
    :returns: where a file is written: root's is the system's, as the server may run as another user
    """
    found = places(environ)
    return found[-1] if uid == 0 else found[0]


def find(given: str | None, environ: Mapping[str, str], development: bool = False) -> Path | None:
    """
    :param given: a path that was asked for
    :param development: look nowhere else, as that mode reads no file but those given
    :raises ConfigurationError: the path that was asked for does not exist
    """
    if given is not None:
        if not os.path.isfile(given):
            raise ConfigurationError("there is no such file", remedy="correct --tuned, or leave it out", file=given)
        return Path(given)
    if development:
        return None
    return next((path for path in places(environ) if os.path.isfile(path)), None)


def read(path: Path) -> Tuned:
    """
    :raises ConfigurationError: it cannot be read, or holds what no heatperf tune has written
    """
    from heatperf.config import files

    if not is_ours(path):
        raise ConfigurationError("heatperf tune has not written this", remedy=REMEDY, file=str(path))
    found = Tuned(str(path), places={})
    machine = ""
    for setting in files.scan([str(path)]):
        name = (setting.group, setting.name)
        if name == MACHINE:
            machine = setting.value
        elif setting.name in KNOWN.get(setting.group, ()):
            found.values[name], found.places[name] = setting.value, setting.where
        else:
            text = f"[{setting.group}] {setting.name}"
            raise ConfigurationError("no setting of heatperf tune", remedy=REMEDY, file=setting.where, option=text)
    return Tuned(found.file, machine, found.values, found.places)


def apply(conf: Any, tuned: Tuned) -> None:
    """Make its values the defaults of a ConfigOpts that knows the options.

    :raises ConfigurationError: a value is none that the option takes
    """
    for (group, name), value in tuned.values.items():
        try:
            conf.set_default(name, value, group=group)
        except ValueError:
            raise ConfigurationError(
                f"{value!r} cannot be", remedy=REMEDY, file=tuned.places[group, name], option=f"[{group}] {name}"
            ) from None


def render(machine: str, values: Mapping[tuple[str, str], str], comments: Sequence[str] = ()) -> str:
    """
    :param values: as of Tuned; none: the defaults are best
    :param comments: lines that say how it was found
    :returns: text of a file
    """
    lines = [HEAD.rstrip(), *(f"# {line}".rstrip() for line in comments), "", f"[{MACHINE[0]}]"]
    lines.append(f"{MACHINE[1]} = {machine}")
    for group, names in KNOWN.items():
        chosen = [f"{name} = {values[group, name]}" for name in names if (group, name) in values]
        lines += ["", f"[{group}]", *chosen] if chosen else []
    return "\n".join(lines) + "\n"


def is_ours(path: Path) -> bool:
    """Whether a file begins with the marker.

    :raises ConfigurationError: it cannot be read
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().startswith(MARKER)
    except OSError as error:
        raise ConfigurationError(error.strerror or str(error), remedy=REMEDY, file=str(path)) from None


def write(path: Path, text: str) -> None:
    """Put a file in place, whole or not at all; folders that are missing are made.

    :raises ConfigurationError: it cannot be written, or what stands there is not ours
    """
    if path.exists() and not is_ours(path):
        raise ConfigurationError(
            "this file was not written by heatperf tune and is left as it is",
            remedy="move it away, or name another with --write FILE",
            file=str(path),
        )
    unfinished = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)  # the server may be another user
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        if unfinished is not None:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
        raise ConfigurationError(
            f"cannot be written: {error.strerror or error}", remedy="name another with --write FILE", file=str(path)
        ) from None

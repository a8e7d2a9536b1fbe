"""Which configuration files are read, in which order, and which line of them sets what.

In: command line arguments. Out: file names, and every assignment with its file and line. Raises ConfigurationError for
files that are missing, unreadable or no INI. Runs before the fork; reads the files, changes nothing.

oslo.config remembers one file per *section* (the last one holding it), which points at the wrong file as soon as two
files share a section; hence the second reading, with oslo.config's own INI parser.
"""

import argparse
import dataclasses
import glob
import os
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from oslo_config import cfg, iniparser

from heatperf.errors import ConfigurationError

PROJECT = "heat"
PROG = "heat-api"


@dataclasses.dataclass(frozen=True)
class Setting:
    """One assignment in one file; ``group`` and ``name`` as they stand there."""

    file: str
    line: int
    group: str
    name: str
    value: str

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


class WrongArguments(SystemExit):
    """Arguments that nobody understands. Nothing was printed: the caller knows the program's name and other flags."""

    def __init__(self, message: str) -> None:
        super().__init__(2)
        self.message = message


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise WrongArguments(message)


class _Arguments(argparse.Action):
    """Keep --config-file and --config-dir in the order given, which decides who wins."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.sources = [*(getattr(namespace, "sources", None) or []), (self.dest, values)]


def _given(argv: Sequence[str]) -> list[tuple[str, str]]:
    parser = _Parser(prog=PROG, add_help=False)
    parser.add_argument("--config-file", action=_Arguments)
    parser.add_argument("--config-dir", action=_Arguments)
    return getattr(parser.parse_known_args(list(argv))[0], "sources", None) or []


def _fix(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _in_directory(path: str) -> list[str]:
    return sorted(glob.glob(os.path.join(path, "*.conf")))


def _refuse_hidden_directories() -> None:
    """A configuration directory that exists but cannot be entered must not look like no configuration at all."""
    for directory in (os.path.expanduser(f"~/.{PROJECT}"), f"/etc/{PROJECT}"):
        if os.path.isdir(directory) and not os.access(directory, os.X_OK):
            raise ConfigurationError(
                "this user may not enter the configuration directory",
                remedy="run as the user that owns it, or name a file with --config-file",
                file=directory,
            )


def sources(argv: Sequence[str], development: bool = False) -> list[str]:
    """Absolute names of the files that oslo.config would read, in its order (a later file wins).

    :param argv: arguments; only --config-file and --config-dir matter here
    :param development: True leaves out the default places
    :raises ConfigurationError: a directory given does not exist, or a default one cannot be entered
    :raises WrongArguments: a file or directory is asked for but not named
    """
    given = _given(argv)
    kinds = {kind for kind, _ in given}
    found: list[str] = []
    if not development:
        _refuse_hidden_directories()
        if "config_file" not in kinds:
            found += cfg.find_config_files(PROJECT, PROG)
        if "config_dir" not in kinds:
            for directory in cfg.find_config_dirs(PROJECT, PROG):
                found += _in_directory(directory)
    for kind, path in given:
        if kind == "config_file":
            found.append(_fix(path))
            continue
        if not os.path.isdir(_fix(path)):
            raise ConfigurationError("there is no such directory", remedy="correct --config-dir", file=path)
        found += _in_directory(_fix(path))
    return found


class _Scanner(iniparser.BaseParser):
    """oslo.config's grammar, with the line on which each assignment starts."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = file
        self.group: str | None = None
        self.started = 0
        self.settings: list[Setting] = []

    def new_section(self, section: str) -> None:
        self.group = section

    def _split_key_value(self, line: str) -> tuple[str, list[str]]:
        self.started = self.lineno
        return super()._split_key_value(line)

    def assignment(self, key: str, value: list[str]) -> None:
        if self.group is None:
            raise iniparser.ParseError("An option stands before the first [section]", self.started, "")
        self.settings.append(Setting(self.file, self.started, self.group, key, "\n".join(value)))


def _scan(file: str) -> list[Setting]:
    scanner = _Scanner(file)
    try:
        with open(file) as text:
            scanner.parse(text.readlines())
    except iniparser.ParseError as error:
        # The line itself stays out of the message: a forgotten '=' may stand before a password.
        raise ConfigurationError(
            error.msg,
            remedy="every line is a [section], 'name = value', a comment or an indented continuation",
            file=f"{file}:{error.lineno}",
        ) from None
    except FileNotFoundError:
        raise ConfigurationError(
            "there is no such file", remedy="create it or correct --config-file", file=file
        ) from None
    except PermissionError:
        raise ConfigurationError(
            "this user may not read the file", remedy="run as the service user or change the file's mode", file=file
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"this is not text (byte {error.start})", remedy="save it as UTF-8 text", file=file
        ) from None
    except OSError as error:
        raise ConfigurationError(error.strerror or str(error), file=file) from None
    return scanner.settings


def scan(paths: Iterable[str]) -> list[Setting]:
    """Every assignment of the files, in order.

    :raises ConfigurationError: a file is missing, unreadable, no text or no INI (with the line)
    """
    return [setting for path in paths for setting in _scan(path)]


def sources_of(conf: cfg.ConfigOpts) -> list[str]:
    """The files that ``conf`` was parsed from, in order, those without assignments included."""
    development = not conf.default_config_files and not conf.default_config_dirs
    return sources(conf._args or [], development=development)


def settings_of(conf: cfg.ConfigOpts) -> list[Setting]:
    """Every assignment of the files that ``conf`` was parsed from."""
    return scan(sources_of(conf))


def normal(group: str | None) -> str:
    """Group names count without regard to case, but for DEFAULT, which only counts in capitals."""
    return "DEFAULT" if group in (None, "DEFAULT") else str(group).lower()


def names(group: str | None, opt: cfg.Opt) -> list[tuple[str, str]]:
    """The (group, name) pairs under which files may set an option, the present one first."""
    found = [(normal(group), opt.dest)]
    for old in opt.deprecated_opts:
        if old.name or old.group:
            found.append((normal(old.group or group), old.name or opt.dest))
    return found


def variable(group: str | None, opt: cfg.Opt) -> str:
    """The environment variable that sets an option."""
    return f"OS_{group or 'DEFAULT'}__{opt.dest}".upper()


def find(settings: Sequence[Setting], group: str | None, opt: cfg.Opt) -> Setting | None:
    """The assignment that decides an option, as oslo.config chooses it, or None.

    The last file that names the option wins; within a file its present name goes before its deprecated ones.
    """
    by_file: dict[str, list[Setting]] = {}
    for setting in settings:
        # A file given twice is read twice; re-inserting keeps the order of the last reading.
        by_file[setting.file] = [*by_file.pop(setting.file, []), setting]
    for assignments in reversed(by_file.values()):
        for name in names(group, opt):
            hits = [setting for setting in assignments if (normal(setting.group), setting.name) == name]
            if hits:
                return hits[-1]
    return None

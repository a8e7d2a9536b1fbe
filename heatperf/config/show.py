"""The effective configuration as INI, each value with where it comes from, secrets masked.

In: a loaded ConfigOpts. Out: text. Raises ConfigurationError if a file vanished since loading. Runs in the command line
process. What is printed loads again to the same configuration, but for the masks.
"""

from collections.abc import Sequence
from typing import Any, TextIO

from oslo_config import cfg

from heatperf.config import files, options
from heatperf.config.masking import mask
from heatperf.config.tuned import Tuned

SET_DEFAULT = "default of heatperf"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(_word(item) for item in value)
    if isinstance(value, dict):
        return ",".join(f"{key}:{_word(item)}" for key, item in value.items())
    # A lone dollar sign would be taken for a reference, an unindented line for the next option.
    return str(value).replace("$", "$$").replace("\n", "\n    ")


def _from_flag(conf: cfg.ConfigOpts, opt: cfg.Opt, setting: files.Setting | None) -> bool:
    """Whether a flag overrides the file; oslo.config then names the file all the same."""
    if setting is None or opt not in [known for known, _ in conf._all_cli_opts()]:
        return False
    return bool(opt.type(setting.value) != conf[opt.dest])


def origin(conf: cfg.ConfigOpts, settings: Sequence[files.Setting], group: str | None, opt: cfg.Opt) -> str:
    """Where an option's value comes from, in words."""
    location = conf.get_location(opt.dest, group)
    kind = location.location if location else cfg.Locations.opt_default
    if kind is cfg.Locations.environment:
        return "environment variable " + files.variable(group, opt)
    if kind is cfg.Locations.command_line:
        return "command line"
    if kind is cfg.Locations.set_override:
        return "command line of heatperf"
    if kind is cfg.Locations.set_default:
        return SET_DEFAULT
    if kind is cfg.Locations.opt_default:
        return "default"
    setting = files.find(settings, group, opt)
    if group is None and _from_flag(conf, opt, setting):
        return "command line"
    if setting is None:
        return "file"
    if (setting.group, setting.name) != (group or "DEFAULT", opt.dest):
        return f"{setting.where}, there as [{setting.group}] {setting.name}"
    return setting.where


def unread(conf: cfg.ConfigOpts, settings: Sequence[files.Setting]) -> list[files.Setting]:
    """Assignments that no option of this server takes up, for instance those of heat-engine."""
    known = {name for group, opt in options.registered(conf) for name in files.names(group, opt)}
    return [setting for setting in settings if (files.normal(setting.group), setting.name) not in known]


def show(conf: cfg.ConfigOpts, out: TextIO, tuned: Tuned | None = None) -> None:
    """Write the effective configuration.

    :param tuned: what was read beside the configuration files, see :mod:`heatperf.config.tuned`

    Options without a value are commented out. Options of other services are listed by name, as we cannot know which of
    their values are secret.

    :raises ConfigurationError: a configuration file can no longer be read
    """
    settings = files.settings_of(conf)
    names = list(dict.fromkeys(files.sources_of(conf)))
    out.write(f"# Configuration files, in order: {', '.join(names) or 'none'}\n")
    if tuned is not None:
        out.write(f"# Before them, as defaults: {tuned.file}\n")
    current: str | None = ""
    for group, opt in options.registered(conf):
        if group != current:
            out.write(f"\n[{group or 'DEFAULT'}]\n")
            current = group
        value = mask(opt, conf[opt.dest] if group is None else conf[group][opt.dest])
        where = origin(conf, settings, group, opt)
        if tuned is not None and where == SET_DEFAULT:
            where = tuned.places.get((group or "DEFAULT", opt.dest), where)
        out.write(f"# {where}\n")
        if value is None:
            out.write(f"#{opt.dest} =\n")
        elif opt.multi:
            lines = value if isinstance(value, list) else [value]
            out.writelines(f"{opt.dest} = {_word(item)}\n" for item in lines)
        else:
            out.write(f"{opt.dest} = {_word(value)}".rstrip() + "\n")
    others = unread(conf, settings)
    if others:
        out.write("\n# Set in these files, but not read by this server:\n")
    out.writelines(f"# [{setting.group}] {setting.name} ({setting.where})\n" for setting in others)

"""From flags and files to a configuration and the server's settings.

In: parsed flags, a ConfigOpts. Out: the ConfigOpts filled, ServerSettings. Raises ConfigurationError naming file, line
and option. Runs in the zygote of a generation, and in the process of ``heatperf config``.
"""

import argparse
import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import Any

from heatperf.cli.flags import NO_TUNED, bind_of
from heatperf.config import files, tuned
from heatperf.config import load as loader
from heatperf.config.files import Setting
from heatperf.config.options import OPTIONS
from heatperf.errors import ConfigurationError
from heatperf.loops import check as check_loop
from heatperf.loops.base import HttpLimits
from heatperf.server import hardware
from heatperf.server.settings import TLS, Bind, ServerSettings
from heatperf.server.sizing import signature, workers_for


def load(conf: Any, options: argparse.Namespace, rest: list[str]) -> list[Setting]:
    """Load the configuration, flags included.

    :param rest: arguments that are oslo.config's
    :returns: the assignments of its files
    :raises heatperf.config.files.WrongArguments: oslo.config does not know the arguments
    """
    return loader.load(conf, rest, development=options.dev, adjust=partial(adjust, options=options))


def usage_error(parser: argparse.ArgumentParser, error: Any) -> str:
    """What argparse would print, once and under the name the program was called by; oslo.config's own usage knows only
    its own flags.
    """
    text = f"{error.message} ({parser.prog} --help lists the flags of oslo.config and oslo.log too)"
    return f"{parser.format_usage()}{parser.prog}: error: {text}"


def adjust(conf: Any, options: argparse.Namespace) -> None:
    """Lay the flags over what the files say, and what heatperf tune has found under it."""
    found = tuned_of(options)
    if found is not None and not foreign(found):
        tuned.apply(conf, found)
    if options.flavor is not None:
        conf.set_override("flavor", options.flavor, group="paste_deploy")
    if options.paste is not None:
        conf.set_override("api_paste_config", str(Path(options.paste).absolute()), group="paste_deploy")
    if options.dev and options.flavor is None:
        conf.set_override("flavor", "noauth", group="paste_deploy")


def tuned_of(options: argparse.Namespace) -> tuned.Tuned | None:
    """
    :returns: what heatperf tune --write has left for this start, whether or not it is for this machine; read once
    :raises ConfigurationError: it cannot be used
    """
    if not hasattr(options, "tuned_found"):
        given = options.tuned
        path = None if given == NO_TUNED else tuned.find(given, os.environ, options.dev)
        options.tuned_found = None if path is None else tuned.read(path)
    found: tuned.Tuned | None = options.tuned_found
    return found


def foreign(found: tuned.Tuned) -> str | None:
    """
    :returns: for the operator, why the settings of a file are left alone; None where they count
    """
    here = signature(hardware.read())
    if found.machine == here:
        return None
    return (
        f"{found.file}: was measured on a machine with {found.machine or 'nobody knows what'}, and this one has {here};"
        " it is left alone (run heatperf tune --write here, or remove the file)"
    )


def _loop_of(conf: Any, options: argparse.Namespace) -> str:
    """The flag, which was checked with the others, else the option.

    :raises ConfigurationError: the loop that the option names is not there
    """
    if options.loop is not None:
        return str(options.loop)
    name: str = conf.heatperf.loop
    try:
        check_loop(name)
    except ConfigurationError as error:
        opt = next(opt for opt in OPTIONS["heatperf"] if opt.dest == "loop")
        setting = files.find(files.settings_of(conf), "heatperf", opt)
        found = tuned_of(options)
        place = setting.where if setting else found.places.get(("heatperf", "loop")) if found else None
        message = error.message.removeprefix("--loop ")
        raise ConfigurationError(message, error.remedy, file=place, option="[heatperf] loop") from None
    return name


def settings_of(conf: Any, options: argparse.Namespace) -> tuple[ServerSettings, str]:
    """Return the server's settings and the sentence that says how many workers and why."""
    api, own, eventlet = conf.heat_api, conf.heatperf, conf.eventlet_opts
    binds = binds_of(conf, options)
    workers, reason = workers_for(options.workers if options.workers is not None else api.workers)
    limits = HttpLimits()
    limits = dataclasses.replace(
        limits,
        max_header_line=api.max_header_line,
        max_header_bytes=max(limits.max_header_bytes, 4 * api.max_header_line),
        # Heat itself refuses what is larger than max_json_body_size, and says so; the server buffers enough for that
        # to be exact, and leaves unread what is larger still
        max_body=2 * conf.max_json_body_size,
        header_deadline=own.header_timeout,
        body_deadline=own.body_timeout,
        idle_timeout=eventlet.client_socket_timeout or float("inf"),
        keep_alive=eventlet.wsgi_keep_alive,
    )
    tls = TLS(api.cert_file, api.key_file) if api.cert_file else None
    settings = ServerSettings(
        workers=workers,
        binds=binds,
        backlog=api.backlog,
        tcp_keepidle=api.tcp_keepidle,
        tls=tls,
        loop=_loop_of(conf, options),
        pin=own.pin_workers if options.pin is None else options.pin,
        limits=limits,
        drain_timeout=own.drain_timeout,
        keepalive_grace=own.keepalive_grace,
        watchdog_timeout=own.watchdog_timeout,
        access_log=own.access_log,
    )
    return settings, reason


def binds_of(conf: Any, options: argparse.Namespace) -> tuple[Bind, ...]:
    """Where to listen: the flags, else the options."""
    if options.bind:
        return tuple(bind_of(options, text) for text in options.bind)
    return (Bind(host="127.0.0.1" if options.dev else conf.heat_api.bind_host, port=conf.heat_api.bind_port),)

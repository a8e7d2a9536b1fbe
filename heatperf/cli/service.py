"""What a generation serves: configuration, logging, application. Imported by its zygote, see server/zygote.py.

In: the arguments of ``heatperf serve``. Out: a Service. Raises ConfigurationError naming file, option and remedy, and
SystemExit with the usage for arguments that oslo.config does not know. Logging is set up here; nothing connects to
anything before a worker starts.
"""

import argparse
import dataclasses
import logging
import sys
from functools import partial
from typing import Any

from oslo_config import cfg
from oslo_reports import guru_meditation_report

import heatperf
from heatperf.cli import flags, helper
from heatperf.cli.settings import binds_of, foreign, settings_of, tuned_of, usage_error
from heatperf.cli.settings import load as load_configuration
from heatperf.config import files, logs, validate
from heatperf.config.check import lint, old_names
from heatperf.config.options import OPTIONS
from heatperf.errors import ConfigurationError
from heatperf.pipeline.application import build
from heatperf.server.application import Service


def load(arguments: dict[str, Any]) -> Service:
    """The Factory of heatperf.server.application.

    :param arguments: ``prog`` and ``argv`` of the command line, what launch made of them (``development``, ``state``
        and ``socket`` of an embedded engine, ``helpers``, a folder), ``first`` and ``inherited`` of the supervisor
    """
    parser = flags.serve_parser(arguments["prog"])
    options, rest = parser.parse_known_args(arguments["argv"])
    options.dev = arguments["development"]
    conf = cfg.CONF
    try:
        assignments = load_configuration(conf, options, rest)
    except files.WrongArguments as error:
        raise SystemExit(usage_error(parser, error)) from None
    settings, reason = settings_of(conf, options)
    _check_inherited(options, arguments["inherited"])
    log = logs.setup(conf, assignments)
    sides = helper.specifications(conf.heatperf.helper_processes, settings.workers, arguments.get("helpers"))
    settings = dataclasses.replace(settings, sides=sides)
    helpers = [side.arguments["socket"] for side in sides]
    application = build(conf, flags.engine_of(options), options.dev, arguments.get("socket"), helpers)
    application.parts.startables.append(Reports(conf))
    _advise(conf, options, assignments, application)
    logging.getLogger("heatperf.server").info("%s", reason)
    if options.dev and arguments["first"]:
        _banner(arguments["inherited"] or [str(bind) for bind in settings.binds], arguments.get("state"))
    return Service(settings, application, partial(_located, conf, options, assignments), log)


def _check_inherited(options: argparse.Namespace, inherited: list[str]) -> None:
    for text in inherited:
        if "/" not in text and not text.startswith("unix:"):
            flags.bind_of(options, text)


def _advise(conf: Any, options: argparse.Namespace, assignments: Any, application: Any) -> None:
    """Say in the log what is no mistake and yet not as it should be."""
    log = logging.getLogger("heatperf.config")
    for finding in (old_names if options.dev else lint)(conf, assignments):
        log.warning("%s", finding)
    if found := tuned_of(options):
        if why := foreign(found):
            log.warning("%s", why)
        else:
            log.info("Defaults are those of %s, unless set elsewhere", found.file)
    if not options.dev:
        for file, text in application.parts.policy.unknown():
            log.warning("%s: %s", file, text)


def _located(conf: Any, options: argparse.Namespace, assignments: Any, error: ConfigurationError) -> ConfigurationError:
    """The same refusal with the line of heat.conf that caused it, where the server cannot know it."""
    known = {validate.label("heat_api", opt.dest): opt for opt in OPTIONS["heat_api"]}
    if error.file:
        return error
    if error.option in known:
        names = [error.option]
    elif not options.bind and not options.dev and str(binds_of(conf, options)[0]) in error.message:
        names = ["[heat_api] bind_host", "[heat_api] bind_port"]
    else:
        return error
    for name in names:
        if files.find(assignments, "heat_api", known[name]):
            return validate.refusal(assignments, "heat_api", known[name], error.message, error.remedy)
    return error


class _Version:
    """What oslo.reports wants to know of a program."""

    vendor_string = staticmethod(lambda: "heatperf")
    product_string = staticmethod(lambda: "heatperf")
    version_string_with_package = staticmethod(lambda: heatperf.__version__)


class Reports:
    """Reports on SIGUSR2, of threads, greenlets and configuration, as heat-api writes them."""

    def __init__(self, conf: Any) -> None:
        self._conf = conf

    def start(self, _loop: Any) -> None:
        """In the worker: with [oslo_reports] file_event_handler this starts a thread."""
        guru_meditation_report.TextGuruMeditation.setup_autorun(_Version, conf=self._conf)


def _banner(binds: list[str], state: str | None) -> None:
    places = ", ".join(binds)
    engine = f"Stacks are made here, without a cloud, and kept in {state}." if state else "It has no engine of its own."
    print(
        f"heatperf {heatperf.__version__}, development mode: no authentication, loopback only ({places}).\n"
        f"{engine}\n"
        "To serve a cloud: heatperf serve --config-file /etc/heat/heat.conf",
        file=sys.stderr,
        flush=True,
    )

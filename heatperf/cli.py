"""The commands: ``heatperf serve``, ``heatperf config sample|show|check``, ``heatperf hardware``, and ``heat-api``, the
old name of serve.

In: command line arguments. Out: an exit code: 0 stopped as asked, 1 the server failed, 2 it cannot start as configured.
Wires configuration, application and server together and holds nothing else.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from oslo_config import cfg

import heatperf
from heatperf.errors import ConfigurationError

LOOPS = ("gevent", "meinheld", "uvloop")
ENGINES = ("auto", "rpc", "embedded")
LOOPBACK = ("127.0.0.1", "::1", "localhost")

_FLAGS = """\
Other options are oslo.config's and oslo.log's, as heat-api always took them, among them:
  --config-file FILE    configuration file, repeatable; default: heat.conf and heat-api.conf
                        in ~/.heat, ~, /etc/heat and /etc
  --config-dir DIR      directory of *.conf files, read after the files; repeatable
  --debug               log at DEBUG and show tracebacks in error answers
  --log-file FILE, --log-dir DIR, --use-syslog, --use-journal, --use-json, --log-config-append FILE
"""
_EXAMPLES = """
examples:
  {serve} --config-file /etc/heat/heat.conf
  {serve} --dev
  heatperf config check --config-file /etc/heat/heat.conf

config check takes the flags of serve and says what a start would refuse, without starting.
"""


def _flags() -> argparse.ArgumentParser:
    """The flags of serve; config check and config show take the same and mean the same by them."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(
        "--workers",
        metavar="auto|0|N",
        help="worker processes; auto and 0: what CPUs, quota and memory allow ([heat_api] workers)",
    )
    parser.add_argument(
        "--bind",
        action="append",
        default=[],
        metavar="HOST:PORT|unix:PATH[,mode=0660][,owner=USER[:GROUP]]",
        help="where to listen, repeatable ([heat_api] bind_host, bind_port)",
    )
    parser.add_argument("--loop", choices=LOOPS, default="gevent", help="how a worker waits (default: gevent)")
    parser.add_argument(
        "--engine", choices=ENGINES, default="auto", help="where stacks are made; auto: rpc, unless in development mode"
    )
    parser.add_argument("--flavor", metavar="NAME", help="pipeline of the paste file ([paste_deploy] flavor)")
    parser.add_argument("--paste", metavar="FILE", help="paste file ([paste_deploy] api_paste_config)")
    parser.add_argument(
        "--dev", action="store_true", help="development mode: loopback, no authentication, no files but those given"
    )
    return parser


def _parser(prog: str, description: str, epilog: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        parents=[_flags()],
    )


def _serve_parser(prog: str) -> argparse.ArgumentParser:
    parser = _parser(prog, "Serve the OpenStack Heat v1 API.", _FLAGS + _EXAMPLES.format(serve=prog))
    parser.add_argument("--version", action="version", version=heatperf.__version__)
    return parser


def _config_parser(prog: str) -> argparse.ArgumentParser:
    description = "Print a sample configuration, show what is in force, or check what a start would refuse."
    parser = _parser(prog, description, _FLAGS + _EXAMPLES.format(serve="heatperf serve"))
    parser.add_argument("what", choices=("sample", "show", "check"))
    parser.add_argument("--policy", action="store_true", help="with sample: the policy rules instead")
    return parser


def _hardware_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heatperf hardware",
        description="Show what this machine grants the server, where that is written, and how many workers auto gives.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        default="/",
        help="read DIR/proc and DIR/sys instead: a container's /proc/PID/root, or a copy (default: /)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point ``heatperf``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="heatperf",
        description=heatperf.__doc__,
        epilog=_EXAMPLES.format(serve="heatperf serve") + "heat-api is another name of heatperf serve.\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=heatperf.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("serve", help="serve the API", add_help=False)
    commands.add_parser("config", help="print or check the configuration", add_help=False)
    commands.add_parser("hardware", help="show what decides the number of workers", add_help=False)
    chosen, rest = parser.parse_known_args(arguments[:1]), arguments[1:]
    if chosen[0].command == "serve":
        return _guarded(_serve_parser("heatperf serve"), serve, rest)
    if chosen[0].command == "hardware":
        return _guarded(_hardware_parser(), hardware, rest)
    return _guarded(_config_parser("heatperf config"), config, rest)


def heat_api(argv: Sequence[str] | None = None) -> int:
    """Entry point ``heat-api``: ``heatperf serve`` under the name that units and scripts call."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return _guarded(_serve_parser("heat-api"), serve, arguments)


def _guarded(parser: argparse.ArgumentParser, command: Callable[..., int], arguments: Sequence[str]) -> int:
    try:
        return command(parser, arguments)
    except ConfigurationError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 2


def _wrong_arguments(parser: argparse.ArgumentParser, error: Any) -> NoReturn:
    """Say it once, under the name the program was called by; oslo.config's own usage knows only its own flags."""
    parser.error(f"{error.message} ({parser.prog} --help lists the flags of oslo.config and oslo.log too)")


def config(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """``config sample`` prints a heat.conf with every option, ``show`` what is in force, ``check`` what is wrong."""
    options, rest = parser.parse_known_args(list(argv))
    if options.what == "sample":
        from heatperf.config import sample

        surplus = [word for word in argv if word not in ("sample", "--policy")]
        if surplus:
            parser.error(f"sample takes no {surplus[0]}")
        if options.policy:
            from heatperf.policy.sample import policy_yaml

            print(policy_yaml(), end="")
        else:
            print(sample.heat_conf(), end="")
        return 0
    if options.policy:
        parser.error(f"--policy belongs to sample, not to {options.what}")
    if options.what == "check":
        return _check(parser, cfg.CONF, options, rest)
    from heatperf.config.show import show

    _load(parser, cfg.CONF, options, rest)
    show(cfg.CONF, sys.stdout)
    return 0


def hardware(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """``hardware`` prints what the number of workers is made from."""
    from heatperf.server.hardware import read
    from heatperf.server.sizing import table

    root = parser.parse_args(list(argv)).root
    if not os.path.isdir(root):
        raise ConfigurationError(f"--root {root} is not a directory", remedy="give one that holds proc and sys")
    print(table(read(root)))
    return 0


def _check(parser: argparse.ArgumentParser, conf: Any, options: argparse.Namespace, rest: list[str]) -> int:
    """Try everything that :func:`serve` does before it listens."""
    from heatperf.config.check import Finding, check
    from heatperf.config.files import WrongArguments
    from heatperf.loops import check as check_loop
    from heatperf.server.sizing import workers_for

    # What was built, to be asked for advice without reading the policy files, and complaining of them, again.
    policies: list[Any] = []

    def advise(_conf: Any) -> Iterator[Finding]:
        return (Finding(file, text) for policy in policies for file, text in policy.unknown())

    try:
        return check(
            conf,
            rest,
            sys.stdout,
            flags=[
                lambda: _refuse_other_programs(rest),
                lambda: check_loop(options.loop),
                lambda: _engine(options),
                lambda: workers_for(options.workers),
                *(partial(_bind, options, text) for text in options.bind),
            ],
            build=[lambda conf: _settings(conf, options), lambda conf: _build_errors(conf, options, policies)],
            advise=[advise],
            development=options.dev,
            adjust=partial(_adjust, options=options),
        )
    except WrongArguments as error:
        _wrong_arguments(parser, error)


def _build_errors(conf: Any, options: argparse.Namespace, policies: list[Any]) -> Iterator[ConfigurationError]:
    """What building the application raises, and what it would raise next if that were corrected.

    :param policies: gets the policy that the application was built with
    """
    from heatperf.pipeline.application import build

    engine = "none" if options.engine == "embedded" else _engine(options)
    for kind in dict.fromkeys((engine, "none")):
        try:
            policies.append(build(conf, kind, options.dev).parts.policy)
            return
        except RuntimeError as error:  # ConfigurationErrors, and what loaders of paste files raise
            yield error if isinstance(error, ConfigurationError) else ConfigurationError(str(error))
    # The pipeline comes last; without policy files nothing stands before it.
    conf.set_override("policy_file", os.devnull, group="oslo_policy")
    conf.set_override("policy_dirs", [], group="oslo_policy")
    try:
        build(conf, "none", options.dev)
    except RuntimeError as error:
        yield error if isinstance(error, ConfigurationError) else ConfigurationError(str(error))
    finally:
        conf.clear_override("policy_file", group="oslo_policy")
        conf.clear_override("policy_dirs", group="oslo_policy")


def _refuse_other_programs(rest: Sequence[str]) -> None:
    for word in rest:
        if word in ("heat-api-cfn", "heat-api-cloudwatch"):
            raise ConfigurationError(f"{word} is not served", remedy="run upstream's for it; this server is heat-api")


def serve(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """Load everything, then hand it to the supervisor. Returns its exit code."""
    options, rest = parser.parse_known_args(list(argv))
    _refuse_other_programs(rest)
    conf = cfg.CONF
    assignments = _load(parser, conf, options, rest)
    settings, reason = _settings(conf, options)

    import logging

    from heatperf.config import logs
    from heatperf.config.check import lint, old_names

    logs.setup(conf, assignments)
    from heatperf.pipeline.application import build

    application = build(conf, _engine(options), options.dev)
    log = logging.getLogger("heatperf.config")
    for finding in (old_names if options.dev else lint)(conf, assignments):
        log.warning("%s", finding)
    if not options.dev:
        for file, text in application.parts.policy.unknown():
            log.warning("%s: %s", file, text)
    _set_up_reports(conf)
    logging.getLogger("heatperf.server").info("%s", reason)
    if options.dev:
        _banner(settings)
    from heatperf.server.supervisor import serve as supervise

    try:
        return supervise(settings, application)
    except ConfigurationError as error:
        raise _located(conf, options, assignments, error) from error


def _located(conf: Any, options: argparse.Namespace, assignments: Any, error: ConfigurationError) -> ConfigurationError:
    """The same refusal with the line of heat.conf that caused it, where the server cannot know it."""
    from heatperf.config import files, validate
    from heatperf.config.options import OPTIONS

    known = {validate.label("heat_api", opt.dest): opt for opt in OPTIONS["heat_api"]}
    if error.file:
        return error
    if error.option in known:
        names = [error.option]
    elif not options.bind and not options.dev and str(_binds(conf, options)[0]) in error.message:
        names = ["[heat_api] bind_host", "[heat_api] bind_port"]
    else:
        return error
    for name in names:
        if files.find(assignments, "heat_api", known[name]):
            return validate.refusal(assignments, "heat_api", known[name], error.message, error.remedy)
    return error


def _load(parser: argparse.ArgumentParser, conf: Any, options: argparse.Namespace, rest: list[str]) -> Any:
    """Load the configuration, flags included; returns the assignments of its files."""
    from heatperf.config.files import WrongArguments
    from heatperf.config.load import load

    try:
        return load(conf, rest, development=options.dev, adjust=partial(_adjust, options=options))
    except WrongArguments as error:
        _wrong_arguments(parser, error)


def _adjust(conf: Any, options: argparse.Namespace) -> None:
    """Lay the flags over what the files say."""
    if options.flavor is not None:
        conf.set_override("flavor", options.flavor, group="paste_deploy")
    if options.paste is not None:
        conf.set_override("api_paste_config", str(Path(options.paste).absolute()), group="paste_deploy")
    if options.dev:
        _relax(conf, options)


def _relax(conf: Any, options: argparse.Namespace) -> None:
    """Set what makes a server usable without Keystone: everybody is an administrator, who may do everything.

    Upstream's noauth grants role admin only, which today's default policies refuse nearly everywhere.
    """
    if options.flavor is None:
        conf.set_override("flavor", "noauth", group="paste_deploy")
    conf.set_override("enforce_new_defaults", False, group="oslo_policy")


def _engine(options: argparse.Namespace) -> str:
    if options.engine == "embedded":
        raise ConfigurationError("--engine embedded is not available yet", remedy="use --engine rpc, or --dev without")
    return "none" if options.dev and options.engine == "auto" else "rpc"


def _binds(conf: Any, options: argparse.Namespace) -> tuple[Any, ...]:
    from heatperf.server.settings import Bind

    if options.bind:
        return tuple(_bind(options, text) for text in options.bind)
    return (Bind(host="127.0.0.1" if options.dev else conf.heat_api.bind_host, port=conf.heat_api.bind_port),)


def _bind(options: argparse.Namespace, text: str) -> Any:
    from heatperf.server.settings import Bind

    bind = Bind.parse(text)
    if options.dev and bind.path is None and bind.host not in LOOPBACK:
        raise ConfigurationError(
            f"development mode has no authentication and serves on loopback only, not on {bind}",
            remedy="use --bind 127.0.0.1:PORT, or start with a configuration and without --dev",
        )
    return bind


def _settings(conf: Any, options: argparse.Namespace) -> tuple[Any, str]:
    """Return the server's settings and the sentence that says how many workers and why."""
    from heatperf.loops import check as check_loop
    from heatperf.loops.base import HttpLimits
    from heatperf.server.settings import TLS, ServerSettings
    from heatperf.server.sizing import workers_for

    check_loop(options.loop)
    api, own, eventlet = conf.heat_api, conf.heatperf, conf.eventlet_opts
    binds = _binds(conf, options)
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
        loop=options.loop,
        limits=limits,
        drain_timeout=own.drain_timeout,
        access_log=own.access_log,
    )
    return settings, reason


class _Version:
    """What oslo.reports wants to know of a program."""

    vendor_string = staticmethod(lambda: "heatperf")
    product_string = staticmethod(lambda: "heatperf")
    version_string_with_package = staticmethod(lambda: heatperf.__version__)


def _set_up_reports(conf: Any) -> None:
    """Have SIGUSR2 write a report of threads, greenlets and configuration, as heat-api did."""
    from oslo_reports import guru_meditation_report

    guru_meditation_report.TextGuruMeditation.setup_autorun(_Version, conf=conf)


def _banner(settings: Any) -> None:
    places = ", ".join(str(bind) for bind in settings.binds)
    print(
        f"heatperf {heatperf.__version__}, development mode: no authentication, loopback only ({places}).\n"
        "There is no engine yet in this mode: the API answers, stacks cannot be made.\n"
        "To serve a cloud: heatperf serve --config-file /etc/heat/heat.conf",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":  # python -m heatperf.cli
    sys.exit(main())

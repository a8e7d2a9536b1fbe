"""The commands: ``heatperf serve``, ``heatperf config sample|show|check``, and ``heat-api``, the old name of serve.

In: command line arguments. Out: an exit code: 0 stopped as asked, 1 the server failed, 2 it cannot start as configured.
Wires configuration, application and server together and holds nothing else.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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


def _serve_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serve the OpenStack Heat v1 API.",
        epilog=_FLAGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=heatperf.__version__)
    parser.add_argument(
        "--workers", metavar="auto|0|N", help="worker processes; auto and 0: one per usable CPU ([heat_api] workers)"
    )
    parser.add_argument(
        "--bind",
        action="append",
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


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point ``heatperf``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="heatperf", description=heatperf.__doc__)
    parser.add_argument("--version", action="version", version=heatperf.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("serve", help="serve the API", add_help=False)
    commands.add_parser("config", help="print or check the configuration", add_help=False)
    chosen, rest = parser.parse_known_args(arguments[:1]), arguments[1:]
    if chosen[0].command == "serve":
        return _guarded(lambda: serve("heatperf serve", rest))
    return _guarded(lambda: config("heatperf config", rest))


def heat_api(argv: Sequence[str] | None = None) -> int:
    """Entry point ``heat-api``: ``heatperf serve`` under the name that units and scripts call."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return _guarded(lambda: serve("heat-api", arguments))


def _guarded(command: Callable[[], int]) -> int:
    try:
        return command()
    except ConfigurationError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 2


def config(prog: str, argv: Sequence[str]) -> int:
    """``config sample`` prints a heat.conf with every option, ``show`` what is in force, ``check`` what is wrong."""
    parser = argparse.ArgumentParser(prog=prog, epilog=_FLAGS, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sample", "show", "check"))
    parser.add_argument("--policy", action="store_true", help="with sample: the policy rules instead")
    options, rest = parser.parse_known_args(list(argv))
    if options.what == "sample":
        from heatperf.config import sample

        if rest:
            parser.error(f"sample takes no {rest[0]}")
        if options.policy:
            from heatperf.policy.sample import policy_yaml

            print(policy_yaml(), end="")
        else:
            print(sample.heat_conf(), end="")
        return 0
    from heatperf.config.load import load

    if options.what == "check":
        from heatperf.config.check import check
        from heatperf.pipeline.application import build

        return check(cfg.CONF, rest, sys.stdout, build=[lambda conf: build(conf, "rpc")])
    from heatperf.config.show import show

    load(cfg.CONF, rest)
    show(cfg.CONF, sys.stdout)
    return 0


def serve(prog: str, argv: Sequence[str]) -> int:
    """Load everything, then hand it to the supervisor. Returns its exit code."""
    options, rest = _serve_parser(prog).parse_known_args(list(argv))
    for word in rest:
        if word in ("heat-api-cfn", "heat-api-cloudwatch"):
            raise ConfigurationError(f"{word} is not served", remedy="run upstream's for it; this server is heat-api")
    conf = cfg.CONF
    _load(conf, options, rest)
    settings, reason = _settings(conf, options)

    import logging

    from heatperf.config import logs
    from heatperf.config.check import lint
    from heatperf.config.files import settings_of

    logs.setup(conf)
    from heatperf.pipeline.application import build

    application = build(conf, _engine(options), options.dev)
    if not options.dev:
        for finding in lint(conf, settings_of(conf)):
            logging.getLogger("heatperf.config").warning("%s", finding)
    _set_up_reports(conf)
    logging.getLogger("heatperf.server").info("%s", reason)
    if options.dev:
        _banner(settings)
    from heatperf.server.supervisor import serve as supervise

    return supervise(settings, application)


def _load(conf: Any, options: argparse.Namespace, rest: list[str]) -> None:
    from heatperf.config.load import load

    try:
        load(conf, rest, development=options.dev)
    except SystemExit as refusal:
        if refusal.code:  # oslo.config's parser knows only its own flags, and showed only those
            _serve_parser("heatperf serve").print_usage(sys.stderr)
        raise
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


def _settings(conf: Any, options: argparse.Namespace) -> tuple[Any, str]:
    """Return the server's settings and the sentence that says how many workers and why."""
    from heatperf.loops import check as check_loop
    from heatperf.loops.base import HttpLimits
    from heatperf.server.settings import TLS, Bind, ServerSettings
    from heatperf.server.sizing import workers_for

    check_loop(options.loop)
    api, own, eventlet = conf.heat_api, conf.heatperf, conf.eventlet_opts
    if options.bind:
        binds = tuple(Bind.parse(text) for text in options.bind)
    else:
        binds = (Bind(host="127.0.0.1" if options.dev else api.bind_host, port=api.bind_port),)
    if options.dev:
        for bind in binds:
            if bind.path is None and bind.host not in LOOPBACK:
                raise ConfigurationError(
                    f"development mode has no authentication and serves on loopback only, not on {bind}",
                    remedy="use --bind 127.0.0.1:PORT, or start with a configuration and without --dev",
                )
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

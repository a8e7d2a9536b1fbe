"""The flags of every command. Imports no OpenStack library: ``serve`` reads them in the supervisor."""

import argparse
from collections.abc import Callable, Sequence

import heatperf
from heatperf.errors import ConfigurationError
from heatperf.loops import check as check_loop
from heatperf.server.settings import Bind
from heatperf.server.sizing import MAXIMUM, workers_for

LOOPS = ("gevent", "meinheld", "uvloop")  # as in config.options, which would import oslo.config here
ENGINES = ("auto", "rpc", "embedded")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
# --control none
NO_CONTROL = "none"
# --tuned none
NO_TUNED = "none"

FLAGS = """\
Other options are oslo.config's and oslo.log's, as heat-api always took them, among them:
  --config-file FILE    configuration file, repeatable; default: heat.conf and heat-api.conf
                        in ~/.heat, ~, /etc/heat and /etc
  --config-dir DIR      directory of *.conf files, read after the files; repeatable
  --debug               log at DEBUG and show tracebacks in error answers
  --log-file FILE, --log-dir DIR, --use-syslog, --use-journal, --use-json, --log-config-append FILE
"""
EXAMPLES = """
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
    parser.add_argument("--loop", choices=LOOPS, help="how a worker waits ([heatperf] loop)")
    parser.add_argument(
        "--pin",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="keep each worker on a CPU of its own ([heatperf] pin_workers)",
    )
    parser.add_argument(
        "--tuned",
        metavar="FILE|none",
        help="what heatperf tune --write wrote; every other setting goes before it"
        " (default: heatperf/tuned.conf in $XDG_CONFIG_HOME or ~/.config, else in /etc)",
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default="auto", help="where stacks are made; auto: rpc, unless in development mode"
    )
    parser.add_argument("--flavor", metavar="NAME", help="pipeline of the paste file ([paste_deploy] flavor)")
    parser.add_argument("--paste", metavar="FILE", help="paste file ([paste_deploy] api_paste_config)")
    parser.add_argument(
        "--dev",
        action="store_true",
        help="development mode: loopback, no authentication, an engine of its own, no files but those given"
        " (default where no configuration of any kind exists)",
    )
    parser.add_argument(
        "--state",
        metavar="DIR",
        help="where the embedded engine keeps stacks (default: $XDG_STATE_HOME/heatperf, ~/.local/state/heatperf)",
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


def serve_parser(prog: str) -> argparse.ArgumentParser:
    """:param prog: the name it was called by"""
    parser = _parser(prog, "Serve the OpenStack Heat v1 API.", FLAGS + EXAMPLES.format(serve=prog))
    parser.add_argument("--version", action="version", version=heatperf.__version__)
    parser.add_argument(
        "--control",
        metavar="PATH|none",
        help="socket for heatperf reload, stop and status"
        " (default: control.sock in $RUNTIME_DIRECTORY, /run/heatperf as root, or $XDG_RUNTIME_DIR/heatperf)",
    )
    return parser


def config_parser(prog: str) -> argparse.ArgumentParser:
    """:param prog: the name it was called by"""
    description = "Print a sample configuration, show what is in force, or check what a start would refuse."
    parser = _parser(prog, description, FLAGS + EXAMPLES.format(serve="heatperf serve"))
    parser.add_argument("what", choices=("sample", "show", "check"))
    parser.add_argument("--policy", action="store_true", help="with sample: the policy rules instead")
    return parser


def hardware_parser() -> argparse.ArgumentParser:
    """For ``heatperf hardware``."""
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


_CONTROL = {
    "reload": "Load the configuration anew. What runs goes on until the new one can serve, and stays if it cannot.",
    "stop": "Stop the server: what it has accepted is answered. Comes back when it has ended.",
    "status": "Show the workers and what they do. Exit code 0: all serve, 1: not all.",
}
CONTROL_COMMANDS = tuple(_CONTROL)


def seconds(text: str) -> float:
    """A duration of more than nothing, for argparse."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


def whole(least: int, most: int) -> Callable[[str], int]:
    """For argparse: a whole number within bounds, both included."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {least} to {most}")
        return int(text)

    return number


def _slot(text: str) -> str:
    if text != "all" and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text} is neither all nor the number of a worker")
    return text


def _add_control(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--control", metavar="PATH", help="the server's control socket (default: where heatperf serve makes it)"
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, help="for the answer (default: as long as it takes)"
    )


def profile_parser() -> argparse.ArgumentParser:
    """For ``heatperf profile``."""
    parser = argparse.ArgumentParser(
        prog="heatperf profile",
        description="Watch running workers with py-spy (pip install 'heatperf[profile]') and write what they do to a"
        " file each: DATE-TIME-worker-SLOT-LOOP.svg. Prints the names of the files.",
        epilog="Exit code 1: a worker could not be watched, with the reason; 2: no server could be asked, or nothing"
        " could be started.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--worker",
        metavar="N|all",
        type=_slot,
        help="the worker in slot N of heatperf status, or all at once (default: the first that serves)",
    )
    parser.add_argument("--seconds", metavar="S", type=whole(1, 3600), default=10, help="for how long (default: 10)")
    parser.add_argument(
        "--format",
        choices=("svg", "speedscope"),
        default="svg",
        help="a flame graph for a browser, or a file for speedscope (default: svg)",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="where to write (default: ./profiles if there is such a directory, else here)"
    )
    parser.add_argument(
        "--rate", metavar="HZ", type=whole(1, 1000), default=100, help="samples a second (default: 100)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--gil", action="store_true", help="only threads that hold the GIL: Python's share, without system calls"
    )
    which.add_argument("--idle", action="store_true", help="waiting threads too")
    _add_control(parser)
    return parser


def tune_parser() -> argparse.ArgumentParser:
    """For ``heatperf tune``."""
    parser = argparse.ArgumentParser(
        prog="heatperf tune",
        description="Try the loops, numbers of workers and pinning that this machine has, with a short load on a server"
        " of its own on loopback, and recommend what answers most. Nothing that runs is touched.",
        epilog="serve reads what --write has written, and everything else goes before it: the command line, then"
        " heat.conf and the environment, then this file, then the defaults."
        " Exit code 1: it could not be measured, or not well enough to be written.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--seconds", metavar="S", type=whole(6, 3600), default=60, help="for everything together (default: 60)"
    )
    parser.add_argument(
        "--loop", action="append", choices=LOOPS, help="try only this one, repeatable (default: all that are installed)"
    )
    parser.add_argument(
        "--workers", metavar="N", action="append", type=whole(1, MAXIMUM), help="try only this many, repeatable"
    )
    parser.add_argument(
        "--pin", action=argparse.BooleanOptionalAction, default=True, help="try pinned workers too (default: yes)"
    )
    parser.add_argument("--svg", metavar="FILE", help="write the plot to a file as well")
    parser.add_argument(
        "--write",
        metavar="FILE",
        nargs="?",
        const="",
        help="write the recommendation where serve reads it (default: heatperf/tuned.conf, in /etc as root, else in"
        " $XDG_CONFIG_HOME or ~/.config)",
    )
    return parser


def control_parser(command: str) -> argparse.ArgumentParser:
    """:param command: one of CONTROL_COMMANDS"""
    parser = argparse.ArgumentParser(
        prog=f"heatperf {command}",
        description=_CONTROL[command],
        epilog=f"Exit code {'' if command == 'status' else '1: refused, with the reason; '}2: no server could be"
        " asked, or it did not answer in time.",
        allow_abbrev=False,
    )
    _add_control(parser)
    if command == "status":
        parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    return parser


# What flags alone decide


def check_flags(options: argparse.Namespace, rest: Sequence[str]) -> None:
    """Refuse what needs no configuration to be refused.

    :raises ConfigurationError: one of the flags cannot be meant
    """
    refuse_other_programs(rest)
    if options.loop is not None:
        check_loop(options.loop)
    if options.workers is not None:
        workers_for(options.workers)
    for text in options.bind:
        bind_of(options, text)


def refuse_other_programs(rest: Sequence[str]) -> None:
    """
    :raises ConfigurationError: an argument is the name of another of Heat's APIs
    """
    for word in rest:
        if word in ("heat-api-cfn", "heat-api-cloudwatch"):
            raise ConfigurationError(f"{word} is not served", remedy="run upstream's for it; this server is heat-api")


def engine_of(options: argparse.Namespace) -> str:
    """:returns: "rpc" or "embedded" """
    if options.engine == "auto":
        return "embedded" if options.dev else "rpc"
    return str(options.engine)


def bind_of(options: argparse.Namespace, text: str) -> Bind:
    """
    :raises ConfigurationError: no address, or not one for development mode
    """
    bind = Bind.parse(text)
    if options.dev and bind.path is None and bind.host not in LOOPBACK:
        raise ConfigurationError(
            f"development mode has no authentication and serves on loopback only, not on {bind}",
            remedy="use --bind 127.0.0.1:PORT, or start with a configuration and without --dev",
        )
    return bind

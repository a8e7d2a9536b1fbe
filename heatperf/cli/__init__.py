"""The commands: ``heatperf serve``, ``reload``, ``stop``, ``status``, ``config sample|show|check``, ``hardware``,
``tune`` and ``profile``; ``heat-api`` is the old name of serve.

In: command line arguments. Out: an exit code: 0 stopped as asked, 1 failed, 2 it cannot start as configured. Wires
configuration, application and server together and holds nothing else. Each command imports what it needs when it is
called: ``serve`` is the supervisor, which must stay small (see flags, launch), and service is what each of its
generations loads.
"""

import argparse
import sys
from collections.abc import Sequence

import heatperf
from heatperf.cli import flags
from heatperf.errors import ConfigurationError


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point ``heatperf``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="heatperf",
        description=heatperf.__doc__,
        epilog=flags.EXAMPLES.format(serve="heatperf serve") + "heat-api is another name of heatperf serve.\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=heatperf.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("serve", "serve the API"),
        ("reload", "have a running server load its configuration anew"),
        ("stop", "stop a running server"),
        ("status", "show what a running server does"),
        ("config", "print or check the configuration"),
        ("hardware", "show what decides the number of workers"),
        ("tune", "measure which settings suit this machine"),
        ("profile", "draw what running workers spend their time on"),
    ):
        commands.add_parser(name, help=text, add_help=False)
    command = parser.parse_known_args(arguments[:1])[0].command
    return _run(command, "heatperf serve", arguments[1:])


def heat_api(argv: Sequence[str] | None = None) -> int:
    """Entry point ``heat-api``: ``heatperf serve`` under the name that units and scripts call."""
    return _run("serve", "heat-api", list(sys.argv[1:] if argv is None else argv))


def _run(command: str, prog: str, arguments: Sequence[str]) -> int:
    try:
        if command == "serve":
            from heatperf.cli.launch import launch

            return launch(prog, arguments)
        if command == "config":
            from heatperf.cli.configuration import config

            return config(flags.config_parser("heatperf config"), arguments)
        if command == "hardware":
            from heatperf.cli.machine import hardware

            return hardware(flags.hardware_parser(), arguments)
        if command == "tune":
            from heatperf.cli.tune import tune

            return tune(flags.tune_parser().parse_args(list(arguments)))
        if command == "profile":
            from heatperf.cli.profile import profile

            return profile(flags.profile_parser().parse_args(list(arguments)), arguments)
        from heatperf.cli.remote import remote

        return remote(command, flags.control_parser(command).parse_args(list(arguments)))
    except ConfigurationError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the supervisor has its handlers, or while a command waits for the server
        return 130


if __name__ == "__main__":  # python -m heatperf.cli
    sys.exit(main())

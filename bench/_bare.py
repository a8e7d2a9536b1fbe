"""The server around an application that answers two bytes: the ceiling of everything above it. A program.

Started by _servers.py in a process of its own; serves on 127.0.0.1 until TERM.
"""

import argparse
import sys
from typing import Any

from oslo_config import cfg

from heatperf.config import load as configuration
from heatperf.config import logs
from heatperf.server.application import Service
from heatperf.server.settings import Bind, ServerSettings
from heatperf.server.supervisor import serve


class TwoBytes:
    """The application."""

    @staticmethod
    def wsgi(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    def start(self, _loop: Any) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""


def load(arguments: dict[str, Any]) -> Service:
    """The Factory."""
    conf = cfg.ConfigOpts()
    # The logging of production: oslo.log's format, to standard error, which is a file here.
    assignments = configuration.load(conf, [], development=True)
    settings = ServerSettings(
        workers=arguments["workers"],
        binds=(Bind("127.0.0.1", arguments["port"]),),
        access_log=arguments["access_log"],
        loop=arguments["loop"],
    )
    return Service(settings, TwoBytes(), logs=logs.setup(conf, assignments))


def main() -> int:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--loop", default="gevent")
    parser.add_argument("--access-log", action="store_true")
    return serve("_bare:load", vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())

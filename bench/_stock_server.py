"""A server of stock oslo.messaging that answers as _responder.py does. A program; runs until it is told to end.

What a heat-engine costs that has nothing to do: with it, replies come one by one. In: TRANSPORT_URL, --project.
"""

import argparse
import os
import threading
from typing import Any

import oslo_messaging
from _rpc_data import replies
from oslo_config import cfg


class Endpoint:
    """Every method that has an answer; arguments are of no interest."""

    target = oslo_messaging.Target(version="1.36")

    def __init__(self, project: str) -> None:
        for name, result in replies(project, 1).items():
            setattr(self, name, lambda _context, _result=result, **_arguments: _result)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", required=True)
    options = parser.parse_args()
    cfg.CONF([], project="heat", prog="stock-server")
    oslo_messaging.set_transport_defaults("heat")
    transport = oslo_messaging.get_rpc_transport(cfg.CONF, os.environ["TRANSPORT_URL"])
    target: Any = oslo_messaging.Target(topic="engine", server="stock")
    server = oslo_messaging.get_rpc_server(transport, target, [Endpoint(options.project)], executor="threading")
    server.start()
    threading.Event().wait()


if __name__ == "__main__":
    main()

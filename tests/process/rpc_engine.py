"""An engine for the rabbit transport: stock oslo.messaging's RPC server with a few of heat-engine's methods.

python rpc_engine.py heat.conf     prints "ready", and serves until its stdin ends
"""

import logging
import sys
import time
import warnings

warnings.simplefilter("ignore")

import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402


class StackExists(Exception):
    """Of heat's, as far as the wire is concerned."""

    def __init__(self, **kwargs):
        self.kwargs = kwargs

    def __str__(self):
        return f"The Stack ({self.kwargs['stack_name']}) already exists."


StackExists.__module__ = "heat.common.exception"


class Endpoint:
    target = oslo_messaging.Target(version="1.36")

    def __init__(self):
        self.served = []

    def list_stacks(self, context, **arguments):
        return {"context": context, "arguments": arguments}

    def create_stack(self, context, stack_name, template):
        return {"stack_name": stack_name, "template": template}

    def delete_stack(self, context, stack_identity):
        self.served.append(stack_identity)

    def get_revision(self, context):
        return self.served

    def show_stack(self, context, seconds):
        time.sleep(seconds)
        return "late"

    def preview_stack(self, context):
        raise StackExists(stack_name="zwölf")


def main():
    logging.basicConfig(level=logging.WARNING)
    oslo_messaging.set_transport_defaults("heat")
    cfg.CONF(["--config-file", sys.argv[1]], project="heat", default_config_files=[], default_config_dirs=[])
    transport = oslo_messaging.get_rpc_transport(cfg.CONF)
    place = oslo_messaging.Target(topic="engine", server="here", version="1.36")
    server = oslo_messaging.get_rpc_server(transport, place, [Endpoint()], executor="threading")
    server.start()
    print("ready", flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()

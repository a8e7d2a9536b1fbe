"""Casts without a pause, over the lean transport on a worker's loop, and notes what it was told of each: a program.

    _caster.py HEAT.CONF RECORD

The REST API sends calls only, but the engine's contract has casts, and the transport promises: a cast that came back
without an error is in the broker's hands. Stack names are the markers. Ends with its stdin, when all have come back.
"""

import contextvars
import json
import os
import sys
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from oslo_config import cfg  # noqa: E402

from heatperf import loops  # noqa: E402
from heatperf.config.load import load  # noqa: E402
from heatperf.context import RequestContext  # noqa: E402
from heatperf.rpc.client import EngineClient  # noqa: E402
from heatperf.rpc.rabbit import options  # noqa: E402
from heatperf.rpc.rabbit.transport import RabbitTransport  # noqa: E402

GREENLETS = 8
PAUSE = 0.02


class Caster:
    def __init__(self, loop, record):
        self.loop = loop
        self.file = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.transport = RabbitTransport(options.read(cfg.CONF))
        self.client = EngineClient(self.transport)
        self.stopping = False
        self.active = GREENLETS

    def start(self):
        self.transport.start(self.loop)
        for number in range(GREENLETS):
            self.loop.spawn(self.cast_all, number)

    def stop(self):
        self.stopping = True

    def cast_all(self, number):
        context = contextvars.Context().run(RequestContext, user_id="caster", request_id="req-caster")
        count = 0
        while not self.stopping:
            count += 1
            marker = f"cast-{os.getpid()}-{number}-{count}"
            began, outcome = time.monotonic(), ""
            try:
                identity = {"tenant": "admin", "stack_name": marker, "stack_id": marker, "path": ""}
                self.client.cast(context, "delete_stack", stack_identity=identity)
            except Exception as error:
                outcome = type(error).__name__
            line = {"marker": marker, "began": began, "ended": time.monotonic(), "error": outcome}
            os.write(self.file, (json.dumps(line) + "\n").encode())
            self.loop.sleep(PAUSE)
        self.active -= 1
        if not self.active:
            self.transport.stop()
            self.loop.stop()


def main():
    load(cfg.CONF, ["--config-file", sys.argv[1]])
    loop = loops.create("gevent")
    caster = Caster(loop, sys.argv[2])
    loop.call_soon_threadsafe(loop.spawn, caster.start)

    def wait_for_the_end():
        sys.stdin.read()
        loop.call_soon_threadsafe(caster.stop)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main()

"""A program around the server, as the command line is one: run by the tests of this folder, never imported.

served.py OPTIONS-AS-JSON: workers, binds, and any other field of ServerSettings; boot = "fail", "fail-others" (all but
the first process to start), "hang" or "die"; state = a folder to share; nofile = the workers' limit of descriptors;
reports = "signal" (a handler of USR2), or "thread" (a native thread of the supervisor instead, as oslo.reports' file
watcher is one); hold_log = a native thread takes the lock of the log handler as the worker stops.
"""

import json
import logging
import os
import resource
import signal
import sys
import threading
import time

from heatperf.errors import ConfigurationError
from heatperf.server.settings import Bind, ServerSettings
from heatperf.server.supervisor import serve

LOG = logging.getLogger("served")


class App:
    def __init__(self, boot, state, nofile, hold_log):
        self.boot = boot
        self.hold_log = hold_log
        self.nofile = nofile
        self.state = state

    def start(self, loop):
        self.loop = loop
        LOG.info("boot of %s", os.getpid())
        if self.nofile:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.nofile, self.nofile))
        if self.boot == "fail":
            raise RuntimeError("no broker at amqp.example")
        if self.boot == "hang":
            loop.sleep(60)
        if self.boot == "die":
            os._exit(9)
        if self.boot == "fail-others":
            try:
                os.close(os.open(f"{self.state}/first", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                if not os.path.exists(f"{self.state}/open"):
                    raise RuntimeError("not my turn") from None

    def stop(self):
        LOG.info("stopped %s", os.getpid())
        if self.hold_log:
            held = threading.Event()
            threading.Thread(target=hold_log_lock, args=(held,), daemon=True).start()
            held.wait()

    def wsgi(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path in ("/slow", "/endless", "/block"):
            open(self.state + path, "w").close()
        if path == "/slow":
            self.loop.sleep(1.0)
        elif path == "/endless":
            self.loop.sleep(60)
        elif path == "/block":
            time.sleep(60)
        start_response("200 OK", [])
        return [str(os.getpid()).encode()]


def hold_log_lock(held):
    with logging.getLogger().handlers[0].lock:
        held.set()
        time.sleep(60)


def report(signum, frame):
    LOG.info("report of %s", os.getpid())


def main():
    options = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO, format="%(process)d %(levelname)s %(name)s %(message)s")
    app = App(**{name: options.pop(name, None) for name in ("boot", "state", "nofile", "hold_log")})
    if options.pop("reports", "signal") == "signal":
        signal.signal(signal.SIGUSR2, report)
    else:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    binds = tuple(Bind.parse(text) for text in options.pop("binds"))
    try:
        return serve(ServerSettings(binds=binds, **options), app)
    except ConfigurationError as exc:
        print(f"ERROR: {exc}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

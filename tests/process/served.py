"""A program around the server, as the command line is one: run by the tests of this folder, never imported by them.

served.py OPTIONS-FILE CONTROL insist|try. Each generation reads the file, JSON, anew. Any field of ServerSettings, and

state      a folder to share
name       what answers are marked with
load       instead of a service: "refuse" (a ConfigurationError), "raise", "exit" (with ``code``), "die", "hang"
boot       "fail", "fail-others" (all but the first process to start, while there is no file "open"),
           "wait" (for the file "open"), "hang", "die";
           "crash-others": all but the first die when they are ready
nofile     the workers' limit of descriptors
reports    "signal" (a handler of USR2), or "thread" (a native thread of the zygote instead)
hold_log   a native thread takes the lock of the log handler as the worker stops
constants  of the server's modules, for the supervisor, as {"generation.LOAD_DEADLINE": 1}
"""

import fcntl
import importlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from heatperf.errors import ConfigurationError
from heatperf.server.application import Service
from heatperf.server.settings import TLS, Bind, ServerSettings
from heatperf.server.supervisor import serve

LOG = logging.getLogger("served")


class App:
    def __init__(self, boot, state, nofile, hold_log, name):
        self.name = name
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
        while self.boot == "wait" and not os.path.exists(f"{self.state}/open"):
            loop.sleep(0.02)
        if self.boot == "fail-others":
            try:
                os.close(os.open(f"{self.state}/first", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                if not os.path.exists(f"{self.state}/open"):
                    raise RuntimeError("not my turn") from None
        if self.boot == "crash-others":
            lock = os.open(f"{self.state}/lock", os.O_CREAT | os.O_RDWR)  # stays open
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                loop.call_later(0.0, os._exit, 9)  # when it has said that it is ready

    def stop(self):
        LOG.info("stopped %s", os.getpid())
        if self.hold_log:
            held = threading.Event()
            threading.Thread(target=hold_log_lock, args=(held,), daemon=True).start()
            held.wait()

    def wsgi(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path in ("/slow", "/endless", "/block", "/spin", "/hold"):
            Path(self.state + path).write_text(str(os.getpid()))
        if path == "/slow":
            self.loop.sleep(1.0)
        elif path == "/endless":
            self.loop.sleep(60)
        elif path == "/hold":
            while not os.path.exists(f"{self.state}/release"):
                self.loop.sleep(0.02)
        elif path == "/block":
            block()
        elif path == "/spin":
            spin()
        elif path == "/burn":
            burn(0.3)
        elif path == "/orphan":
            # The shell ends, what it has started goes on.
            subprocess.run(["sh", "-c", "sleep 0.5 &"], check=True)
        start_response("200 OK", [("X-Name", self.name or "")])
        return [str(os.getpid()).encode()]


def block():
    time.sleep(60)  # in C, where no signal handler of Python's runs


def spin():
    while True:  # in Python, where they do
        pass


def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def hold_log_lock(held):
    with logging.getLogger().handlers[0].lock:
        held.set()
        time.sleep(60)


def report(signum, frame):
    LOG.info("report of %s", os.getpid())


def read_options(path):
    return json.loads(Path(path).read_text())


def load(arguments):
    """The Factory."""
    options = read_options(arguments["options"])
    options.pop("constants", None)
    logging.basicConfig(level=logging.INFO, format="%(process)d %(levelname)s %(name)s %(message)s")
    how = options.pop("load", None)
    if how is not None:
        LOG.info("load as told: %s", how)
    if how == "refuse":
        raise ConfigurationError("nothing will do", remedy="try another", file="served.json")
    if how == "raise":
        raise ZeroDivisionError("by design")
    if how == "exit":
        raise SystemExit(options["code"])
    if how == "hang":
        time.sleep(60)
    if how == "die":
        os._exit(9)
    app = App(**{name: options.pop(name, None) for name in ("boot", "state", "nofile", "hold_log", "name")})
    if options.pop("reports", "signal") == "signal":
        signal.signal(signal.SIGUSR2, report)
    else:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    binds = tuple(Bind.parse(text) for text in options.pop("binds"))
    tls = TLS(*options.pop("tls")) if "tls" in options else None
    return Service(ServerSettings(binds=binds, tls=tls, **options), app)


def main():
    options, control, manner = sys.argv[1:]
    for place, value in read_options(options).get("constants", {}).items():
        module, name = place.split(".")
        setattr(importlib.import_module(f"heatperf.server.{module}"), name, value)
    try:
        return serve("served:load", {"options": options}, control=Path(control), insist=manner == "insist")
    except ConfigurationError as exc:
        print(f"ERROR: {exc}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

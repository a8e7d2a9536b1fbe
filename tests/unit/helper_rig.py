"""A helper process with tasks of the tests', and a worker's loop with a client of it.

As a program (``helper_rig.py PATH [CPU]``) it is the helper; imported, it starts one.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

from heatperf import loops
from heatperf.errors import heat
from heatperf.helper.client import Helpers
from heatperf.helper.server import serve

TIMEOUT = 20.0


def wait_for(condition):
    deadline = time.monotonic() + TIMEOUT
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return value


def echo(arguments, body):
    return {"said": arguments.get("say"), "pid": os.getpid()}, body


def hold(arguments, _body):
    """Run until a file is there, having made another."""
    pathlib.Path(arguments["begun"]).touch()
    while not pathlib.Path(arguments["until"]).exists():
        time.sleep(0.005)
    return {"pid": os.getpid()}, b""


def die(arguments, _body):
    """Only as often as there are letters in a file."""
    count = pathlib.Path(arguments["count"])
    left = count.read_text()
    if left:
        count.write_text(left[1:])
        os.kill(os.getpid(), signal.SIGKILL)
    return {"pid": os.getpid()}, b""


def spin(_arguments, _body):
    while True:
        pass


def refuse(arguments, _body):
    text = arguments["text"]
    kinds = {
        "value": ValueError(text),
        "depth": RecursionError(text),
        "limit": heat.RequestLimitExceeded(message=text),
        "memory": MemoryError(text),
        "mistake": LookupError(text),
    }
    raise kinds[arguments["kind"]]


TASKS = {task.__name__: task for task in (echo, hold, die, spin, refuse)}


class Helper:
    """A process that serves ``path``."""

    def __init__(self, path, cpu=30.0, tasks="rig"):
        self.path = str(path)
        self._command = [sys.executable, __file__, self.path, str(cpu), tasks]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Client:
    """A worker's loop in a thread, with Helpers on it. Calls come from any thread of the test."""

    def __init__(self, paths, loop_name="gevent"):
        self.helpers = Helpers([str(path) for path in paths])
        self.helpers.CONNECT_DEADLINE = TIMEOUT  # a busy machine takes its time to start another one
        up = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(loop_name, up), daemon=True)
        self._thread.start()
        assert up.wait(TIMEOUT)
        self.do(self.helpers.start, self.loop)

    def _run(self, loop_name, up):
        self.loop = loops.create(loop_name)
        self.loop.call_soon_threadsafe(up.set)
        self.loop.run()

    def do(self, function, *args):
        return self.loop.run_on_loop(function, *args)

    def run(self, task, body=b"", seconds=TIMEOUT, **arguments):
        return self.do(self.helpers.run, task, arguments, body, seconds)

    def begin(self, task, body=b"", seconds=TIMEOUT, **arguments):
        """Run a task in a thread of its own; what it returns, or the exception, once ``join`` says so."""
        return Begun(lambda: self.run(task, body, seconds, **arguments))

    def all_sent(self, count):
        """Whether so many requests are with the kernel, and none is about to be."""
        links = self.helpers._links.values()
        return self.helpers._under_way == count and not any(link._writing for link in links)

    def close(self):
        self.do(self.helpers.stop)
        self.do(self.loop.sleep, 0)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(TIMEOUT)


class Begun:
    def __init__(self, function):
        self._function = function
        self._outcome = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self._outcome = self._function()
        except Exception as error:
            self._outcome = error

    def join(self):
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()
        return self._outcome


@contextlib.contextmanager
def helper_and_client(path, loop_name="gevent", tasks="rig"):
    helper = Helper(path, tasks=tasks)
    client = Client([path], loop_name)
    try:
        yield helper, client
    finally:
        client.close()
        helper.kill()


if __name__ == "__main__":
    if sys.argv[3] == "rig":
        table = TASKS
    else:
        from heatperf.api.tasks import TASKS as table
    serve(
        sys.argv[1],
        table,
        ready=lambda: print("ready", flush=True),
        stop=threading.Event(),
        queue_limit=4,
        task_cpu=float(sys.argv[2]),
    )

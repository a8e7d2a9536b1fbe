"""A side process: one that the application needs beside its workers.

Supervisor: Side starts it, starts it again when it dies, and ends it after the last worker that wants it. Child
(``python -P -m heatperf.server.side FD``): runs its entry until the channel ends, which it does when the supervisor is
gone, however that came. A reload touches it only if the new configuration does not want it any more.

    from the supervisor                          to the supervisor
    hello   name, entry, arguments, version, protocol   ready
    stop                                         failed  text, exit_code (and the process ends)
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import heatperf
from heatperf.server import channel as channels
from heatperf.server import child
from heatperf.server.backoff import Backoff
from heatperf.server.generation import Failure
from heatperf.server.settings import Specification
from heatperf.server.slot import Clock, how_it_ended

LOG = logging.getLogger("heatperf.server")

# From the start of the process to ready: imports, and its own state.
READY_DEADLINE = 60.0
# From the end of the channel to the end of the process.
STOP_DEADLINE = 10.0
# The same, when the supervisor is gone without a word.
ORPHAN_DEADLINE = 2.0

#: What an entry ("module:function") is: it gets the arguments, calls ``ready`` once it can be used, and returns soon
#: after ``stop`` is set. A ConfigurationError of it refuses the start of the server.
Entry = Callable[[dict[str, Any], Callable[[], None], threading.Event], None]


class Side:
    """The supervisor's end."""

    def __init__(self, specification: Specification, clock: Clock) -> None:
        self.specification = specification
        self._clock = clock
        self.ready = False
        self.failure: Failure | None = None  # it could not start the first time: nobody shall serve without it
        self._was_ready = False
        self._channel: channels.Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._born = 0.0
        self._due: float | None = 0.0
        self._ready_by: float | None = None
        self._stopping = False
        self._backoff = Backoff()
        self.restarts = 0
        self.reason = ""  # of the last end

    @property
    def pid(self) -> int:
        """0: there is none."""
        return self._process.pid if self._process is not None else 0

    def retry(self) -> None:
        """Forget a failure, and try again later: others serve without it meanwhile."""
        failure, self.failure = self.failure, None
        if failure is not None and self._due is None and not self._stopping:
            self.restarts += 1
            self.reason = "could not start"
            delay = self._backoff.delay(self._clock() - self._born)
            self._due = self._clock() + delay
            LOG.error("The %s cannot start: %s", self.specification.name, failure.text.strip())

    @property
    def ended(self) -> bool:
        """Whether it has been stopped and is gone."""
        return self._stopping and self._process is None

    def status(self) -> dict[str, Any]:
        """:returns: see status.py"""
        state = "serving" if self.ready else "starting" if self.pid else "waiting"
        due = None if self._due is None else max(0.0, self._due - self._clock())
        return {
            "name": self.specification.name, "pid": self.pid, "state": state,
            "restarts": self.restarts, "reason": self.reason, "next_start": due,
        }  # fmt: skip

    def descriptors(self) -> Iterator[int]:
        """What to poll for reading."""
        if self._channel is not None:
            yield self._channel.fileno()

    def deadlines(self) -> Iterator[float]:
        """Moments at which tick() has something to do."""
        yield from (moment for moment in (self._due, self._ready_by) if moment is not None)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._due is not None and now >= self._due:
            self._start(now)
        if self._ready_by is not None and now >= self._ready_by and self._process is not None:
            self._ready_by = None
            LOG.error("The %s (pid %d) is killed: it took too long", self.specification.name, self.pid)
            self._process.kill()

    def _start(self, now: float) -> None:
        specification = self.specification
        self._due, self._born, self._ready_by = None, now, now + READY_DEADLINE
        self._channel, theirs = channels.pair()
        self._channel.set_blocking(False)
        with theirs:
            self._process = child.spawn("heatperf.server.side", theirs.fileno())
        with contextlib.suppress(channels.Closed):  # gone already; end of file says so
            self._channel.send(
                "hello", name=specification.name, entry=specification.entry, arguments=specification.arguments,
                version=heatperf.__version__, protocol=channels.PROTOCOL,
            )  # fmt: skip

    def on_readable(self, fd: int) -> bool:
        """Deal with one of descriptors(); whether it was ours."""
        if self._channel is None or fd != self._channel.fileno():
            return False
        try:
            while message := self._channel.receive_ready():
                self._on_message(message)
        except channels.Closed:
            self._on_end()
        return True

    def _on_message(self, message: channels.Message) -> None:
        if message.kind == "ready":
            self.ready = self._was_ready = True
            self._ready_by = None
        elif self._was_ready:
            LOG.error("The %s failed: %s", self.specification.name, message["text"].strip())
        else:
            self.failure = Failure(message["text"], message["exit_code"])

    def _on_end(self) -> None:
        process, channel = self._process, self._channel
        self._process = self._channel = self._ready_by = None
        self.ready = False
        if channel is not None:
            channel.close()
        code = None
        if process is not None:
            process.kill()  # its channel is gone: so it is, or should be
            code = process.wait()
        if self._stopping:
            return
        if not self._was_ready:
            name = self.specification.name
            self.failure = self.failure or Failure(f"ERROR: the {name} {how_it_ended(code)} before it was ready", 1)
            return
        now = self._clock()
        self.restarts += 1
        self.reason = how_it_ended(code)
        delay = self._backoff.delay(now - self._born)
        self._due = now + delay
        LOG.error("The %s %s; it is started again %s", self.specification.name, how_it_ended(code),
                  f"in {delay:.1f} s" if delay else "now")  # fmt: skip

    def stop(self, now: float) -> None:
        """Let it end; it is killed if it does not. Later calls do nothing."""
        if self._stopping:
            return
        self._stopping, self._due = True, None
        self._ready_by = now + STOP_DEADLINE
        if self._channel is not None:
            with contextlib.suppress(channels.Closed, BlockingIOError):
                self._channel.send("stop")

    def kill(self) -> None:
        """Leave nothing behind."""
        self._stopping, self._due = True, None
        if self._process is not None:
            self._process.kill()
            self._on_end()


def main(channel: channels.Channel, hello: channels.Message) -> int:
    """The child's body."""
    child.name_process(f"heatperf-{hello['name']}")
    stop = threading.Event()

    def watch() -> None:
        try:
            channel.receive()
        except channels.Closed:
            # Nobody waits for us any more, and a successor may want what we hold.
            late = threading.Timer(ORPHAN_DEADLINE, os._exit, (child.EXIT_FAILED,))
            late.daemon = True
            late.start()
        stop.set()

    threading.Thread(target=watch, name="supervisor", daemon=True).start()
    entry: Entry = child.find(hello["entry"])
    entry(hello["arguments"], lambda: channel.send("ready"), stop)
    return child.EXIT_OK


if __name__ == "__main__":
    child.run(int(sys.argv[1]), "heatperf-side", main)

"""Clients that send requests without a pause, each under a name of its own that the answer must hold.

Comes in: the port of a server. Goes out: a Record per request. Raises nothing in the clients' threads: whatever is not
the answer to exactly this request is noted. Nothing is sent again.
"""

import contextlib
import http.client
import itertools
import json
import os
import random
import threading
import time
from dataclasses import dataclass

#: Project of the noauth pipeline.
PROJECT = "admin"
#: Seconds. Nothing here takes longer, unless it hangs.
PATIENCE = 30.0
PAUSE = 0.03
_LARGE = "x" * 60_000
_NUMBERS = itertools.count(1)


@dataclass(slots=True)
class Record:
    """One request. Times are of time.monotonic().

    :ivar status: of HTTP; 0 for none
    :ivar error: type of the fault document, or what went wrong with the connection
    :ivar wrong: why the answer is none to this request; "" for a right one
    """

    marker: str
    kind: str
    began: float
    ended: float = 0.0
    status: int = 0
    retry_after: str | None = None
    error: str = ""
    wrong: str = ""

    @property
    def seconds(self):
        return self.ended - self.began

    @property
    def answered(self):
        """It has the answer that was asked for."""
        return self.status in GOOD and not self.wrong

    def __str__(self):
        return (
            f"{self.kind} {self.marker}: {self.status} {self.error} {self.wrong} after {self.seconds:.2f} s"
            f" (Retry-After {self.retry_after}), begun at {self.began:.3f}"
        )


#: 404 only where it was asked for: see _judge.
GOOD = (200, 201, 302, 404)
TEMPLATE = {"heat_template_version": "2021-04-16", "resources": {"r": {"type": "OS::Heat::None"}}}


def _create(marker):
    return "POST", "", {"stack_name": marker, "template": TEMPLATE}, 201


def _create_large(marker):
    return "POST", "", {"stack_name": marker, "template": TEMPLATE, "files": {"file:///f": _LARGE}}, 201


def _lookup(marker):
    return "GET", f"/{marker}", None, 302


def _show(marker):
    return "GET", f"/{marker}/1", None, 200


def _template(marker):
    return "GET", f"/{marker}/1/template", None, 200


def _missing(marker):
    return "GET", f"/{marker}", None, 404


#: Each is one call of the engine. By name, since the server is told no more than that.
KINDS = {
    "create": _create, "large": _create_large, "lookup": _lookup, "show": _show, "template": _template,
    "missing": _missing,
}  # fmt: skip
#: Those that an engine answers which knows every name; "missing" is for one that knows none.
_CHOICE = ["create", "lookup", "show", "show", "template", "create", "lookup", "show", "large"]


def send(connection, kind):
    """One request; returns its Record. The connection is closed where there was no answer."""
    marker = f"{kind}-{os.getpid()}-{next(_NUMBERS)}"
    method, path, body, good = KINDS[kind](marker)
    record = Record(marker, kind, time.monotonic())
    try:
        connection.request(
            method,
            f"/v1/{PROJECT}/stacks{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json", "X-Auth-Project": PROJECT},
        )
        answer = connection.getresponse()
        text = answer.read().decode()
        record.status, record.retry_after = answer.status, answer.getheader("Retry-After")
        location = answer.getheader("Location") or ""
    except (OSError, http.client.HTTPException) as error:
        record.error = repr(error)
        record.wrong = "no answer"
        connection.close()
    else:
        _judge(record, good, text, location)
    record.ended = time.monotonic()
    return record


def _judge(record, good, text, location):
    if record.status == good:
        if record.marker not in (location if good == 302 else text):
            record.wrong = f"an answer to something else: {text[:200]}"
    elif record.status in (500, 503):
        try:
            record.error = json.loads(text)["error"]["type"]
        except (ValueError, KeyError, TypeError):
            record.wrong = f"no fault document: {text[:200]}"
    else:
        record.wrong = f"status {record.status}: {text[:200]}"


def probe(port, kind="show"):
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        return send(connection, kind)


class Load:
    """Clients at work from ``with`` to the end of its block, each in a thread, each on a connection that it keeps.

    :param kinds: keys of KINDS, what they ask
    """

    def __init__(self, port, clients=12, pause=PAUSE, kinds=()):
        self._port = port
        self._kinds = kinds or _CHOICE
        self._pause = pause
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(clients)]
        self._records = [[] for _ in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Let every client finish its request."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)

    @property
    def hung(self):
        """Clients that have not come back after ``stop``."""
        return sum(thread.is_alive() for thread in self._threads)

    @property
    def records(self):
        """All requests that have ended."""
        return [record for records in self._records for record in list(records)]

    @property
    def answered(self):
        return sum(record.answered for record in self.records)

    def wait_for_more(self, number, seconds=PATIENCE):
        """Wait until as many more requests have been answered."""
        wanted = self.answered + number
        deadline = time.monotonic() + seconds
        while self.answered < wanted:
            if time.monotonic() > deadline:
                raise AssertionError(f"{number} more requests were not answered within {seconds:g} s")
            time.sleep(0.05)

    def _run(self, number):
        chance = random.Random()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        while not self._stopped.is_set():
            self._records[number].append(send(connection, chance.choice(self._kinds)))
            self._stopped.wait(chance.uniform(0.0, 2 * self._pause))
        connection.close()

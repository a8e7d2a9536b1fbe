"""Random kills of the embedded engine, under load, through the REST API of a real ``heatperf serve --dev``.

    engine_kills.py [--kills N] [--seed N] [--clients N] [--keep DIR]

Comes in: how often. Goes out: a line that sums it up and exit code 0; or 1, with what was inconsistent and the folder
that holds the server's log and its database.

Clients create, update and delete stacks without a pause, each under names of its own, and note what they were
promised. A kill comes at a random moment, also while the engine is still starting. When it is back, the clients stand
still for a moment and everything is compared with the promises (Audit). A request may fail only with the errors that
are meant for it (FAILS), and only while the engine was away.
"""

import argparse
import contextlib
import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from stack.development import ENGINE, PATIENCE, WORKER, Development, Project  # noqa: E402

# An operation here has a second or two of work to do, and then perhaps a rollback.
SETTLED = 20.0
# A request waits at most so long for an engine that is away (rpc/local.py: CONNECT_DEADLINE), and then says so.
ANSWERED = 12.0
# Lives that end sooner make the supervisor wait before the next (server/backoff.py): 0, then 1, then 2 seconds.
STABLE, SHORT_LIVES = 10.0, 3
# Stacks that a client leaves behind before it removes the oldest.
BACKLOG = 3
# The errors of a request that the engine's death has hit: it may or may not be carried out; it was not begun.
FAILS = {(500, "EngineLost"), (500, "MessagingTimeout"), (503, "EngineUnavailable")}
SHOWN = 8


class Inconsistent(Exception):
    """What must not be."""

    def __init__(self, what, examples=()):
        super().__init__("\n        ".join([what, *map(str, list(examples)[:SHOWN])]))


def require(condition, what, *examples):
    if not condition:
        raise Inconsistent(what, examples)


def template(rng):
    """Something that takes a moment, changes in place, is replaced, fails, and keeps a document outside of itself."""

    def probe(**properties):
        return {"type": "OS::Heat::TestResource", "properties": properties}

    return {
        "heat_template_version": "2021-04-16",
        "resources": {
            "secret": {"type": "OS::Heat::RandomString", "properties": {"length": rng.randrange(4, 8)}},
            "config": {"type": "OS::Heat::SoftwareConfig", "properties": {"config": str(rng.randrange(3))}},
            "user": probe(value={"get_attr": ["secret", "value"]}, wait_secs=rng.choice([0, 0.1, 0.3])),
            "last": {
                **probe(value=str(rng.randrange(3)), wait_secs=0.1, fail=rng.random() < 0.1),
                "depends_on": ["user", "config"],
            },
            **{f"extra{number}": probe(value="x") for number in range(rng.randrange(3))},
        },
    }


@dataclass
class Record:
    """One request."""

    what: str
    began: float
    ended: float
    status: int
    error: str


@dataclass
class Promises:
    """What the API has told the clients, and what went wrong with them. ``names`` by id of stack."""

    names: dict = field(default_factory=dict)
    leaving: set = field(default_factory=set)
    gone: set = field(default_factory=set)
    requests: int = 0
    operations: Counter = field(default_factory=Counter)
    failed: list = field(default_factory=list)
    wrong: list = field(default_factory=list)


class Gate:
    """Lets clients pass, or has them stand between two requests."""

    def __init__(self):
        self._changed = threading.Condition()
        self._shut = False
        self._inside = 0
        self.stopped = False

    @contextlib.contextmanager
    def passage(self):
        """Raises SystemExit once the load is over."""
        with self._changed:
            self._changed.wait_for(lambda: not self._shut or self.stopped)
            if self.stopped:
                raise SystemExit
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def closed(self):
        """Nobody is between two requests of one promise while this holds."""
        with self._changed:
            self._shut = True
            require(self._changed.wait_for(lambda: not self._inside, 4 * ANSWERED), "a client has not come back")
        yield
        with self._changed:
            self._shut = False
            self._changed.notify_all()

    def stop(self):
        with self._changed:
            self.stopped = True
            self._changed.notify_all()


class Client:
    """One thread of load.

    :param number: distinguishes its names
    """

    def __init__(self, number, seed, port, gate, promises):
        self.number = number
        self.rng = random.Random(f"{seed}-{number}")
        self.project = Project(port, "demo", timeout=ANSWERED)
        self.gate = gate
        self.promises = promises
        self.kept = []

    def run(self):
        for turn in range(1_000_000):
            try:
                self.live(f"stack-{self.number}-{turn}")
                while len(self.kept) > BACKLOG:
                    self.remove(self.kept.pop(0))
            except SystemExit:
                return
            except Exception as error:
                self.promises.wrong.append(repr(error))
                return

    def send(self, method, path, body=None):
        """One request; None for an answer that says that the engine went away."""
        record = Record(f"{method} {path}", time.monotonic(), 0.0, 0, "")
        try:
            answer = self.project(method, path, body)
        except Exception as error:  # workers are not killed: no connection may end, no answer may be missing
            seconds = time.monotonic() - record.began
            raise Inconsistent(f"{record.what} got no answer after {seconds:.1f} s: {error!r}") from error
        record.ended, record.status = time.monotonic(), answer.status
        self.promises.requests += 1
        if answer.status < 500:
            return answer
        record.error = answer.body["error"]["type"] if isinstance(answer.body, dict) else str(answer.body)
        self.promises.failed.append(record)
        return None

    def live(self, name):
        """The life of one stack."""
        path = self.create(name)
        if path is None:
            return
        if self.rng.random() < 0.6:
            self.wait(path)
        for _ in range(self.rng.randrange(3)):
            with self.gate.passage():
                answer = self.send("PUT", path, {"template": template(self.rng)})
            if answer is not None:
                require(answer.status in (202, 409), f"PUT {path}: {answer}")
                self.promises.operations["updates"] += answer.status == 202
            if self.rng.random() < 0.6:
                self.wait(path)
        if self.rng.random() < 0.6:
            self.remove(path)
        else:
            self.kept.append(path)

    def create(self, name):
        """Until it is known to be there: at most one of several tries may make a stack."""
        body = {"stack_name": name, "template": template(self.rng), "disable_rollback": self.rng.random() < 0.5}
        with self.gate.passage():
            answer = self.send("POST", "/stacks", body)
            if answer is not None:
                require(answer.status == 201, f"creating {name}: {answer}")
                return self.made(name, answer.body["stack"]["id"])
        with self.gate.passage():
            answer = self.send("POST", "/stacks", body)
            if answer is None:  # away for longer; should there be a stack, nobody counts on it
                return None
            require(answer.status in (201, 409), f"creating {name} once more: {answer}")
            if answer.status == 201:
                return self.made(name, answer.body["stack"]["id"])
            answer = self.send("GET", f"/stacks?name={name}")
            if answer is None:
                return None
            found = [stack["id"] for stack in answer.body["stacks"]]
            require(len(found) == 1, f"{name} exists, but it is listed {len(found)} times")
            return self.made(name, found[0])

    def made(self, name, stack_id):
        self.promises.names[stack_id] = name
        self.promises.operations["creates"] += 1
        return f"/stacks/{name}/{stack_id}"

    def remove(self, path):
        """Delete it until it is gone: a deletion that the engine's death cut off has failed, and is begun anew."""
        stack_id = path.rpartition("/")[2]
        while True:
            with self.gate.passage():
                self.promises.leaving.add(stack_id)
                answer = self.send("DELETE", path)
            if answer is not None:
                require(answer.status in (204, 404), f"DELETE {path}: {answer}")
                if answer.status == 404 or self.wait(path) == "DELETE_COMPLETE":
                    break
        self.promises.gone.add(stack_id)
        self.promises.operations["deletes"] += 1

    def wait(self, path):
        """Wait for the end of an operation; the state."""
        until = None
        while True:
            with self.gate.passage():
                answer = self.send("GET", path)
            if answer is None:
                until = None
            else:
                require(answer.status == 200, f"GET {path}: {answer}")
                state = answer.body["stack"]["stack_status"]
                if not state.endswith("_IN_PROGRESS"):
                    return state
                until = until or time.monotonic() + 2 * SETTLED
                require(time.monotonic() < until, f"{path} is still {state}")
            time.sleep(0.02)


class Audit:
    """Compares what there is with what was promised, and with itself. Nothing may be under way but stacks' work."""

    def __init__(self, project, promises, state):
        self.project = project
        self.promises = promises
        self.state = state
        self.cut_off = set()

    def get(self, path):
        answer = self.project("GET", path)
        require(answer.status == 200, f"GET {path}: {answer}")
        return answer.body

    def listed(self):
        return {stack["id"]: stack for stack in self.get("/stacks")["stacks"]}

    def settled(self):
        """The stacks by id, when nothing is in progress any more."""
        until = time.monotonic() + SETTLED
        while True:
            stacks = self.listed()
            busy = [f"{s['stack_name']} {s['stack_status']}" for s in stacks.values()
                    if s["stack_status"].endswith("_IN_PROGRESS")]  # fmt: skip
            if not busy:
                return stacks
            require(time.monotonic() < until, f"in progress for more than {SETTLED:g} s", *busy)
            time.sleep(0.05)

    def __call__(self):
        """:raises Inconsistent:"""
        stacks = self.settled()
        names = Counter(stack["stack_name"] for stack in stacks.values())
        require(max(names.values(), default=1) == 1, "two stacks of one name", names.most_common(2))
        promised, there = self.promises.names, stacks.keys()
        lost = promised.keys() - self.promises.leaving - there
        require(not lost, "stacks are lost", *(promised[one] for one in lost))
        back = self.promises.gone & there
        require(not back, "stacks came back", *(promised[one] for one in back))
        for stack in stacks.values():
            self.stack(stack)
        self.documents()
        for stack_id in list(self.promises.gone)[-5:]:
            self.deleted(stack_id)

    def stack(self, stack):
        """One stack in itself; the documents that its resources have."""
        path, title = f"/stacks/{stack['stack_name']}/{stack['id']}", f"{stack['stack_name']} ({stack['stack_status']})"
        resources = self.resources(path, title)
        listed = [resource["resource_name"] for resource in resources]
        require(len(set(listed)) == len(listed), f"{title} lists a resource twice", listed)
        wanted = self.get(f"{path}/template").get("resources", {})
        for resource in resources:
            state, physical = resource["resource_status"], resource["physical_resource_id"]
            if state in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
                require(physical, f"{title}: {resource['resource_name']} is {state} and is nothing")
        if stack["stack_status"].endswith("_COMPLETE"):
            states = {resource["resource_name"]: resource["resource_status"] for resource in resources}
            require(states.keys() == wanted.keys(), f"{title} is not what its template says", states, wanted.keys())
            require(all(s.endswith("_COMPLETE") for s in states.values()), f"{title} has a failed resource", states)
        self.events(path, title, stack, resources)
        if "Engine went down" in stack["stack_status_reason"]:
            self.cut_off.add((stack["id"], stack["updated_time"]))

    def documents(self):
        """There is no document without the resource that made it. The API shows no resource that is being replaced."""
        kept = {config["id"] for config in self.get("/software_configs")["software_configs"]}
        with contextlib.closing(opened(self.state)) as database:
            question = "SELECT physical_id, action FROM resources WHERE type = 'OS::Heat::SoftwareConfig'"
            made = {physical: action for physical, action in database.execute(question) if physical}
        strays = kept - made.keys()
        require(not strays, "documents that belong to no resource", strays)
        missing = {physical for physical, action in made.items() if action != "DELETE"} - kept
        require(not missing, "resources whose documents are missing", missing)

    def resources(self, path, title):
        """They may be busy for a while in a stack that has failed already."""
        until = time.monotonic() + SETTLED
        while True:
            found = self.get(f"{path}/resources")["resources"]
            busy = [f"{one['resource_name']} {one['resource_status']}" for one in found
                    if one["resource_status"].endswith("_IN_PROGRESS")]  # fmt: skip
            if not busy:
                return found
            require(time.monotonic() < until, f"{title}: resources in progress for more than {SETTLED:g} s", *busy)
            time.sleep(0.05)

    def events(self, path, title, stack, resources):
        """What is said last is what is; nothing ends that has not begun."""
        said = {}
        for event in self.get(f"{path}/events?sort_dir=asc")["events"]:
            said.setdefault(event["resource_name"], []).append(event)
        own = said.get(stack["stack_name"], [])
        states = [event["resource_status"] for event in own]
        require(states[:1] == ["CREATE_IN_PROGRESS"], f"{title} begins with other events", states)
        last = (own[-1]["resource_status"], own[-1]["resource_status_reason"])
        now = (stack["stack_status"], stack["stack_status_reason"])
        require(last == now, f"{title} and its last event differ", last, now)
        for before, after in zip(states, states[1:], strict=False):
            action, _, status = after.partition("_")
            begun = status == "IN_PROGRESS" or before == f"{action}_IN_PROGRESS"
            require(begun, f"{title}: {after} after {before}", states)
        for resource in resources:
            name, state = resource["resource_name"], resource["resource_status"]
            told = {event["resource_status"] for event in said.get(name, ())}
            require(state == "INIT_COMPLETE" or state in told, f"{title}: {name} is {state}, of which no event tells")

    def deleted(self, stack_id):
        path = f"/stacks/{self.promises.names[stack_id]}/{stack_id}"
        answer = self.project("GET", path)
        state = answer.body["stack"]["stack_status"] if answer.status == 200 else answer.status
        require(state in ("DELETE_COMPLETE", 404), f"{path} was deleted and is {state}")
        if answer.status == 200:
            require(self.get(f"{path}/resources")["resources"] == [], f"{path} was deleted and has resources")


class Killer:
    """Ends the engine, and knows when it was away."""

    def __init__(self, server, rng):
        self.server = server
        self.rng = rng
        self.away = []
        self.killed = set()
        self.while_starting = 0
        self._short_lives = 0
        self._born = time.monotonic()

    def pid(self, seconds=45.0):
        """Of the engine that lives, when there is one."""
        until = time.monotonic() + seconds
        while True:
            found = set(self.server.pids(ENGINE)) - self.killed
            if found:
                require(len(found) == 1, "more than one engine", found)
                return found.pop()
            require(time.monotonic() < until, "no engine is started again")
            time.sleep(0.005)

    def turn(self):
        """Kill once, at a random moment of a life; comes back when requests get through again."""
        lived = time.monotonic() - self._born
        if self._short_lives >= SHORT_LIVES and lived < STABLE:
            time.sleep(STABLE + 0.3 - lived)  # lest every further one is started later than the last
        elif self.rng.random() < 0.8:
            time.sleep(self.rng.uniform(0.0, 0.8))
        lived = time.monotonic() - self._born
        self._short_lives = 0 if lived >= STABLE else self._short_lives + 1
        began = time.monotonic()
        self.kill(self.pid())
        kills = 1
        if self._short_lives == 0 and self.rng.random() < 0.5:
            pid = self.pid()
            time.sleep(self.rng.uniform(0.0, 0.6))
            self.kill(pid)
            self.while_starting += 1
            self._short_lives += 1
            kills += 1
        self.pid()
        self._born = time.monotonic()
        while not self.server.ready():
            require(time.monotonic() < self._born + 30.0, "the engine does not answer")
            time.sleep(0.01)
        self.away.append((began, time.monotonic()))
        return kills

    def kill(self, pid):
        self.killed.add(pid)
        os.kill(pid, signal.SIGKILL)

    def check(self, records):
        """Every request that failed did so while the engine was away, and in the way meant for it."""
        for record in records:
            require((record.status, record.error) in FAILS, "a request failed in another way", record)
            hit = any(record.began < back and record.ended > gone for gone, back in self.away)
            require(hit, "a request failed though the engine was there", record, self.away[-1])


def finish(audit, killer):
    """Whatever state it was left in, a stack can be brought on or removed."""
    project = audit.project
    paths = {f"/stacks/{s['stack_name']}/{s['id']}": s["stack_status"] for s in audit.settled().values()}
    brought_on = [path for path, state in list(paths.items())[::2] if not state.startswith("DELETE")]
    only = {"heat_template_version": "2021-04-16", "resources": {"only": {"type": "OS::Heat::None"}}}
    for path in brought_on:
        answer = project("PUT", path, {"template": only})
        require(answer.status == 202, f"PUT {path}: {answer}")
    for path in brought_on:
        state = project.wait(path)
        names = [resource["resource_name"] for resource in audit.get(f"{path}/resources")["resources"]]
        require((state, names) == ("UPDATE_COMPLETE", ["only"]), f"{path} was not brought on", state, names)
    for path in paths:
        answer = project("DELETE", path)
        require(answer.status == 204, f"DELETE {path}: {answer}")
    for path in paths:
        state = project.wait(path)
        require(state == "DELETE_COMPLETE", f"{path} cannot be deleted", state)
        require(audit.get(f"{path}/resources")["resources"] == [], f"{path} was deleted and has resources")
    require(not audit.listed() and not audit.get("/software_configs")["software_configs"], "something is left")


def opened(state):
    """The engine's database, which may be read beside it."""
    return sqlite3.connect(f"file:{state}/engine.sqlite?mode=ro", uri=True, timeout=PATIENCE)


def leftovers(state):
    """What the database of a stopped engine still holds."""
    with contextlib.closing(opened(state)) as database:
        require(database.execute("PRAGMA integrity_check").fetchone() == ("ok",), "the database is damaged")
        for question in (
            "SELECT count(*) FROM resources",
            "SELECT count(*) FROM software_configs",
            "SELECT count(*) FROM stacks WHERE deleted_at IS NULL OR status != 'COMPLETE'",
        ):
            found = database.execute(question).fetchone()[0]
            require(found == 0, f"{found} rows are left: {question}")


def run(folder, kills, seed, clients):
    """Do it; the line that sums it up.

    :raises Inconsistent: see the module's text
    """
    with Development(Path(folder), workers=2) as server:
        promises, gate = Promises(), Gate()
        audit, killer = Audit(server.project(), promises, server.state), Killer(server, random.Random(seed))
        workers = set(server.pids(WORKER))
        threads = [
            threading.Thread(target=Client(number, seed, server.port, gate, promises).run, daemon=True)
            for number in range(clients)
        ]
        try:
            for thread in threads:
                thread.start()
            while len(killer.killed) < kills:
                killer.turn()
                with gate.closed():
                    require(not promises.wrong, "a client met what must not be", *promises.wrong)
                    audit()
                    killer.check(promises.failed)
        finally:
            gate.stop()
            for thread in threads:
                thread.join(4 * ANSWERED)
        require(not promises.wrong, "a client met what must not be", *promises.wrong)
        killer.check(promises.failed)
        audit()
        finish(audit, killer)
        require(set(server.pids(WORKER)) == workers, "a worker was replaced")
        told = server.output.count("The engine was killed by SIGKILL; it is started again")
        require(told == len(killer.killed), f"the log tells of {told} of {len(killer.killed)} kills")
        require("Traceback" not in server.output, "there is a traceback in the log")
        server.stop()
        leftovers(server.state)
    done = promises.operations
    return (
        f"{len(killer.killed)} kills of the engine, {killer.while_starting} while it was starting; away for at most"
        f" {max(back - gone for gone, back in killer.away):.1f} s. {promises.requests:,} requests,"
        f" {len(promises.failed)} failed, all while it was away; {done['creates']} creates, {done['updates']} updates,"
        f" {done['deletes']} deletes, {len(audit.cut_off)} seen cut off; every stack was consistent"
    )


def main():
    """:returns: exit code"""
    parser = argparse.ArgumentParser(prog="make kills", description="Kill the embedded engine at random moments.")
    parser.add_argument("--kills", type=int, default=50, help="default: %(default)s")
    parser.add_argument("--clients", type=int, default=4, help="threads of load (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="default: a random one, which is printed")
    parser.add_argument("--keep", type=Path, help="folder for log and database (default: a temporary one)")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    folder = options.keep or Path(tempfile.mkdtemp(prefix="heatperf-kills-"))
    began = time.monotonic()
    try:
        text = run(folder.resolve(), options.kills, seed, options.clients)
    except Exception as error:
        known = error if isinstance(error, Inconsistent) else repr(error)
        print(f"FAILED  {known}\n        seed {seed}, see {folder}", flush=True)
        return 1
    print(f"ok      {text} (seed {seed}, {time.monotonic() - began:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a fault happens to: a broker, ``heatperf serve`` on the lean transport, an engine, load, and casts.

Comes in: a folder, a running broker, and how this stage differs. Goes out: Stage, which notes when a fault begins and
when its cause is gone, and at the end says what all requests, casts and the engine's record amount to (_verdict.py).
"""

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path

from _proxy import Proxy
from _requests import Load, Record, probe
from _verdict import CONNECT, GRACE, RESPONSE, Unmet, judge, require
from stack import Heatperf, Process
from stack.paths import ROOT

HERE = Path(__file__).resolve().parent
PATIENCE = 30.0
WORKERS = 2
#: Seconds between the requests of those who come while a fault lasts.
PAUSE = 0.2
#: Seconds in which everybody learns of what has ended meanwhile: until then messages may still go the old way.
NEWS = 0.3
#: Requests, one after the other on connections of their own, that must all succeed as soon as the cause is gone.
PROBES = 4
#: [oslo_messaging_rabbit] of clouds whose messages survive a broker, and how their engines declare the queue.
QUORUM = {"rabbit_quorum_queue": "true", "rabbit_transient_quorum_queue": "true"}
QUORUM_QUEUE = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
DURABLE = {"amqp_durable_queues": "true"}
DURABLE_QUEUE = {"durable": True}
PASSING_QUEUE = {"durable": False}


def until(condition, what, seconds=PATIENCE, interval=0.03):
    """The first true value of condition()."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        require(time.monotonic() < deadline, f"{what}: not within {seconds:g} s")
        time.sleep(interval)
    return value


class _Program(Process):
    """A child that takes lines."""

    def __init__(self, name, program, folder, *arguments):
        super().__init__(name, [sys.executable, HERE / program, *arguments], folder, {**os.environ})
        self.record = folder / f"{name}.jsonl"

    def lines(self):
        """What it has noted so far."""
        if not self.record.exists():
            return []
        return [json.loads(line) for line in self.record.read_text().splitlines() if line.endswith("}")]

    def tell(self, **orders):
        os.write(self.stdin, (json.dumps(orders) + "\n").encode())

    def start(self):
        theirs, self.stdin = os.pipe()
        super().start(stdin=theirs)
        os.close(theirs)

    def end(self):
        """Let it finish."""
        with contextlib.suppress(OSError):
            os.close(self.stdin)
        with contextlib.suppress(Unmet):
            until(lambda: not self.running, f"{self.name} ends")
        self.stop()


class Engine(_Program):
    """_raw_engine.py."""

    def __init__(self, folder, nodes, queue, number, **options):
        given = {"ports": [node.port for node in nodes], "user": nodes[0].user, "password": nodes[0].password}
        given |= {"queue": queue, "record": str(folder / f"engine-{number}.jsonl"), "deadline": RESPONSE, **options}
        super().__init__(f"engine-{number}", "_raw_engine.py", folder, json.dumps(given))

    def consumes(self):
        """When it has begun to, last; 0.0 where it does not."""
        moment = 0.0
        for line in self.lines():
            if line.get("event") == "consuming":
                moment = line["at"]
            elif line.get("event") in ("lost", "cancelled"):
                moment = 0.0
        return moment


class Stage:
    """See the module's text. ``with`` it.

    :param nodes: of the broker; the first is asked
    :param rabbit: [oslo_messaging_rabbit]
    :param queue: how the engine declares its queue
    :param keeps: confirmed casts survive the fault
    :param networked: put a Proxy between the servers and the broker
    :param engine: start one
    :param casts: also cast
    :param clients: of the load; 0 for none
    :param latency: of the engine, seconds
    :param pause: of a client between its requests, on average, seconds
    """

    #: [heatperf] of the servers, besides what all stages have
    heatperf = {}
    #: what the load asks (default: all sorts), and what is asked besides it
    kinds, kind = (), "show"

    def __init__(
        self, folder, nodes, rabbit=(), queue=PASSING_QUEUE, keeps=True, networked=False, engine=True, casts=True,
        clients=12, latency=0.02, pause=0.03,
    ):  # fmt: skip
        self.folder = folder
        self.nodes = nodes
        self.broker = nodes[0]
        self.rabbit = dict(rabbit)
        self.queue = queue
        self.keeps = keeps
        self.latency = latency
        self.engines = []
        self.probes = []
        self.slack = 0.0
        #: (when a fault began, when all was well again or None)
        self.strikes = [] if engine else [[0.0, None]]
        self.recoveries = []
        self._waiting = []
        self._networked, self._begin_with_engine, self._casts = networked, engine, casts
        self._clients, self._pause = clients, pause
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.broker.delete_queue("engine")
            self.broker.delete_exchange("heat")
            self.proxy = stack.enter_context(Proxy(self.broker.port)) if self._networked else None
            conf = self.folder / "heat.conf"
            conf.write_text(self._conf())
            stack.callback(lambda: [engine.stop() for engine in self.engines])
            if self._begin_with_engine:
                self.start_engine()
            self.server = stack.enter_context(Heatperf(self.folder, conf, workers=WORKERS))
            self.caster = _Program("casts", "_caster.py", self.folder, conf, self.folder / "casts.jsonl")
            if self._casts:
                self.caster.start()
                stack.callback(self.caster.stop)
            self.load = stack.enter_context(Load(self.server.port, self._clients, self._pause, self.kinds))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        return self._stack.__exit__(*exception)

    def _conf(self):
        ports = [self.proxy.port] if self.proxy else [node.port for node in self.nodes]
        hosts = ",".join(f"{self.broker.user}:{self.broker.password}@127.0.0.1:{port}" for port in ports)
        sections = self._sections(hosts)
        return "\n".join(
            f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in options.items())
            for section, options in sections.items()
        )

    def _sections(self, hosts):
        """Of heat.conf."""
        return {
            "DEFAULT": {"transport_url": f"rabbit://{hosts}/", "rpc_response_timeout": f"{RESPONSE:g}"},
            "paste_deploy": {"flavor": "noauth", "api_paste_config": ROOT / "etc" / "heatperf" / "api-paste.ini"},
            "oslo_policy": {"enforce_new_defaults": "false"},
            "heatperf": {"rpc_transport": "lean", "rpc_connect_deadline": CONNECT, "rpc_engine_grace": GRACE}
            | self.heatperf,
            "oslo_messaging_rabbit": self.rabbit,
        }

    # Parts

    @property
    def engine(self):
        return self.engines[-1]

    def start_engine(self):
        """Another engine; it consumes when this comes back."""
        engine = Engine(self.folder, self.nodes, self.queue, len(self.engines) + 1, latency=self.latency)
        self.engines.append(engine)
        engine.start()
        until(engine.consumes, "the engine consumes")
        return engine

    def workers(self):
        """Pids of the server's workers."""
        return [pid for zygote in _children(self.server.process.pid) for pid in _children(zygote) if _is_worker(pid)]

    # The course of things

    def warm_up(self, answers=80):
        """Let the load run before anything happens."""
        if self._clients:
            self.load.wait_for_more(answers)
        if self._casts:
            until(lambda: len(self.caster.lines()) > 20, "casts come back")

    def strike(self):
        """From now on requests may fail; returns the moment."""
        self.strikes.append([time.monotonic(), None])
        return self.strikes[-1][0]

    def well(self, since=None):
        """The cause is gone: from now on all requests must succeed, the first one too.

        :param since: when the cause was gone, where it was earlier than now: for the time that the recovery takes
        """
        now = time.monotonic()
        self.strikes[-1][1] = now
        probes = [probe(self.server.port, self.kind) for _ in range(PROBES)]
        self.probes += probes
        require(all(p.answered for p in probes), "the first requests after the recovery failed", probes)
        since = since or now
        ends = [record.ended for record in [*self.load.records, *probes] if record.answered and record.ended > since]
        self.recoveries.append(min(ends) - since)

    def well_with_broker(self, broker_back):
        """As ``well``, as soon as the engine has found the broker again.

        :param broker_back: when the broker was there again
        """
        until(lambda: self.engine.consumes() > self.strikes[-1][0], "the engine consumes again")
        self.well(broker_back)

    def probe(self):
        """One request besides the load."""
        record = probe(self.server.port, self.kind)
        self.probes.append(record)
        return record

    def last(self, seconds):
        """Let a fault last. The clients of the load all wait for an answer by and by: others come meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._waiting.append(self.begin(WORKERS))
            time.sleep(min(left, PAUSE))

    def begin(self, number):
        """As many requests besides the load, at once; returns a function that waits for their records."""
        found = []
        threads = [threading.Thread(target=lambda: found.append(self.probe()), daemon=True) for _ in range(number)]
        for thread in threads:
            thread.start()

        def end():
            for thread in threads:
                thread.join(PATIENCE)
            require(len(found) == number, f"{number - len(found)} requests hang")
            return found

        return end

    def connected(self):
        """How often the servers have said that they have connected to the broker."""
        return self.server.output.count("Connected to the broker")

    def finish(self, quiet=0.0):
        """End the load, let the engine take all that is queued, and judge.

        :param quiet: seconds until the last reply
        :returns: the line
        """
        self.load.stop()
        for end in self._waiting:
            end()
        self._count_links()
        if self._casts:
            self.caster.end()
        until(lambda: self.broker.messages("engine") == 0, "the engine's queue runs empty")
        time.sleep(max(quiet, 0.2))
        for engine in self.engines:
            engine.end()
        return judge(self)

    def _count_links(self):
        """Each worker has its two connections again, and no more."""
        ports = {self.proxy.port} if self.proxy else {node.port for node in self.nodes}
        workers = self.workers()
        require(len(workers) == WORKERS, f"{WORKERS} workers were expected: {workers}")
        for worker in workers:
            found = len(links(worker, ports))
            require(found == 2, f"a worker has {found} connections to the broker")

    # For the verdict

    @property
    def records(self):
        return [*self.load.records, *self.probes]

    def logs(self):
        """What all programs have written, by file."""
        return {log: log.read_text(errors="replace") for log in self.folder.glob("*.log")}

    def casts(self):
        """Records of the casts."""
        found = []
        for line in self.caster.lines():
            record = Record(line["marker"], "cast", line["began"], line["ended"], error=line["error"])
            record.status = 0 if line["error"] else 200
            found.append(record)
        return found

    def deliveries(self):
        """What the engines have got, in order; None if they keep no record."""
        found = [line for engine in self.engines for line in engine.lines() if "unique" in line]
        return sorted(found, key=lambda line: line["at"])


def _children(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _is_worker(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == "heatperf-worker"
    return False


def links(pid, ports):
    """Local ports of the TCP connections that a process has to one of these ports of this machine."""
    locals_ = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[2].partition(":")[2], 16) in ports and words[3] == "01":
            locals_[words[9]] = int(words[1].partition(":")[2], 16)
    held = set()
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            held.add(os.readlink(f"/proc/{pid}/fd/{entry}")[len("socket:[") : -1])
    return [local for inode, local in locals_.items() if inode in held]

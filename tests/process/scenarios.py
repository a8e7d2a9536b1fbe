"""What a server must stand, against the real program under load: one line per scenario, and an exit code.

    scenarios.py [--quick] [NAME...]

Comes in: names of scenarios, all by default. Goes out: their lines, and 1 if any failed; what a failed one leaves
behind (logs, configuration) stays in a folder that its line names. Each scenario is a function of a folder and a count
that returns what it has seen, and raises Unmet for what must not be. Servers run in sessions of their own.
"""

import argparse
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections import Counter
from itertools import cycle, pairwise
from pathlib import Path

from _breakages import BREAKAGES, TLS_BREAKAGES
from _installation import PATIENCE, Installation, alive, until, unverified
from _traffic import LEAVING_CROWD, Outcome, Rush, Traffic, exchange

# A worker that lived shorter is replaced with a growing delay (server/backoff.py: STABLE).
STABLE = 10.0
# Kills in a row in one slot, before its worker is left alone until it is stable: replaced after 0, 0, 1 and 2 seconds.
BURST = 4
# A connection that was with a worker ends at most this long after the worker's kill.
SHORT = 0.2
# After the answer of ``heatperf reload``, for how long a new connection may still get to the old generation: its
# workers empty the queue of the listener (server/worker.py: ACCEPT_GRACE).
HANDOVER = 0.5
# Connections made in the moment before TERM, half of them still without a request.
RUSH = 100
# Answers, before and after what is done to a server under load.
ENOUGH = 80
# Failed requests that are shown.
SHOWN = 8


class Unmet(Exception):
    """A scenario has failed.

    :param examples: of what should not have happened
    """

    def __init__(self, reason, examples=()):
        shown = [str(example) for example in list(examples)[:SHOWN]]
        super().__init__("\n        ".join([reason, *shown]))


def require(condition, reason, examples=()):
    if not condition:
        raise Unmet(reason, examples)


def failures(records):
    """Requests that were not answered, though somebody listened."""
    return [record for record in records if record.outcome not in (Outcome.ANSWERED, Outcome.REFUSED)]


def require_none_failed(traffic, refused=False):
    """
    :param refused: refused connections are no failure
    """
    records = traffic.records
    wrong = [record for record in records if record.outcome is not Outcome.ANSWERED]
    if refused:
        wrong = failures(records)
    require(not wrong, f"{len(wrong)} of {len(records)} requests failed", wrong)


def number(count, what):
    return f"{count:,} {what}" + ("s" if count != 1 else "")


# Kills


def attribute(records, kills):
    """Tell whose fault each failed request is.

    :param kills: pid -> when
    :returns: failed with a worker known to have been killed; failed as the first on a connection, cut in the moment
        of a kill; the others
    """
    known, first, others = [], [], []
    for record in failures(records):
        cut = record.outcome is Outcome.CUT
        if cut and record.pid and kills.get(record.pid, record.ended) < record.ended:
            known.append(record)
        elif cut and not record.pid and soonest(record, kills) <= SHORT:
            first.append(record)
        else:
            others.append(record)
    return known, first, others


def soonest(record, kills):
    """:returns: seconds from the latest kill before the end of a request to that end"""
    return min((record.ended - moment for moment in kills.values() if moment <= record.ended), default=float("inf"))


class Killer:
    """Kills one worker after the other, but none that its slot would miss for long."""

    def __init__(self, server):
        self.server = server
        self.kills = {}
        self._bursts = Counter()

    def kill_one(self):
        """Kill the worker whose turn it is; whether there was one."""
        for slot, worker in self.server.workers(self.server.status()).items():
            if worker["pid"] in self.kills or worker["age"] < 0.5:
                continue
            if worker["age"] > STABLE + 0.2:
                self._bursts[slot] = 0
            if self._bursts[slot] < BURST:
                self._bursts[slot] += 1
                self.kill(worker["pid"])
                return True
        return False

    def kill(self, pid):
        self.kills[pid] = time.monotonic()
        self.server.kill(pid)


def kills(folder, count=100):
    """Workers are killed under load: nothing is lost but what was inside them."""
    installation = Installation(folder, workers=3)
    installation.write()
    with installation.start() as server:
        server.wait_until_serving(3)
        with Traffic(installation.port) as traffic:
            traffic.wait_for_more(ENOUGH)
            killer = Killer(server)
            while len(killer.kills) < count:
                if not killer.kill_one():
                    time.sleep(0.1)
            server.wait_until_serving(3, without=killer.kills)
            traffic.wait_for_more(ENOUGH)
        require(server.process.poll() is None, "the supervisor has ended")
        said = server.command("status")
        require(said.code == 0, f"status says {said.code} in the end: {said.text}")
        restarts = sum(worker["restarts"] for worker in server.status()["workers"])
        require(restarts == count, f"{restarts} restarts after {count} kills")
    records = traffic.records
    known, first, others = attribute(records, killer.kills)
    others += [record for record in records if record.outcome is Outcome.REFUSED]
    require(not others, f"{len(others)} of {len(records)} requests failed outside of killed workers", others)
    after = max((soonest(record, killer.kills) for record in first), default=0.0)
    return (
        f"{count} workers killed, {number(len(records), 'request')}: {len(known)} failed on connections of a killed"
        f" worker, {len(first)} new connections were cut at most {after:.2f} s after a kill; 0 others failed, 0 hung"
    )


# Reloads


def ask(port, context=None):
    """A request on a connection of its own.

    :returns: X-Generation, and the server's certificate if it has one
    """
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
        sock = plain if context is None else context.wrap_socket(plain)
        with sock:
            certificate = None if context is None else sock.getpeercert(binary_form=True)
            return exchange(sock, "/", close=True).value, certificate


def see(port, wanted, context=None):
    """Wait until new connections get to the new configuration.

    :param wanted: what ask() returns then
    :returns: seconds that it took
    """
    began = time.monotonic()
    while (seen := ask(port, context)) != wanted:
        require(time.monotonic() - began < HANDOVER, f"{seen[0]} still serves, not {wanted[0]}")
    return time.monotonic() - began


def refused_reload(server, breakage):
    """Reload broken files."""
    said = server.command("reload")
    missing = [part for part in breakage.says if part not in said.text]
    require(said.code == 1, f"reload with {breakage.name}: exit code {said.code}: {said.text}")
    require(not missing, f"reload with {breakage.name} does not say {', '.join(missing)}: {said.text}")
    return said.text


def reloads(folder, count=50):
    """Reloads under load, every fifth of files that are broken, each in another way."""
    installation = Installation(folder, workers=2)
    installation.write()
    breakages = cycle(BREAKAGES)
    kinds, done, longest = set(), [], 0.0
    with installation.start() as server:
        server.wait_until_serving(2)
        with Traffic(installation.port) as traffic:
            traffic.wait_for_more(ENOUGH)
            for turn in range(1, count + 1):
                if turn % min(5, count) == 0:
                    breakage = next(breakages)
                    breakage.inflict(installation)
                    refused_reload(server, breakage)
                    kinds.add(breakage.name)
                    seen = {ask(installation.port)[0] for _ in range(5)}
                    require(seen == {installation.value}, f"after {breakage.name}, {seen} serve")
                    continue
                installation.value = turn
                installation.options["heat_api"]["workers"] = 2 + turn % 2
                installation.write()
                said = server.command("reload")
                require(said.code == 0, f"reload {turn}: exit code {said.code}: {said.text}")
                done.append((time.monotonic(), turn))
                longest = max(longest, see(installation.port, (turn, None)))
            traffic.wait_for_more(ENOUGH)
        server.wait_until_serving(installation.workers)
        status = server.status()
        counted = status["reloads"]["done"], status["reloads"]["refused"]
        require(counted == (len(done), count - len(done)), f"status counts {counted}")
        require(server.command("status").code == 0, "status says that not all is well")
    require_none_failed(traffic)
    late = [
        record
        for record in traffic.records
        for moment, value in done
        if record.first and record.connected > moment + HANDOVER and record.value < value
    ]
    require(not late, f"{len(late)} new connections got an old configuration", late)
    return (
        f"{len(done)} done, {count - len(done)} refused ({len(kinds)} kinds of broken),"
        f" {number(len(traffic.records), 'request')}, 0 failed; the new configuration answered within {longest:.2f} s"
    )


def reloads_tls(folder, count=10):
    """The same with TLS and a new certificate each time."""
    installation = Installation(folder, workers=2)
    context = unverified()
    breakages = cycle(TLS_BREAKAGES)

    def renew(turn):
        cert, key = installation.certificate(f"turn-{turn}")
        installation.value = turn
        installation.options["heat_api"].update(cert_file=cert, key_file=key)
        installation.write()
        return turn, ssl.PEM_cert_to_DER_cert(cert.read_text())

    wanted = renew(0)
    with installation.start() as server:
        server.wait_until_serving(2)
        with Traffic(installation.port, tls=context) as traffic:
            traffic.wait_for_more(ENOUGH)
            refused = 0
            for turn in range(1, count + 1):
                if turn % 5 in (2, 4):
                    breakage = next(breakages)
                    breakage.inflict(installation)
                    refused_reload(server, breakage)
                    refused += 1
                    require(ask(installation.port, context) == wanted, f"after {breakage.name}, another serves")
                    continue
                wanted = renew(turn)
                said = server.command("reload")
                require(said.code == 0, f"reload {turn}: exit code {said.code}: {said.text}")
                see(installation.port, wanted, context)
            traffic.wait_for_more(ENOUGH)
    require_none_failed(traffic)
    return f"{count - refused} new certificates, {refused} refused, {number(len(traffic.records), 'request')}, 0 failed"


# The end


def term(folder, count=10):
    """Servers are told to end under load."""
    totals = Counter()
    longest = 0.0
    for turn in range(count):
        installation = Installation(Path(folder) / str(turn), workers=2 + turn % 2)
        installation.write()
        with installation.start() as server:
            server.wait_until_serving(installation.workers)
            with Traffic(installation.port, LEAVING_CROWD) as traffic:
                traffic.wait_for_more(ENOUGH)
                pids = server.processes()
                rush = Rush(installation.port, RUSH)
                told = time.monotonic()
                server.process.send_signal(signal.SIGTERM)
                wrong = rush.settle()
                require(not wrong, f"{len(wrong)} of {RUSH} connections that were made just before TERM failed", wrong)
                code = server.process.wait(PATIENCE)
                longest = max(longest, time.monotonic() - told)
            require(code == 0, f"exit code {code}")
            left = [pid for pid in pids if alive(pid)]
            require(not left, f"processes are left: {left}")
        require_none_failed(traffic, refused=True)
        records = traffic.records
        early = [record for record in records if record.outcome is Outcome.REFUSED and record.ended < told]
        require(not early, f"{len(early)} connections were refused before TERM", early)
        totals["requests"] += len(records) + RUSH
        totals["pending"] += sum(0 < record.connected < told < record.ended for record in records) + RUSH
        totals["sent"] += sum(0 < record.sent < told < record.ended for record in records) + RUSH // 2
        totals["later"] += sum(record.outcome is Outcome.ANSWERED and record.began >= told for record in records)
        totals["refused"] += sum(record.outcome is Outcome.REFUSED for record in records)
    return (
        f"{count} times, {number(totals['requests'], 'request')}, 0 failed: {totals['pending']} were under way at that"
        f" moment ({totals['sent']} of them sent), {totals['later']} came later and were answered;"
        f" {totals['refused']} refused after it; slowest end {longest:.1f} s"
    )


# Crash loop


class Tormentor(threading.Thread):
    """Kills the worker of slot 1 whenever there is one."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.killer = Killer(server)
        self.stopped = threading.Event()

    def run(self):
        while not self.stopped.wait(0.01):
            for worker in self.killer.server.status()["workers"]:
                if worker["slot"] == 1 and worker["pid"] and worker["pid"] not in self.killer.kills:
                    self.killer.kill(worker["pid"])


def crash_loop(folder, count=6):
    """One slot dies as soon as it appears; the others serve, and it is left alone for longer and longer."""
    installation = Installation(folder, workers=3)
    installation.write()
    with installation.start() as server:
        server.wait_until_serving(3)
        with Traffic(installation.port) as traffic:
            traffic.wait_for_more(ENOUGH)
            tormentor = Tormentor(server)
            tormentor.start()
            killed = tormentor.killer.kills
            until(lambda: len(killed) >= count, f"{count} deaths", 2 * PATIENCE)
            until(lambda: 1 not in server.workers(server.status()), "slot 1 is down")
            said = server.command("status")
            state = server.status()["state"]
            require((said.code, state) == (1, "degraded"), f"status says {said.code}, {state}: {said.text}")
            require(
                "slot 1: was killed by SIGKILL; next start in" in said.text, f"status does not say why: {said.text}"
            )
            traffic.wait_for_more(ENOUGH)
            tormentor.stopped.set()
            tormentor.join()
            server.wait_until_serving(3, without=killed)
            require(server.command("status").code == 0, "status says that not all is well in the end")
        healthy = {worker["pid"] for worker in server.status()["workers"] if worker["slot"] != 1}
    records = traffic.records
    known, first, others = attribute(records, killed)
    others += [record for record in records if record.outcome is Outcome.REFUSED]
    require(not others, f"{len(others)} of {len(records)} requests failed outside of the dying slot", others)
    delays = [later - earlier for earlier, later in pairwise(sorted(killed.values()))][: count - 1]
    require(all(later > earlier for earlier, later in pairwise(delays)), f"the delays do not grow: {delays}")
    served = sum(record.pid in healthy for record in records if record.outcome is Outcome.ANSWERED)
    return (
        f"{len(killed)} deaths of slot 1, {', '.join(f'{delay:.1f}' for delay in delays)} s apart;"
        f" {served:,} requests answered by the others, {len(known) + len(first)} failed inside the dying,"
        " 0 elsewhere; degraded, exit code 1; well again after it"
    )


# Restarts


def restarts(folder, count=5):
    """A server takes the port over from one that is told to end."""
    installation = Installation(folder, workers=2)
    installation.write()
    server = installation.start()
    waits = []
    try:
        server.wait_until_serving(2)
        with Traffic(installation.port, retry=True) as traffic:
            for turn in range(1, count + 1):
                traffic.wait_for_more(ENOUGH)
                installation.value = turn
                installation.write()
                successor = installation.start()
                predecessor, server = server, successor
                with predecessor:
                    if turn % 2:  # told before, or while the successor waits for the port
                        until(lambda log=successor.text: "taken by another process" in log(), "the port is taken")
                    predecessor.process.send_signal(signal.SIGTERM)
                    told = time.monotonic()
                    code = predecessor.process.wait(PATIENCE)
                    require(code == 0, f"exit code {code}")
                server.wait_until_serving(2)
                waits.append(time.monotonic() - told)
                require(ask(installation.port)[0] == turn, "the successor does not serve")
            traffic.wait_for_more(ENOUGH)
    finally:
        with server:
            pass
    require_none_failed(traffic)
    retries = sum(record.retries > 0 for record in traffic.records)
    return (
        f"{count} successors on the same port, {number(len(traffic.records), 'request')}, 0 failed;"
        f" {retries} tried again after a refused connection; longest change {max(waits):.1f} s"
    )


def activation(folder, count=5):
    """A server that gets its socket from somebody else, as from systemd, is stopped and started."""
    installation = Installation(folder, workers=2)
    with socket.create_server(("127.0.0.1", installation.port), backlog=1024) as listener:
        installation.write()
        with Traffic(installation.port) as traffic:
            for turn in range(count):
                installation.value = turn
                installation.write()
                with installation.start(listener) as server:
                    server.wait_until_serving(2)
                    traffic.wait_for_more(ENOUGH)
                    require(ask(installation.port)[0] == turn, "another one serves")
                    if turn + 1 == count:
                        traffic.stop()
                    said = server.command("stop")
                    require((said.code, said.text) == (0, "stopped\n"), f"stop says {said.code}: {said.text}")
                    code = server.process.wait(PATIENCE)
                    require(code == 0, f"exit code {code}")
    require_none_failed(traffic)
    return f"{count} servers on one socket, {number(len(traffic.records), 'request')}, 0 failed, 0 refused"


#: Name -> what it does, and the count of a quick run.
SCENARIOS = {
    "kills": (kills, 3),
    "reloads": (reloads, 3),
    "reloads-tls": (reloads_tls, 2),
    "term": (term, 1),
    "crash-loop": (crash_loop, 3),
    "restart": (restarts, 1),
    "activation": (activation, 2),
}


def run(name, quick):
    """Run one scenario and print its line; whether it went well."""
    scenario, few = SCENARIOS[name]
    folder = tempfile.mkdtemp(prefix=f"heatperf-{name}-")
    began = time.monotonic()
    try:
        text, well = scenario(folder, few) if quick else scenario(folder), True
    except Exception as exc:  # also of a step on the way: without it nothing has been shown
        text, well = f"{exc if isinstance(exc, (Unmet, AssertionError)) else repr(exc)}\n        see {folder}", False
    if well:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'ok' if well else 'FAILED':<7} {name:<12} {text} ({time.monotonic() - began:.0f} s)", flush=True)
    return well


def main():
    """:returns: exit code"""
    parser = argparse.ArgumentParser(description="Run the real server through what it must stand.")
    parser.add_argument("names", nargs="*", choices=[*SCENARIOS, []], metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--quick", action="store_true", help="only a few turns of each")
    options = parser.parse_args()
    results = [run(name, options.quick) for name in options.names or SCENARIOS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

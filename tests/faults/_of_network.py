"""What happens between servers and broker, and to servers that have no time: cuts, an expired queue, a busy loop."""

import contextlib
import os
import signal
import time

from _firewall import Firewall, obstacle
from _proxy import FROM_BROKER, PUBLISHER, REPLIES, TO_BROKER
from _stage import NEWS, QUORUM, QUORUM_QUEUE, WORKERS, Stage, links, until
from _verdict import RESPONSE, require

#: [oslo_messaging_rabbit] heartbeat_timeout_threshold of these stages, seconds: dead peers are found after twice that.
HEARTBEAT = 2
#: Seconds of cuts: nobody notices; the connection is given up, and requests of before still wait when there is a new
#: one, over which they must not go again; no request of before waits any more.
LENGTHS = (1.0, 2.5 * HEARTBEAT, RESPONSE + 2.0)


def _cut(folder, node, turns, kinds, directions=(TO_BROKER, FROM_BROKER)):
    rabbit = {**QUORUM, "heartbeat_timeout_threshold": HEARTBEAT}
    with Stage(folder, [node], rabbit, QUORUM_QUEUE, networked=True) as stage:
        for turn in range(turns):
            stage.warm_up()
            stage.strike()
            stage.proxy.cut(kinds, directions)
            stage.last(LENGTHS[turn % len(LENGTHS)])
            stage.proxy.heal()
            healed = time.monotonic()
            time.sleep(NEWS)
            stage.well(healed)
        stage.warm_up()
        return f"for {_lengths(turns)} s; {stage.finish()}"


def _lengths(turns):
    return ", ".join(f"{LENGTHS[turn % len(LENGTHS)]:g}" for turn in range(turns))


def cut(folder, node, turns=3):
    """Nothing comes through."""
    return _cut(folder, node, turns, (PUBLISHER, REPLIES))


def cut_publisher(folder, node, turns=3):
    """Nothing comes through on the connections that publish."""
    return _cut(folder, node, turns, (PUBLISHER,))


def cut_replies(folder, node, turns=3):
    """Nothing comes through on the connections that bring replies."""
    return _cut(folder, node, turns, (REPLIES,))


def cut_to_broker(folder, node, turns=3):
    """Nothing gets to the broker, while it is heard."""
    return _cut(folder, node, turns, (PUBLISHER, REPLIES), (TO_BROKER,))


def cut_from_broker(folder, node, turns=3):
    """Nothing gets back from the broker."""
    return _cut(folder, node, turns, (PUBLISHER, REPLIES), (FROM_BROKER,))


def packets_dropped(folder, node, turns=3):
    """No packet passes between servers and broker, and nobody is told: neither end, nor who connects meanwhile."""
    if why := obstacle():
        return f"bytes held by a proxy, as {why}; {cut(folder, node, turns)}"
    rabbit = {**QUORUM, "heartbeat_timeout_threshold": HEARTBEAT}
    with Stage(folder, [node], rabbit, QUORUM_QUEUE) as stage, Firewall(node.port) as firewall:
        for turn in range(turns):
            stage.warm_up()
            stage.strike()
            firewall.cut(exempt=links(stage.engine.pid, {node.port}))
            stage.last(LENGTHS[turn % len(LENGTHS)])
            firewall.heal()
            healed = time.monotonic()
            time.sleep(NEWS)
            stage.well(healed)
        stage.warm_up()
        return f"packets dropped by nftables for {_lengths(turns)} s; {stage.finish()}"


def reply_queue_expired(folder, node, turns=1):
    """Workers cannot reach their reply queues for longer than these live without a consumer."""
    rabbit = {"heartbeat_timeout_threshold": HEARTBEAT, "rabbit_transient_queues_ttl": 2}
    others = set(node.queues())
    with Stage(folder, [node], rabbit, networked=True, latency=0.1) as stage:
        for _ in range(turns):
            stage.warm_up()
            stage.strike()
            stage.proxy.cut((REPLIES,))
            stage.last(LENGTHS[-1])
            until(lambda: set(node.queues()) - others <= {"engine"}, "the queues expire", 60, 0.5)
            stage.proxy.heal()
            healed = time.monotonic()
            time.sleep(NEWS)
            stage.well(healed)
        stage.warm_up()
        return stage.finish()


def busy(folder, node, turns=6):
    """Workers that do nothing for nearly as long as a heartbeat lasts keep their connections; others find new ones."""
    with Stage(folder, [node], {"heartbeat_timeout_threshold": HEARTBEAT}) as stage:
        stage.warm_up()
        connected = stage.connected()
        for _ in range(turns):
            with _standstill(stage.workers()):
                time.sleep(0.75 * HEARTBEAT)
            stage.warm_up(40)
        require(stage.connected() == connected, "a connection was lost")
        stage.strike()
        long = 2.5 * HEARTBEAT
        with _standstill(stage.workers()):
            stage.last(long)
        ran = time.monotonic()
        time.sleep(NEWS)
        stage.well(ran)
        stage.slack = long
        stage.warm_up()
        return f"{turns} times {0.75 * HEARTBEAT:g} s, once {long:g} s; {stage.finish()}"


@contextlib.contextmanager
def _standstill(pids):
    require(len(pids) == WORKERS, f"{WORKERS} workers were expected: {pids}")
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

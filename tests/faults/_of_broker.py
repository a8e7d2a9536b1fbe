"""What happens to brokers: killed, stopped, short of memory, a queue deleted, a node of two lost."""

import contextlib
import random
import time

from _proxy import FROM_BROKER, REPLIES
from _stage import DURABLE, DURABLE_QUEUE, NEWS, QUORUM, QUORUM_QUEUE, WORKERS, Stage, until
from _verdict import CONNECT, RESPONSE, SLACK, none, require
from stack import RabbitMQ


def _rounds(stage, turns, down, least=0.0):
    """Take the broker down and let it come back, again and again."""
    for _ in range(turns):
        stage.warm_up()
        stage.strike()
        down()
        stage.last(random.uniform(least, least + 1.0))
        stage.broker.boot()
        stage.well_with_broker(time.monotonic())
    stage.warm_up()
    return stage.finish()


def killed(folder, node, turns=10):
    """SIGKILL to a broker of quorum queues, under load."""
    with Stage(folder, [node], QUORUM, QUORUM_QUEUE, clients=32) as stage:
        return f"{turns} times; {_rounds(stage, turns, node.kill)}"


def killed_classic(folder, node, turns=2):
    """SIGKILL to a broker of durable classic queues, whose reply queues die with it."""
    with Stage(folder, [node], DURABLE, DURABLE_QUEUE) as stage:
        return f"{turns} times; {_rounds(stage, turns, node.kill)}"


def stopped(folder, node, turns=2):
    """A broker is stopped, stays away for longer than requests wait for it, and comes back."""
    with Stage(folder, [node], DURABLE, DURABLE_QUEUE) as stage:
        return f"{turns} times; {_rounds(stage, turns, node.halt, CONNECT)}"


def queue_deleted(folder, node, turns=3):
    """The queue ``engine`` is deleted, with the messages in it; the engine makes it again a second later."""
    with Stage(folder, [node], keeps=False) as stage:
        stage.engine.tell(pause=1.0)
        for _ in range(turns):
            stage.warm_up()
            stage.strike()
            node.delete_queue("engine")
            stage.well_with_broker(time.monotonic())
        stage.warm_up()
        return f"{turns} times; {stage.finish()}"


def consumer_cancelled(folder, node, turns=3):
    """The reply queues are deleted under the workers, while calls are under way."""
    with Stage(folder, [node], latency=0.2) as stage:
        for _ in range(turns):
            stage.warm_up()
            began = stage.strike()
            for queue in node.queues():
                if queue.startswith("reply_"):
                    node.delete_queue(queue)
            time.sleep(NEWS)
            stage.well()
            stage.warm_up()
            none(
                (r for r in stage.load.records if r.status == 500 and r.began >= began - 1 and r.seconds > 1.5),
                "waited for a reply that had been lost",
            )
        return f"{turns} times; {stage.finish()}"


def alarm(folder, node, turns=1):
    """A broker without memory takes no messages. Replies that it has must come through all the same."""
    stage = Stage(
        folder, [node], {"heartbeat_timeout_threshold": 2}, networked=True, clients=0, casts=False, latency=0.3
    )
    with stage:
        require(stage.probe().answered, "no answer before the alarm")
        links = stage.connected()
        for _ in range(turns):
            stage.proxy.cut((REPLIES,), (FROM_BROKER,))
            before = len(stage.deliveries())
            first = stage.begin(8)
            until(lambda known=before: len(stage.deliveries()) >= known + 8, "the engine gets the requests")
            time.sleep(0.8)  # it has replied, and the replies are on their way
            stage.strike()
            node.alarm(True)
            try:
                second = stage.begin(2 * WORKERS)  # the broker tells whoever sends something that it takes nothing
                time.sleep(0.3)
                third = stage.begin(4 * WORKERS)
                stage.proxy.heal()
                healed = time.monotonic()
                none((r for r in first() if not r.answered or r.ended > healed + 1), "replies did not flow on")
                time.sleep(2 * 2 + 1)  # a connection that is held up must not pass for a dead one
            finally:
                node.alarm(False)
            stage.well()
            second()
            held = [r for r in third() if r.status == 503]
            require(held, "all of the requests under an alarm have left")
            none((r for r in held if r.seconds > CONNECT + SLACK), "waited longer than rpc_connect_deadline")
        require(stage.connected() == links, "a connection was lost")
        return stage.finish(RESPONSE / 2)


def failover(folder, node, turns=2):
    """One of two nodes is killed, and comes back before it is the other's turn. Both are in transport_url.

    Where nodes decide by majority there is a third, which is in no transport_url, and queues are quorum queues: such a
    broker may refuse for a minute to make a transient queue of a dead node anew. Of two nodes these would stop with
    either.
    """
    with contextlib.ExitStack() as running:
        second = running.enter_context(RabbitMQ(folder / "second", partner=node))
        running.callback(second.leave)
        queues = {"keeps": False}  # classic queues live on one node
        if node.by_majority():
            running.callback(running.enter_context(RabbitMQ(folder / "third", partner=node)).leave)
            queues = {"rabbit": QUORUM, "queue": QUORUM_QUEUE}
        nodes = [node, second]
        try:
            with Stage(folder, nodes, **queues) as stage:
                for turn in range(turns):
                    _fail_over(stage, lost=nodes[turn % 2], left=nodes[1 - turn % 2])
                return f"{turns} times; {stage.finish()}"
        finally:
            for one in nodes:
                one.ensure()


def _fail_over(stage, lost, left):
    stage.warm_up()
    killed = stage.strike()
    stage.broker = left
    lost.kill()
    time.sleep(NEWS)
    until(lambda: left.consumers("engine"), "the engine consumes from the other node")
    stage.well(killed)
    stage.warm_up()
    lost.boot()
    stage.warm_up()

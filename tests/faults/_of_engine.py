"""What engines do to their clients: nonsense, death in the middle of a call, absence."""

import time

from _stage import DURABLE, DURABLE_QUEUE, Stage, until
from _verdict import CONNECT, GRACE, RESPONSE, SLACK, none, require

#: Seconds for which a look that has found an engine is believed (rpc/rabbit/presence.py), and a little.
LOOKED = 1.2


def odd_replies(folder, node, turns=300):
    """Replies twice, too late, to nobody, or none at all by any measure. Only those may fail that have their reply too
    late, or one that cannot be read: they need not wait for another."""
    with Stage(folder, [node], latency=0.0, pause=0.01) as stage:
        stage.warm_up()
        links = stage.connected()
        stage.strike()
        stage.engine.tell(misbehave=True)
        stage.load.wait_for_more(turns, 120)
        stage.engine.tell(misbehave=False)
        time.sleep(0.1)
        stage.well()
        line = stage.finish(RESPONSE + 1)
        odd = [line for line in stage.engine.lines() if line.get("event") == "odd"]
        late, unread = ({line["marker"] for line in odd if line["kind"] == kind} for kind in ("late", "bad failure"))
        failed = [record for record in stage.records if not record.answered]
        none((r for r in failed if r.marker not in late | unread), "failed with a right reply in time")
        waited = (r for r in failed if r.marker in unread and (r.error != "EngineLost" or r.seconds > RESPONSE / 2))
        none(waited, "waited for more than a reply that cannot be read")
        require(stage.connected() == links, "a reply has cost a connection")
        return f"{len(odd)} of {len({line['kind'] for line in odd})} kinds; {line}"


def killed_mid_call(folder, node, turns=2):
    """The engine takes calls, acknowledges them and dies; another one comes within the grace."""
    with Stage(folder, [node], DURABLE, DURABLE_QUEUE) as stage:
        for _ in range(turns):
            stage.warm_up()
            before = len(stage.deliveries())
            stage.strike()
            stage.engine.tell(hold=True)
            until(lambda known=before: len(stage.deliveries()) >= known + 10, "the engine has calls")
            stage.engine.kill()
            # These find no engine, and wait in the queue for one.
            waiting = stage.begin(6)
            time.sleep(GRACE / 3)
            started = time.monotonic()
            stage.start_engine()
            stage.well(started)
            none((r for r in waiting() if not r.answered), "did not wait for the next engine")
        stage.warm_up()
        return f"{turns} times; {stage.finish()}"


def _told_at_once(stage):
    without = [stage.probe() for _ in range(4)]
    none((r for r in without if r.status != 503 or r.seconds > SLACK), "not told at once that there is no engine")


def absent(folder, node, turns=1):
    """No engine from the start; one comes, goes for longer than the grace, and comes back."""
    with Stage(folder, [node], DURABLE, DURABLE_QUEUE, engine=False) as stage:
        time.sleep(GRACE + LOOKED)
        none((r for r in stage.load.records if r.status != 503 or r.seconds > CONNECT + SLACK), "not told in time")
        _told_at_once(stage)
        for _ in range(turns):
            started = time.monotonic()
            stage.start_engine()
            stage.well(started)
            stage.warm_up()
            gone = stage.strike()
            stage.engine.end()
            time.sleep(GRACE + LOOKED)
            _told_at_once(stage)
            early = [r for r in stage.records if r.status == 503 and gone < r.began < gone + GRACE - 0.1]
            none(early, "503 within the grace")
            stage.last(1.0)
            require(node.messages("engine"), "nothing was left in the queue")
        started = time.monotonic()
        stage.start_engine()
        stage.well(started)
        stage.warm_up()
        return stage.finish()

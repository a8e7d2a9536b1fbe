"""Everything that can go wrong between the API and its engines, against a real RabbitMQ under load: one line per
fault, and an exit code.

    faults.py [--quick] [--loop NAME] [NAME...]

Comes in: names of faults, all by default. Goes out: their lines, and 1 if any rule was broken (_verdict.py says which
there are); what a failed one leaves behind (logs, records) stays in a folder that its line names. A fault is a function
of a folder, a broker and a count, in one of _of_*.py; it returns what it has seen, and raises Unmet.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from _of_broker import (  # noqa: E402
    alarm,
    consumer_cancelled,
    failover,
    killed,
    killed_classic,
    queue_deleted,
    stopped,
)
from _of_engine import absent, killed_mid_call, odd_replies  # noqa: E402
from _of_network import (  # noqa: E402
    busy,
    cut,
    cut_from_broker,
    cut_publisher,
    cut_replies,
    cut_to_broker,
    packets_dropped,
    reply_queue_expired,
)
from _of_stock_engine import killed_stock  # noqa: E402
from _stage import Stage  # noqa: E402
from _verdict import Unmet  # noqa: E402
from stack import RabbitMQ, StackError  # noqa: E402

#: Name -> what it does, and the count of a quick run.
FAULTS = {
    "broker-killed": (killed, 2),
    "broker-killed-classic": (killed_classic, 1),
    "broker-stopped": (stopped, 1),
    "node-failover": (failover, 1),
    "memory-alarm": (alarm, 1),
    "engine-queue-deleted": (queue_deleted, 1),
    "reply-queue-deleted": (consumer_cancelled, 1),
    "reply-queue-expired": (reply_queue_expired, 1),
    "cut": (cut, 1),
    "cut-publisher": (cut_publisher, 1),
    "cut-replies": (cut_replies, 1),
    "cut-to-broker": (cut_to_broker, 1),
    "cut-from-broker": (cut_from_broker, 1),
    "packets-dropped": (packets_dropped, 2),
    "busy-loop": (busy, 2),
    "odd-replies": (odd_replies, 60),
    "engine-killed": (killed_mid_call, 1),
    "engine-absent": (absent, 1),
    "stock-engine-killed": (killed_stock, 1),
}


def run(name, node, quick):
    """Run one and print its line; whether it went well."""
    fault, few = FAULTS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"heatperf-{name}-"))
    began = time.monotonic()
    try:
        text, well = fault(folder, node, few) if quick else fault(folder, node), True
    except Exception as error:  # also of a step on the way: without it nothing has been shown
        known = isinstance(error, (Unmet, AssertionError, StackError))
        text, well = f"{error if known else repr(error)}\n        see {folder}", False
    node.ensure()  # a fault that failed may have left it as it was then
    if well:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'ok' if well else 'FAILED':<7} {name:<21} {text} ({time.monotonic() - began:.0f} s)", flush=True)
    return well


def main():
    """:returns: exit code"""
    parser = argparse.ArgumentParser(prog="make faults", description="Break what is between the API and its engines.")
    parser.add_argument("names", nargs="*", choices=[*FAULTS, []], metavar="NAME", help=", ".join(FAULTS))
    parser.add_argument("--quick", action="store_true", help="only a few turns of each")
    parser.add_argument("--loop", default="gevent", help="of the servers (default: %(default)s)")
    options = parser.parse_args()
    Stage.heatperf = {"loop": options.loop}
    began = time.monotonic()
    results = []
    folder = Path(tempfile.mkdtemp(prefix="heatperf-broker-"))
    try:
        with RabbitMQ(folder) as node:
            print(node.version(), flush=True)
            results = [run(name, node, options.quick) for name in options.names or FAULTS]
    except StackError as error:
        print(f"FAILED  {error}\n        see {folder}")
        return 1
    if all(results):
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{sum(results)} of {len(results)} faults as they should be ({time.monotonic() - began:.0f} s)")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

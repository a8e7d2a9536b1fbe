"""``make conformance``: starts a private broker (and Keystone for variant realks), replays, prints the score per group.

Ends with 0 when every case agrees or its difference is accepted, 1 when some do not, 2 when a part did not start.
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import rig  # noqa: E402  (found beside this file)
from stack import Keystone, RabbitMQ, StackError, free_port  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="make conformance", description="Replay upstream's recorded answers.")
    parser.add_argument("--peer", choices=["heatperf", "upstream"], default="heatperf", help="the server that answers")
    parser.add_argument("--variants", help="comma separated; default: all")
    parser.add_argument("--show", type=int, default=5, help="differences to print per variant")
    parser.add_argument("--keep", type=Path, help="folder for logs and results (default: a temporary one, kept)")
    parser.add_argument("--raise-floors", action="store_true", help="replay what floors.yaml covers and raise it")
    options = parser.parse_args()
    known = rig.all_variants()
    variants = options.variants.split(",") if options.variants else known
    if options.raise_floors:
        variants = rig.load_floors()["variants"]
    unknown = [variant for variant in variants if variant not in known]
    if unknown:
        parser.error(f"no such variant: {', '.join(unknown)}; there are {', '.join(known)}")
    folder = (options.keep or Path(tempfile.mkdtemp(prefix="heatperf-conformance-"))).resolve()
    try:
        with ExitStack() as running:
            broker = running.enter_context(RabbitMQ(folder / "rabbitmq"))
            keystone = None
            if rig.needs_keystone(variants):
                keystone = running.enter_context(Keystone(folder / "keystone", free_port()))
            scores = rig.replay(folder, variants, broker, keystone, options.peer, options.show)
    except StackError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 2
    print(f"Details per variant: {folder}/VARIANT/result.json")
    if options.raise_floors and options.peer == "heatperf":
        for group, (old, new) in rig.raise_floors(scores).items():
            print(f"floor of {group}: {old} -> {new}")
    return 0 if all(score.passed == score.total for score in scores.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

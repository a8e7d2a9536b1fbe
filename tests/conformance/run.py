"""``make conformance``: starts a private broker (and Keystone for variant realks), replays, prints the score per group.

By default every case of every variant, on heatperf as it is without options. MATRIX=all does so for every combination
of loop, transport and stations (matrix.py); MATRIX=loop=NAME for one.

Ends with 0 when every case agrees or its difference is accepted, 1 when some do not, 2 when a part did not start.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import matrix  # noqa: E402  (found beside this file)
import rig  # noqa: E402
from contract import selected  # noqa: E402
from stack import Keystone, RabbitMQ, StackError, free_port  # noqa: E402


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make conformance", description="Replay upstream's recorded answers.")
    parser.add_argument("--peer", choices=["heatperf", "upstream"], default="heatperf", help="the server that answers")
    parser.add_argument(
        "--matrix",
        type=_combinations,
        default=[matrix.DEFAULT],
        help="default, all, or choices like loop=gevent,transport=oslo ('*' for each there is)",
    )
    parser.add_argument("--variants", help="comma separated; default: all")
    parser.add_argument("--show", type=int, default=5, help="differences to print per variant")
    parser.add_argument("--keep", type=Path, help="folder for logs and results (default: a temporary one, kept)")
    parser.add_argument("--tenth", action="store_true", help="a fixed tenth of the cases, as make test replays it")
    parser.add_argument("--raise-floors", action="store_true", help="replay what floors.yaml covers and raise it")
    options = parser.parse_args()
    known = rig.all_variants()
    options.variants = options.variants.split(",") if options.variants else known
    unknown = [variant for variant in options.variants if variant not in known]
    if unknown:
        parser.error(f"no such variant: {', '.join(unknown)}; there are {', '.join(known)}")
    if options.peer == "upstream" and (options.matrix != [matrix.DEFAULT] or options.tenth or options.raise_floors):
        parser.error("--matrix, --tenth and --raise-floors are about heatperf")
    if options.tenth and rig.needs_keystone(options.variants):
        options.variants.remove("realks")
    return options


def _combinations(text: str) -> list[matrix.Combination]:
    try:
        return matrix.chosen(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main() -> int:
    options = parse()
    folder = (options.keep or Path(tempfile.mkdtemp(prefix="heatperf-conformance-"))).resolve()
    agreed = True
    try:
        with ExitStack() as running:
            broker = running.enter_context(RabbitMQ(folder / "rabbitmq"))
            if options.raise_floors:
                return _raise_floors(folder, broker, options.show)
            keystone = None
            if rig.needs_keystone(options.variants):
                keystone = running.enter_context(Keystone(folder / "keystone", free_port()))
            for combination in options.matrix:
                if options.peer == "heatperf":
                    print(f"==== {combination.name}", flush=True)
                scores = _replay(folder / combination.name, options, broker, keystone, combination)
                agreed &= _agrees(scores)
    except StackError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 2
    _print_known()
    print(f"Details: {folder}/{'-'.join(matrix.DIMENSIONS)}/VARIANT/result.json")
    return 0 if agreed else 1


def _replay(
    folder: Path, options: Any, broker: RabbitMQ, keystone: Keystone | None, combination: matrix.Combination
) -> dict[str, rig.Score]:
    folder.mkdir(parents=True, exist_ok=True)
    if not options.tenth:
        return rig.replay(
            folder, options.variants, broker, keystone, options.peer, options.show, combination=combination
        )
    return rig.added(
        *rig.replay_sharing(folder, rig.tenths(options.variants, combination), broker, options.show).values()
    )


def _raise_floors(folder: Path, broker: RabbitMQ, show: int) -> int:
    """Replay what make test does of the default combination, and write better scores down."""
    scores, _ = rig.replay_planned(folder, broker, show)
    print("".join((folder / name).read_text() for name in ("launched.txt", "shared.txt")))
    for group, (old, new) in rig.raise_floors(scores).items():
        print(f"floor of {group}: {old} -> {new}")
    return 0 if _agrees(scores) else 1


def _agrees(scores: Mapping[str, rig.Score]) -> bool:
    return all(score.passed == score.total for score in scores.values())


def _print_known() -> None:
    """The differences that are accepted, with their reasons."""
    for entry in yaml.safe_load(rig.KNOWN.read_text()) or []:
        print(
            f"accepted: {selected(entry)}: {', '.join(entry.get('kinds', ['*']))}: {' '.join(entry['reason'].split())}"
        )


if __name__ == "__main__":
    sys.exit(main())

"""``make compare``: generated requests to upstream's API and to heatperf, side by side; shows what differs.

Starts a private broker and, per variant, both servers with a recording engine each; draws requests from a seed; sends
each to both; compares status, headers, JSON and RPC messages as for the recorded cases. A difference is shrunk, shown
once per cause with both answers, and with --save kept in own/ as a case that every replay repeats.

Ends with 0 when nothing differs that known_differences.yaml does not explain, 1 otherwise, 2 when a part did not start.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

import rig  # noqa: E402  (found beside this file)
from differential.causes import Known  # noqa: E402
from differential.lane import Finding, Lane  # noqa: E402
from differential.own import save  # noqa: E402
from differential.peers import Peers  # noqa: E402
from differential.requests import batches  # noqa: E402
from stack import RabbitMQ, StackError  # noqa: E402

BATCH = 250
# Drawing holds the interpreter; one lane at a time.
_DRAWING = threading.Lock()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make compare", description="Compare with upstream on generated requests.")
    parser.add_argument("-n", type=int, default=2000, help="requests per variant")
    parser.add_argument("--seed", default="1", help="other seeds give other requests")
    parser.add_argument("--variants", default="base,keystone", help="comma separated, of upstream/variants.py")
    parser.add_argument(
        "--requests", type=Path, help="JSON list of requests to send instead (method, path, headers, body)"
    )
    parser.add_argument("--save", action="store_true", help="keep what differs, or all of --requests, as cases in own/")
    parser.add_argument("--show", type=int, default=40, help="findings to print")
    parser.add_argument("--keep", type=Path, help="folder for logs (default: a temporary one, kept)")
    options = parser.parse_args()
    unknown = set(options.variants.split(",")) - set(rig.all_variants())
    if unknown:
        parser.error(f"no such variant: {', '.join(sorted(unknown))}; there are {', '.join(rig.all_variants())}")
    return options


def run_lane(lane: Lane, count: int, seed: str, given: list[dict[str, Any]] | None) -> None:
    """Send the given requests, or so many generated ones for a variant's flavor, batch by batch."""
    if given is not None:
        lane.run({}, given, 0, keep=True)
        return
    source = batches(lane.peers.flavor, f"{seed} {lane.peers.variant}", BATCH)
    while lane.compared < count:
        with _DRAWING:
            policy, requests = next(source)
        lane.run(policy, requests[: count - lane.compared], lane.compared)


def describe(finding: Finding) -> str:
    """A finding for the terminal: the request at its smallest, what differs, both answers."""
    case = finding.comparison.case
    lines = [f"[{finding.variant}] {case['method']} {case['path']}   ({finding.count} like it)"]
    lines += [f"    {name}: {value}" for name, value in case["headers"]]
    for key in ("body", "body_b64"):
        if key in case:
            lines.append(f"    {key}: {_short(case[key], 500)}")
    if finding.policy:
        lines.append(f"    policy file: {json.dumps(finding.policy)}")
    lines += [f"  * {kind}: {text}" for kind, text in finding.differences[:6]]
    for who, answer in (("upstream", finding.comparison.expected), ("heatperf", finding.comparison.got)):
        response = answer["response"]
        calls = [message["method"] for message in answer["rpc"]]
        lines.append(f"  {who}: {response['status']} {_short(response['body'], 300)} calls {calls}")
    return "\n".join(lines)


def _short(value: Any, limit: int) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= limit else text[:limit] + "..."


def report(lanes: list[Lane], show: int, seconds: float) -> int:
    """Print findings and totals; the number of findings."""
    findings = [finding for lane in lanes for finding in lane.findings.values()]
    for finding in findings[:show]:
        print(describe(finding), end="\n\n")
    if len(findings) > show:
        print(f"... and {len(findings) - show} more (--show)")
    for lane in lanes:
        statuses = ", ".join(f"{status}: {lane.statuses[status]}" for status in sorted(lane.statuses))
        print(
            f"{lane.peers.variant}: {lane.compared} requests compared, {lane.differing} differ without explanation, "
            f"{len(lane.findings)} causes; upstream's statuses {statuses}; {lane.with_messages} reached the engine"
        )
        if lane.unsteady:
            print(f"  {lane.unsteady} differed once and not when asked again")
        if lane.unanswered:
            print(f"  {len(lane.unanswered)} got no answer from upstream, like {lane.unanswered[0][:400]}")
        for reason, count in sorted(lane.accepted.items()):
            print(f"  {count} differ as known: {reason.partition('. ')[0]}")
    total = sum(lane.compared for lane in lanes)
    print(f"{total} requests in {seconds:.0f} s ({total / max(seconds, 0.1):.0f} per second)")
    return len(findings)


def main() -> int:
    options = parse()
    folder = (options.keep or Path(tempfile.mkdtemp(prefix="heatperf-compare-"))).resolve()
    known = Known()
    try:
        with ExitStack() as running:
            broker = running.enter_context(RabbitMQ(folder / "rabbitmq"))
            lanes = [
                Lane(running.enter_context(Peers(folder / variant, variant, broker)), known)
                for variant in options.variants.split(",")
            ]
            began = time.monotonic()
            given = None if options.requests is None else json.loads(options.requests.read_text())
            with ThreadPoolExecutor(len(lanes)) as pool:
                for end in [pool.submit(run_lane, lane, options.n, options.seed, given) for lane in lanes]:
                    end.result()
            found = report(lanes, options.show, time.monotonic() - began)
            if options.save:
                findings = [finding for lane in lanes for finding in lane.findings.values()]
                # A policy file of its own has no place in the form of the cases.
                keep = [finding.comparison for finding in findings if not finding.policy]
                keep += [comparison for lane in lanes for comparison in lane.kept]
                print(f"{save(keep)} cases added to tests/conformance/own")
    except StackError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 2
    print(f"Logs: {folder}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

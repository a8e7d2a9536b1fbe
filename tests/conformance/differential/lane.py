"""One variant's share of the work: sends batches to both peers at once, compares, and shrinks what differs.

In: running peers and batches of requests. Out: findings, one per cause. Each peer is asked one request after the
other, since a message is told to belong to a request by having arrived while it ran; both peers work at the same time.
Runs in a thread of its own per variant, with one more thread for the second peer.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from stack import StackError

from .causes import Known, same_cause, signature
from .peers import Comparison, Peer, Peers
from .shrink import shrink

#: How many members of one signature are shrunk, since unlike causes may look alike at first.
SHRUNK_PER_SIGNATURE = 3
MAX_SHRUNK = 60


@dataclass
class Finding:
    """A difference at its smallest, and how many requests looked like it."""

    variant: str
    comparison: Comparison
    differences: list[tuple[str, str]]
    policy: dict[str, str]
    count: int = 1


@dataclass
class Lane:
    """What has come of one variant so far."""

    peers: Peers
    known: Known
    compared: int = 0
    differing: int = 0
    #: did not differ when asked again
    unsteady: int = 0
    accepted: dict[str, int] = field(default_factory=dict)
    findings: dict[tuple[Any, ...], Finding] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    with_messages: int = 0
    #: requests that upstream's application did not answer
    unanswered: list[str] = field(default_factory=list)
    #: of batches that were to be kept
    kept: list[Comparison] = field(default_factory=list)
    _seen: dict[tuple[str, ...], list[Finding]] = field(default_factory=dict)
    _shrunk: int = 0
    _policy: dict[str, str] = field(default_factory=dict)

    def run(self, policy: dict[str, str], requests: list[dict[str, Any]], first: int, keep: bool = False) -> None:
        """Compare one batch under a policy file's rules.

        :param first: number of the first request
        :param keep: put all comparisons into ``kept``
        """
        self._set_policy(policy)
        cases = [self._case(request, first + index) for index, request in enumerate(requests)]
        with ThreadPoolExecutor(1) as second:
            theirs = second.submit(_ask_all, self.peers.upstream, cases)
            ours = _ask_all(self.peers.heatperf, cases)
            answers = list(zip(cases, theirs.result(), ours, strict=True))
        differing = []
        for case, expected, got in answers:
            self.compared += 1
            status = expected["response"]["status"]
            self.statuses[status] = self.statuses.get(status, 0) + 1
            self.with_messages += bool(expected["rpc"])
            if status == 0:
                self.unanswered.append(json.dumps(case))
            comparison = Comparison(case, expected, got)
            if keep:
                self.kept.append(comparison)
            if self._unaccepted(comparison):
                differing.append(case)
        for case in differing:
            self._record(case, policy)
        if not (self.peers.upstream.running and self.peers.heatperf.running):
            raise StackError(f"a server of {self.peers.variant} ended; logs are in {self.peers.directory}")

    def _case(self, request: dict[str, Any], number: int) -> dict[str, Any]:
        names = {"id": f"generated-{number}", "group": "generated", "timeout": 10}
        return {**request, **names, "variant": self.peers.variant, "flavor": self.peers.flavor}

    def _set_policy(self, policy: dict[str, str]) -> None:
        if policy != self._policy:
            self.peers.set_policy(json.dumps(policy))
            self._policy = policy

    def _unaccepted(self, comparison: Comparison, count: bool = True) -> list[tuple[str, str]]:
        left, reasons = self.known.split(comparison)
        for reason in reasons if count else ():
            self.accepted[reason] = self.accepted.get(reason, 0) + 1
        return left

    def _ask_again(self, case: dict[str, Any]) -> tuple[Comparison, list[tuple[str, str]]]:
        comparison = self.peers.compare(case)
        return comparison, self._unaccepted(comparison, count=False)

    def _record(self, case: dict[str, Any], policy: dict[str, str]) -> None:
        """Shrink a case that differed, unless enough like it are known, and file it with its cause."""
        self._set_policy(policy)
        _, differences = self._ask_again(case)
        if not differences:
            self.unsteady += 1
            return
        self.differing += 1
        looks = signature(differences)
        alike = self._seen.setdefault(looks, [])
        if len(alike) >= SHRUNK_PER_SIGNATURE or self._shrunk >= MAX_SHRUNK:
            if alike:
                alike[-1].count += 1
                return
            self._add(case, looks, policy)
            return
        self._shrunk += 1

        def shows(smaller: dict[str, Any]) -> bool:
            return same_cause(looks, signature(self._ask_again(smaller)[1]))

        if policy:
            policy = self._shrink_policy(case, policy, looks)
        self._add(shrink(case, shows), looks, policy)

    def _shrink_policy(self, case: dict[str, Any], policy: dict[str, str], looks: tuple[str, ...]) -> dict[str, str]:
        """Only those rules without which the difference is gone; the smaller policy is in force afterwards."""
        for smaller in ({}, *({name: policy[name]} for name in policy)):
            self._set_policy(smaller)
            if same_cause(looks, signature(self._ask_again(case)[1])):
                return smaller
        self._set_policy(policy)
        return policy

    def _add(self, case: dict[str, Any], looks: tuple[str, ...], policy: dict[str, str]) -> None:
        comparison, differences = self._ask_again(case)
        finding = Finding(self.peers.variant, comparison, differences, policy)
        key = (signature(differences), case["method"], "body" in case or "body_b64" in case)
        known = self.findings.setdefault(key, finding)
        if known is not finding:
            known.count += 1
        self._seen.setdefault(looks, []).append(known)


def _ask_all(peer: Peer, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [peer.ask(case) for case in cases]

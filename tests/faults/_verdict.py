"""The rules that hold under every fault, and the line that says how a stage went.

In: a Stage that has finished. Out: the line. Raised: Unmet, with examples of what broke which rule. Pure.

No request outlives its deadline. Nothing is executed twice, unless the broker itself has delivered it again. 503 with
Retry-After is said only of requests that no engine ever sees; one that was queued waits to its deadline, or to the loss
of the reply queue, and gets 500 without it. Right answers are right. Confirmed casts reach the engine. While
nothing is wrong, every request succeeds.
"""

from collections import Counter

#: [DEFAULT] rpc_response_timeout, [heatperf] rpc_connect_deadline and rpc_engine_grace of all stages, seconds.
RESPONSE, CONNECT, GRACE = 6.0, 2.0, 3.0
#: How much later than configured a request may end: the sweep (rpc/rabbit/transport.py), and two busy cores.
SLACK = 0.25 + 0.75
EARLY = 0.3
SHOWN = 8
UNAVAILABLE = "EngineUnavailable"
LOST, TIMED_OUT = "EngineLost", "MessagingTimeout"


class Unmet(Exception):
    """A rule is broken.

    :param examples: of what should not have happened
    """

    def __init__(self, reason, examples=()):
        examples = list(examples)
        more = [f"... and {len(examples) - SHOWN} more"] if len(examples) > SHOWN else []
        super().__init__("\n        ".join([reason, *map(str, examples[:SHOWN]), *more]))


def require(condition, reason, examples=()):
    if not condition:
        raise Unmet(reason, examples)


def none(records, reason):
    """Require that there are none."""
    records = list(records)
    require(not records, f"{len(records)} {reason}", records)


def judge(stage):
    """See the module's text. Of a stage whose engine keeps no record, only what clients see is judged."""
    records, casts, deliveries = stage.records, stage.casts(), stage.deliveries()
    seen = {line["marker"] for line in deliveries or ()}
    require(stage.load.hung == 0, f"{stage.load.hung} clients hang")
    none((r for r in records if r.wrong), "wrong answers")
    _deadlines(records + casts, RESPONSE + SLACK + stage.slack)
    _statuses(records, seen)
    again = 0
    if deliveries is not None:
        _casts(casts, seen, stage.keeps)
        again = _once(deliveries)
        none((r for r in records if r.answered and r.marker not in seen), "answers without an engine")
    _calm(records + casts, stage.strikes)
    for log, text in stage.logs().items():
        require("Traceback" not in text, f"a traceback in {log}")
    return _line(stage, records, casts, again)


def _deadlines(records, most):
    none((r for r in records if r.seconds > most), f"outlived the deadline ({most:g} s)")


def _statuses(records, seen):
    unavailable = [r for r in records if r.status == 503]
    none((r for r in unavailable if r.error != UNAVAILABLE), "of an unknown 503")
    none((r for r in unavailable if not (r.retry_after or "").isdigit()), "503 without Retry-After")
    none((r for r in unavailable if r.marker in seen), "503 for a request that an engine has got")
    failed = [r for r in records if r.status == 500]
    none((r for r in failed if r.error not in (LOST, TIMED_OUT)), "of an unknown 500")
    none((r for r in failed if r.retry_after is not None), "500 with Retry-After")
    none((r for r in failed if r.error == TIMED_OUT and r.seconds < RESPONSE - EARLY), "timed out before their time")


def _casts(casts, seen, keeps):
    none((r for r in casts if r.error not in ("", UNAVAILABLE, LOST, TIMED_OUT)), "casts with an unknown error")
    none((r for r in casts if r.error == UNAVAILABLE and r.marker in seen), "refused casts that an engine has got")
    if keeps:
        none((r for r in casts if not r.error and r.marker not in seen), "confirmed casts that were lost")


def _once(deliveries):
    """:returns: how many the broker has delivered again, after it or the engine had lost the connection"""
    messages, again = {}, Counter()
    for line in deliveries:
        place = line["pid"], line["link"]
        unique, places = messages.setdefault(line["marker"], (line["unique"], []))
        require(unique == line["unique"], "a request was sent twice", [line])
        require(place not in places, "a message was delivered twice over one connection of the engine", [line])
        places.append(place)
        again[line["marker"]] += 1
    return sum(count - 1 for count in again.values())


def _calm(records, strikes):
    """Whatever began and ended while nothing was wrong must have succeeded."""
    well = [0.0, *(back for _, back in strikes)]
    ill = [*(moment for moment, _ in strikes), float("inf")]
    for begin, end in zip(well, ill, strict=True):
        if begin is None:
            continue
        none(
            (r for r in records if not r.answered and r.began >= begin and r.ended <= end),
            f"failed though nothing was wrong (between {begin:.3f} and {end:.3f})",
        )


def _line(stage, records, casts, again):
    parts = [f"{len(records):,} requests", _kinds(records)]
    if casts:
        parts.append(f"{len(casts):,} casts ({_kinds(casts)})")
    if again:
        parts.append(f"{again} delivered again by the broker")
    parts.append(f"longest wait {max(r.seconds for r in records + casts):.1f} s")
    if stage.recoveries:
        times = f" (worst of {len(stage.recoveries)})" if len(stage.recoveries) > 1 else ""
        parts.append(f"recovered in {max(stage.recoveries):.1f} s{times}")
    return "; ".join(parts)


def _kinds(records):
    counts = Counter(f"{r.status or ''} {r.error}".strip() for r in records if not r.answered)
    failed = [f"{count} {kind}" for kind, count in counts.most_common()]
    return ", ".join(failed or ["0 failed"])

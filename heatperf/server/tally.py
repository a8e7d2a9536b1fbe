"""What ``heatperf status`` is told: the state of the supervisor, its slots and their workers, as plain values.

Comes in: the Supervisor. Goes out: the dict that status.py renders. Supervisor only; pure but for the clock.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import heatperf
from heatperf.server.generation import Generation
from heatperf.server.slot import Slot, Stage

if TYPE_CHECKING:
    from heatperf.server.supervisor import Supervisor


def status_of(supervisor: Supervisor) -> dict[str, Any]:
    """:returns: see status.py"""
    now = supervisor.clock()
    rows = [_row(each, slot, supervisor, now) for each in supervisor.generations for slot in each.slots]
    rows.sort(key=lambda row: (row["slot"], row["generation"]))
    served = sum(supervisor.common.served.values())
    live = sum(each.seat(slot).read().requests for each in supervisor.generations for slot in each.slots)
    last = supervisor.last_reload
    return {
        "version": heatperf.__version__,
        "pid": os.getpid(),
        "title": supervisor.title,
        "state": _state(supervisor),
        "uptime": now - supervisor.born,
        "generation": supervisor.current.number if supervisor.current is not None else 0,
        "listeners": [str(listener.bind) for listener in supervisor.listeners],
        "reloads": {
            "done": supervisor.reloads_done,
            "refused": supervisor.reloads_refused,
            "last": None if last is None else {"ago": now - last[0], "ok": last[1], "reason": last[2]},
        },
        "requests": served + live,
        "workers": rows,
        "sides": [side.status() for side in supervisor.sides],
    }


def _state(supervisor: Supervisor) -> str:
    current = supervisor.current
    if supervisor.stopping:
        return "stopping"
    if current is None or not supervisor.announced:
        return "starting"
    if supervisor.candidate is not None:
        return "reloading"
    well = current.count(Stage.SERVING) >= current.workers and not current.zygote_gone
    return "serving" if well and all(side.ready for side in supervisor.sides) else "degraded"


def _row(generation: Generation, slot: Slot, supervisor: Supervisor, now: float) -> dict[str, Any]:
    seen = generation.seat(slot).read()
    # A generation that retires has handed its numbers over; they count for the slot's number.
    before = supervisor.common.served.get(slot.number, 0) if generation is supervisor.current else 0
    return {
        "slot": slot.number,
        "pid": slot.pid,
        "generation": generation.number,
        "loop": generation.settings.loop,
        "state": "stopped" if slot.stage is Stage.REAPING else slot.stage.value,
        "age": now - slot.born if slot.pid else 0.0,
        "requests": before + seen.requests,
        "in_flight": seen.in_flight,
        "oldest": time.monotonic() - seen.oldest_began if seen.in_flight and seen.oldest_began else None,
        "oldest_request": seen.oldest_line,
        "heartbeat": time.monotonic() - seen.heartbeat / 1e9 if seen.heartbeat else None,
        "restarts": slot.restarts,
        "reason": slot.reason,
        "next_start": None if slot.due is None else max(0.0, slot.due - now),
    }

"""What ``heatperf status`` prints and exits with.

Comes in: the supervisor's answer to ``status``, as it came over the control socket. Goes out: text for people, an exit
code. Raises nothing for what is missing in it: the server may be of another version. Runs in the client.

    {"version", "pid", "title", "state", "uptime", "generation", "listeners", "requests", "reloads", "workers", "sides"}
    state:    starting, serving, degraded, reloading, stopping
    reloads:  {"done", "refused", "last": None or {"ago", "ok", "reason"}}
    workers:  [{"slot", "pid", "generation", "loop", "state", "age", "requests", "in_flight", "oldest",
                "oldest_request", "heartbeat", "restarts", "reason", "next_start"}]; times in seconds, ago where they
                are past
    sides:    [{"name", "pid", "state", "restarts", "reason", "next_start"}]; state: starting, serving, waiting
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Where a slot that has no process waits for one.
NO_PROCESS = ("stopped", "waiting")
#: States in which the service as a whole is well, provided its slots are. A reload takes nothing from its clients.
WELL = ("serving", "reloading")
HEADINGS = ("SLOT", "PID", "GEN", "STATE", "AGE", "REQUESTS", "IN FLIGHT", "OLDEST", "HEARTBEAT", "RESTARTS", "REQUEST")
# Columns of words go to the left, numbers to the right.
LEFT = (3, 10)
MAX_TEXT = 200


def exit_code(status: Mapping[str, Any]) -> int:
    """
    :returns: 0 when every slot has a worker that serves (one of an older generation may drain beside it), and every
        side process runs, else 1
    """
    slots = {worker.get("slot") for worker in _workers(status)}
    sides = all(side.get("state") == "serving" for side in _sides(status))
    well = status.get("state") in WELL and slots and slots == _serving(status) and sides
    return 0 if well else 1


def render(status: Mapping[str, Any]) -> str:
    """
    :returns: some lines about the service, a table of its workers, a line for each slot with something to explain; no
        newline at the end
    """
    workers = _workers(status)
    table = [HEADINGS] + [_row(worker) for worker in workers]
    parts = [_head(status), _table(table) if workers else ["no workers"], _notes(workers)]
    return "\n\n".join("\n".join(part) for part in parts if part)


def duration(seconds: Any) -> str:
    """
    :returns: in the two largest units that say something: "0.3 s", "42 s", "5 min 2 s", "3 d 4 h"; "-" for None
    """
    if not isinstance(seconds, (int, float)):
        return "-"
    seconds = max(0.0, float(seconds))
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    left = round(seconds)
    parts = []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        amount, left = divmod(left, length)
        if amount:
            parts.append(f"{amount} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def _workers(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = status.get("workers") or []
    return sorted(found, key=lambda worker: (worker.get("slot") or 0, worker.get("generation") or 0))


def _sides(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = status.get("sides")
    return [side for side in found if isinstance(side, Mapping)] if isinstance(found, list) else []


def _serving(status: Mapping[str, Any]) -> set[Any]:
    return {worker.get("slot") for worker in _workers(status) if worker.get("state") == "serving"}


def _head(status: Mapping[str, Any]) -> list[str]:
    title, state = _text(status.get("title")) or "heatperf", _text(status.get("state")) or "unknown"
    version, pid, generation = (_text(status.get(key, "?")) for key in ("version", "pid", "generation"))
    lines = [
        f"{title} (heatperf {version}), pid {pid}: {state}",
        f"up {duration(status.get('uptime'))}, generation {generation},"
        f" {_text(status.get('requests', 0))} requests,"
        f" {len(_serving(status))} of {len({each.get('slot') for each in _workers(status)})} slots serving",
    ]
    listeners = ", ".join(map(_text, status.get("listeners") or [])) or "nothing"
    lines.append(f"listening on {listeners}")
    reloads = status.get("reloads") or {}
    line = f"reloads: {_text(reloads.get('done', 0))} done, {_text(reloads.get('refused', 0))} refused"
    if last := reloads.get("last"):
        how = "done" if last.get("ok") else "refused"
        reason = _text(last.get("reason"))
        line += f"; the last one {duration(last.get('ago'))} ago: {how}" + (f": {reason}" if reason else "")
    lines.append(line)
    for side in _sides(status):
        name, pid, state = _text(side.get("name")), _text(side.get("pid") or "-"), _text(side.get("state"))
        why = f"; the last one {_text(side.get('reason'))}" if side.get("reason") else ""
        due = "" if side.get("next_start") is None else f"; next start in {duration(side.get('next_start'))}"
        lines.append(f"{name}: {state}, pid {pid}, {_text(side.get('restarts', 0))} restarts{why}{due}")
    return lines


def _row(worker: Mapping[str, Any]) -> tuple[str, ...]:
    state = _text(worker.get("state")) or "unknown"
    empty = state in NO_PROCESS
    return (
        _text(worker.get("slot", "?")),
        _text(worker.get("pid", "?") or "-"),
        _text(worker.get("generation", "?")),
        state,
        "-" if empty else duration(worker.get("age")),
        _text(worker.get("requests", 0)),
        "-" if empty else _text(worker.get("in_flight", 0)),
        duration(worker.get("oldest")),
        duration(worker.get("heartbeat")),
        _text(worker.get("restarts", 0)),
        _text(worker.get("oldest_request")),
    )


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        line = "  ".join(
            cell.ljust(width) if index in LEFT else cell.rjust(width) for index, (cell, width) in enumerate(cells)
        )
        lines.append(line.rstrip())
    return lines


def _notes(workers: list[Mapping[str, Any]]) -> list[str]:
    notes = []
    for worker in workers:
        reason, due = _text(worker.get("reason")), worker.get("next_start")
        said = [reason] if reason else []
        if due is not None:
            said.append(f"next start in {duration(due)}")
        if said:
            notes.append(f"slot {_text(worker.get('slot'))}: {'; '.join(said)}")
    return notes


def _text(value: Any) -> str:
    """One line of bounded length. Requests and reasons come from outside: nothing in them may steer a terminal."""
    text = "" if value is None else str(value)
    line = "".join(char if char.isprintable() else "?" if char != "\n" else " " for char in text)
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 3] + "..."

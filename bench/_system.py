"""What a tree of processes costs, and what machine this is. In: process ids. Out: seconds, bytes, facts. Reads /proc.

A process that ends while it is looked at counts as nothing.
"""

import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        if fields := _stat(int(entry.parent.name)):
            children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo.extend(children.get(pid, ()))
    return found


def leaves(root: int) -> list[int]:
    """Those of the tree without children: the workers of a preforking server."""
    pids = tree(root)
    parents = {int(fields[1]) for pid in pids if (fields := _stat(pid))}
    return [pid for pid in pids if pid not in parents]


def cpu_seconds(root: int) -> float:
    """User and system time of a tree so far, children it has reaped included.

    The kernel's clock ticks are too coarse for a server that answers a few dozen requests in a second; its scheduler
    counts nanoseconds, but only of threads that live. Both are never too much: the larger is taken.
    """
    total = 0.0
    for pid in tree(root):
        if fields := _stat(pid):
            own, reaped = (sum(int(value) for value in fields[part]) / TICKS for part in (slice(11, 13), slice(13, 15)))
            total += max(own, _scheduled(pid)) + reaped
    return total


def _scheduled(pid: int) -> float:
    """Seconds on a CPU of the threads of a process; 0 where the kernel does not say."""
    nanoseconds = 0
    for entry in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            nanoseconds += int(entry.read_text().split()[0])
        except (OSError, IndexError, ValueError):
            continue
    return nanoseconds / 1e9


def pss(pids: Iterable[int]) -> int:
    """Proportional set size in bytes: memory of one's own, and one's share of what is shared."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        if found := re.search(r"^Pss:\s+(\d+) kB", text, re.M):
            total += int(found[1]) * 1024
    return total


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on (state, parent ...)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def machine() -> dict[str, object]:
    """What the numbers depend on, without what names this machine."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        system = platform.system()
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": model[1] if model else platform.machine(),
        "memory_gib": round(int(memory[1]) / 2**20, 1) if memory else None,
        "system": system,
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
    }

"""How many workers. Pure but for one system call; supervisor only."""

from __future__ import annotations

import os

from heatperf.errors import ConfigurationError


def usable_cpus() -> int:
    """Logical CPUs this process may run on (cpusets and taskset included), at least 1."""
    return max(1, len(os.sched_getaffinity(0)))


def workers_for(value: str | int | None) -> tuple[int, str]:
    """
    :param value: "auto", 0 or None for one worker per usable CPU, or a number
    :returns: the count and a sentence that says why, for the log
    :raises ConfigurationError: not a number, or negative
    """
    text = "auto" if value is None else str(value).strip()
    if text in ("auto", "0", ""):
        cpus = usable_cpus()
        return cpus, f"{cpus} workers: one for each logical CPU this process may use"
    if not (text.isascii() and text.isdigit()):
        raise ConfigurationError(f"--workers {text} is not a number", remedy="give auto, 0 or a number of workers")
    return int(text), f"{int(text)} workers, as configured"

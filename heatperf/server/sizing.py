"""How many workers. Pure but for one system call; supervisor only."""

from __future__ import annotations

import os

from heatperf.errors import ConfigurationError

# No host has that many CPUs for one API; beyond it stands a slip of the keyboard that would take the host down.
MAXIMUM = 4096


def usable_cpus() -> int:
    """Logical CPUs this process may run on (cpusets and taskset included), at least 1."""
    return max(1, len(os.sched_getaffinity(0)))


def workers_for(value: str | int | None) -> tuple[int, str]:
    """
    :param value: "auto", 0 or None for one worker per usable CPU, or a number
    :returns: the count and a sentence that says why, for the log
    :raises ConfigurationError: not a number, negative, or above MAXIMUM
    """
    text = "auto" if value is None else str(value).strip()
    if text not in ("auto", "") and not (text.isascii() and text.isdigit()):
        raise ConfigurationError(f"--workers {text} is not a number", remedy="give auto, 0 or a number of workers")
    digits = "" if text == "auto" else text.lstrip("0")
    if not digits:
        cpus = usable_cpus()
        return cpus, f"{counted(cpus)}: one for each logical CPU this process may use"
    # By length first: int() refuses some thousands of digits with a ValueError.
    if len(digits) > len(str(MAXIMUM)) or int(digits) > MAXIMUM:
        shown = digits if len(digits) <= 30 else f"{digits[:30]}..."
        raise ConfigurationError(
            f"--workers {shown} is more than {MAXIMUM}",
            remedy=f"give auto for one worker per CPU, {usable_cpus()} here, or a number near that",
        )
    count = int(digits)
    return count, f"{counted(count)}, as configured"


def counted(workers: int) -> str:
    """:returns: "1 worker", "2 workers" """
    return "1 worker" if workers == 1 else f"{workers} workers"

"""What a worker and its supervisor say to each other beside the scoreboard. Pure.

The report of a worker, on a pipe that stays open while it lives: its pid, READY and SERVING, each once and in that
order, then whatever faulthandler writes on USR1; or, at any point, FAILED, the reason, a newline, and a traceback, up
to the end.
"""

from __future__ import annotations

import re
import signal

PID, READY, SERVING, FAILED = b"P%d\n", b"R\n", b"S\n", b"F"
HEAD = re.compile(rb"P(?P<pid>\d+)\n(?P<ready>R\n)?(?P<serving>S\n)?")
MAX_REPORT = 16_384
# Exit codes.
OK, CRASHED, BOOT_FAILED = 0, 1, 3
DRAIN, QUIT, SHOW_STACKS, WRITE_REPORT = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2
# As DRAIN, when others go on accepting from the same sockets. A signal that nobody else sends to a process group.
HAND_OVER = signal.Signals(signal.SIGRTMIN)
LEAVING = (DRAIN, QUIT, HAND_OVER)
# What lies in the gate of a generation once its workers may serve; its end without that means that they never will.
OPEN = b"O"
# How often the loop writes its heartbeat, in seconds.
HEARTBEAT = 0.5


def signal_name(number: int) -> str:
    """:returns: "SIGKILL", or "signal 42" for one without a name"""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

"""How many descriptors the server may have open: the soft limit goes up to what the administrator allows.

Comes in: the limits that the process was started with. Goes out: a higher soft limit, which children inherit. Raises
nothing: with fewer descriptors the server still serves. Supervisor, before it opens anything.
"""

from __future__ import annotations

import contextlib
import resource

# The soft limit is 1024 nearly everywhere for the sake of programs that use select(2), which corrupts memory beyond
# that. Nothing here uses it: the supervisor polls, the loops use epoll.
NR_OPEN = "/proc/sys/fs/nr_open"
# The kernel's own default of fs.nr_open, for where /proc is missing.
DEFAULT_NR_OPEN = 1_048_576


def raise_nofile(nr_open_file: str = NR_OPEN) -> tuple[int, int]:
    """Raise the soft limit of open files (RLIMIT_NOFILE) to the hard one; never lowers it, never raises an exception.

    :param nr_open_file: says what the kernel grants a process at most; a limit may be infinite, or older than it
    :returns: the soft limit before and now, in descriptors; -1 is no limit
    """
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _nr_open(nr_open_file)
    target = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if before == resource.RLIM_INFINITY or before >= target:
        return before, before
    # The second pair is for a hard limit above fs.nr_open, which the kernel refuses (EPERM) even where it stands now.
    for limits in ((target, hard), (target, target)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
    return before, resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _nr_open(path: str) -> int:
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):
        return DEFAULT_NR_OPEN

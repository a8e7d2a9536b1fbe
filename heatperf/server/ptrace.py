"""What keeps this process from looking into another one, and what the operator can do about it.

In: a process id, and a directory that stands for /. Out: a sentence and a remedy. Raises nothing. Reads files only;
runs in ``heatperf profile`` after the kernel has said no, and changes nothing.

Facts of the kernel that it rests on: ptrace(2), "Ptrace access mode checking" and /proc/sys/kernel/yama/ptrace_scope,
proc(5) for the owner of /proc/PID, capabilities(7).
"""

from __future__ import annotations

import os
import pwd
import re

from heatperf.server.hardware import MAX_SYSCTL, Tree, parse_number

YAMA = "/proc/sys/kernel/yama/ptrace_scope"
CAP_SYS_PTRACE = 19


def obstacle(pid: int, again: str, root: str | os.PathLike[str] = "/") -> tuple[str, str]:
    """
    :param pid: of the process that could not be looked into
    :param again: the command that was tried, for the remedy
    :param root: directory that holds proc
    :returns: what is in the way, and what to do about it
    """
    tree = Tree(root)
    own, other = _status(tree, "self"), _status(tree, str(pid))
    uid, owner = _uid(own), _uid(other)
    scope = parse_number(tree.text(YAMA, MAX_SYSCTL))
    as_root = f"run it as root: sudo {again}"
    if scope == 3:
        return (
            f"{YAMA} is 3: this kernel lets nobody look into a process until it is booted anew",
            "set kernel.yama.ptrace_scope to 1 or 2 in /etc/sysctl.d and reboot",
        )
    capabilities = _number(own, "CapEff")
    if capabilities >> CAP_SYS_PTRACE & 1:
        return (
            "this process has CAP_SYS_PTRACE and is refused all the same: a security module, a seccomp filter or the"
            " user namespace of the worker forbids it",
            "look into the audit log (SELinux: the boolean deny_ptrace), or run this where the server's container is"
            " administered",
        )
    if uid == 0:
        return (
            "this process is root without CAP_SYS_PTRACE, as root of a container is",
            "start the container with --cap-add SYS_PTRACE (Kubernetes: securityContext.capabilities.add:"
            " [SYS_PTRACE]), or run py-spy on its host",
        )
    if uid != owner:
        return f"the worker runs as {_name(owner)}, this command as {_name(uid)}", as_root
    if scope == 2:
        return f"{YAMA} is 2: only who has CAP_SYS_PTRACE may look into a process", as_root
    if scope == 1:
        return (
            f"{YAMA} is 1: a process may look into its own children only",
            f"{as_root}. (sysctl kernel.yama.ptrace_scope=0 would open every process of this host to all others of"
            " the same user, until the next boot)",
        )
    if _number(other, "CapPrm") & ~_number(own, "CapPrm"):
        return "the worker holds capabilities that this command does not (AmbientCapabilities= of its unit?)", as_root
    if _held_by_root(tree, pid, owner):
        return "the worker has changed its user since it was started, so that only root may look into it", as_root
    return "the kernel forbids it, for a reason that /proc does not tell", as_root


def _status(tree: Tree, process: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+):\s*(.*)$", tree.text(f"/proc/{process}/status"), re.MULTILINE))


def _uid(status: dict[str, str]) -> int | None:
    fields = status.get("Uid", "").split()
    return parse_number(fields[1]) if len(fields) > 1 else None


def _number(status: dict[str, str], name: str) -> int:
    text = status.get(name, "")
    return int(text, 16) if re.fullmatch(r"[0-9a-f]{1,32}", text) else 0


def _name(uid: int | None) -> str:
    if uid is None:
        return "an unknown user"
    try:
        return f"user {pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return f"user {uid}"


def _held_by_root(tree: Tree, pid: int, owner: int | None) -> bool:
    """Whether the process is not "dumpable": root owns its files in /proc then."""
    found = tree.owner(f"/proc/{pid}/mem")
    return owner not in (0, None) and found == 0

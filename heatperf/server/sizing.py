"""How many workers, and why.

In: what was configured, and the :class:`~heatperf.server.hardware.Hardware`. Out: a count, a sentence for the log, and
the table of ``heatperf hardware``. Raises ConfigurationError for a count that cannot be meant. Pure where it is handed
the hardware; runs in the supervisor, before the fork.
"""

from __future__ import annotations

import math
import os
from fractions import Fraction

from heatperf.errors import ConfigurationError
from heatperf.server import hardware
from heatperf.server.hardware import Cpus, Hardware, show_cpus

# No host has that many CPUs for one API; beyond it stands a slip of the keyboard that would take the host down.
MAXIMUM = 4096

MIB = 1024 * 1024
# Memory of one worker in bytes. Measured (smaps_rollup; Python 3.11, x86-64, RabbitMQ): RSS 64 MB when started, 67 MB
# after requests through the keystone pipeline, 85 MB with 200 engine calls in flight, of which at most 40 MB private.
# RSS counts here, because pages shared with the zygote become a worker's own as reference counts are written to them;
# the rest is for bodies. A reload has two sets of workers for a while, and fits too.
PER_WORKER = 100 * MIB
# What is there beside the workers: the supervisor (RSS 25 MB), the zygote (79 MB), a second one during a reload, and a
# helper (30 MB, 60 while it parses a template of 450 kB; each further eight workers have one more, which is within
# what is left of theirs).
RESERVE = 256 * MIB


def usable_cpus() -> int:
    """Logical CPUs this process may run on (cpusets and taskset included), at least 1."""
    return max(1, len(os.sched_getaffinity(0)))


def workers_for(value: str | int | None, machine: Hardware | None = None) -> tuple[int, str]:
    """
    :param value: "auto", 0 or None for as many as the hardware has use for, or a number
    :param machine: default: this one, as it is now
    :returns: the count and a sentence that says why, for the log
    :raises ConfigurationError: not a number, negative, or above MAXIMUM
    """
    text = "auto" if value is None else str(value).strip()
    if text not in ("auto", "") and not (text.isascii() and text.isdigit()):
        raise ConfigurationError(f"--workers {text} is not a number", remedy="give auto, 0 or a number of workers")
    digits = "" if text == "auto" else text.lstrip("0")
    machine = hardware.read() if machine is None else machine
    bounds = bounds_of(machine)
    fitting = max(1, min(bounds.values()))
    if not digits:
        return fitting, f"{counted(fitting)}: {_facts(machine, bounds)}; {_decisive(machine, bounds)}"
    # By length first: int() refuses some thousands of digits with a ValueError.
    if len(digits) > len(str(MAXIMUM)) or int(digits) > MAXIMUM:
        shown = digits if len(digits) <= 30 else f"{digits[:30]}..."
        raise ConfigurationError(
            f"--workers {shown} is more than {MAXIMUM}",
            remedy=f"give auto for what suits the machine, {fitting} here, or a number near that",
        )
    count = int(digits)
    if count > fitting:
        facts = _facts(machine, bounds)
        return count, f"{counted(count)}, as configured, though the machine has room for {fitting}: {facts}"
    return count, f"{counted(count)}, as configured"


def counted(workers: int) -> str:
    """:returns: "1 worker", "2 workers" """
    return "1 worker" if workers == 1 else f"{workers} workers"


def bounds_of(machine: Hardware) -> dict[str, int]:
    """How many workers each part of the machine has room for; what is not known is not there, but CPUs always are.

    The quota is rounded up: of 2.5 CPUs the third worker has a half, which nobody could use otherwise. Memory is what
    is there, not what is free now: a restart beside a full page cache or the old workers must give the same number.

    :returns: "CPUs", "quota", "memory" -> count; memory may be 0
    """
    bounds = {"CPUs": max(1, len(machine.allowed))}
    if machine.quota.value is not None:
        bounds["quota"] = math.ceil(machine.quota.value)
    if machine.memory is not None:
        bounds["memory"] = max(0, machine.memory - RESERVE) // PER_WORKER
    return bounds


def signature(machine: Hardware) -> str:
    """What measurements of speed depend on: those of a machine with another signature say nothing about this one.

    :returns: "8 CPUs, 4 cores with SMT 2, quota 6.0"
    """
    quota = machine.quota.value
    cores = machine.cores.value
    smt = f", {_cores(machine)}" if cores and len(cores) < len(machine.allowed) else ""
    cpus = "1 CPU" if len(machine.allowed) == 1 else f"{len(machine.allowed)} CPUs"
    return f"{cpus}{smt}, {'no quota' if quota is None else f'quota {_decimal(quota)}'}"


def table(machine: Hardware) -> str:
    """:returns: what was found and where, a line per fact, and the sentence for auto"""
    none = "no limit"
    memory_limit, quota = machine.memory_limit.value, machine.quota.value
    rows = [
        ("CPUs online", _cpus(machine.online.value), machine.online.source),
        ("affinity", _cpus(machine.affinity.value), machine.affinity.source),
        ("cpuset of cgroup", _cpus(machine.cpuset.value), machine.cpuset.source),
        ("CPU quota of cgroup", none if quota is None else f"{_decimal(quota)} CPUs", machine.quota.source),
        ("physical cores", _cores(machine) or "", machine.cores.source),
        ("NUMA nodes", _nodes(machine), machine.nodes.source),
        ("memory limit of cgroup", none if memory_limit is None else _size(memory_limit), machine.memory_limit.source),
        ("memory", _size(machine.memory_total.value), machine.memory_total.source),
        ("memory available now", _size(machine.memory_available.value), machine.memory_available.source),
    ]
    lines = [(name, found, source) if source else (name, "not found", "") for name, found, source in rows]
    lines.append(("memory of a worker", _size(PER_WORKER), f"measured; {_size(RESERVE)} are kept for the rest"))
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    text = [f"{name:{widths[0]}}  {found:{widths[1]}}  {source}".rstrip() for name, found, source in lines]
    # Names of cgroups are bytes; what is not UTF-8 in them could not be printed.
    return "\n".join([*text, "", workers_for("auto", machine)[1]]).encode(errors="backslashreplace").decode()


def _facts(machine: Hardware, bounds: dict[str, int]) -> str:
    facts = [_share(machine)]
    if machine.quota.value is not None:
        facts.append(f"cgroup quota {_decimal(machine.quota.value)}")
    cores = machine.cores.value
    if cores and len(cores) < len(machine.allowed):
        facts.append(_cores(machine))
    nodes = [node for node, cpus in (machine.nodes.value or {}).items() if cpus & machine.allowed]
    if len(nodes) > 1:
        facts.append(f"{len(nodes)} NUMA nodes")
    if "memory" in bounds:
        facts.append(f"memory for {bounds['memory']}")
    return ", ".join(facts)


def _decisive(machine: Hardware, bounds: dict[str, int]) -> str:
    """The first of those that allow least, in the order of :func:`bounds_of`."""
    least = min(bounds, key=lambda name: bounds[name])
    if bounds[least] < 1:
        return f"{least} is short, and one is the least"
    if least == "CPUs":
        return "the CPUs decide" if machine.allowed else "one is the least"
    return "memory decides" if least == "memory" else "the quota decides"


def _share(machine: Hardware) -> str:
    """The allowed CPUs and what keeps the others away."""
    allowed, online = machine.allowed, machine.online.value
    if not allowed:
        return "number of CPUs unknown"
    cpus = "1 CPU" if len(allowed) == 1 else f"{len(allowed)} CPUs"
    if online is not None and allowed >= online:
        return f"{cpus} online"
    # The kernel keeps the affinity within the cpuset, so where both say the same it is the cpuset that does it.
    limits = {
        name: found.value & (online or found.value)
        for name, found in (("cpuset", machine.cpuset), ("affinity", machine.affinity))
        if found.value
    }
    alone = [name for name, limit in limits.items() if limit == allowed]
    return f"{cpus} allowed ({alone[0] if alone else ' and '.join(limits)})"


def _cores(machine: Hardware) -> str:
    """:returns: "4 cores with SMT 2"; SMT counts what is allowed of a core"""
    cores = machine.cores.value or frozenset()
    threads = max((len(core) for core in cores), default=1)
    count = "1 core" if len(cores) == 1 else f"{len(cores)} cores"
    return f"{count} with SMT {threads}" if threads > 1 else count


def _nodes(machine: Hardware) -> str:
    nodes = machine.nodes.value or {}
    return f"{len(nodes)}: " + "; ".join(f"node {node} has CPUs {show_cpus(cpus)}" for node, cpus in nodes.items())


def _cpus(cpus: Cpus | None) -> str:
    return f"{len(cpus)}: {show_cpus(cpus)}" if cpus else ""


def _decimal(number: Fraction) -> str:
    """:returns: "6.0", "2.5", "0.75"; rounded up, as the workers for it are"""
    return f"{math.ceil(number * 100) / 100:.2f}".removesuffix("0")


def _size(size: int | None) -> str:
    if size is None:
        return ""
    return f"{size / MIB:.0f} MiB" if size < 10 * 1024 * MIB else f"{size / MIB / 1024:.1f} GiB"

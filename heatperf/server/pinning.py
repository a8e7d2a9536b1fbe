"""Which CPU a worker keeps to, where it is asked to keep to one.

In: the number of its slot and the Hardware. Out: the affinity of the calling process. Raises nothing: a CPU that has
just gone (hotplug, a cpuset that was made smaller) leaves the worker where it was. Runs in a worker, right after the
fork and before it has threads, which inherit what is set here.
"""

from __future__ import annotations

import logging
import os

from heatperf.server import hardware
from heatperf.server.hardware import Hardware

LOG = logging.getLogger("heatperf.server")


def order(machine: Hardware) -> list[int]:
    """The CPUs in the order in which slots take them: one thread of every core first, then the others (SMT), so that
    fewer workers than CPUs do not share a core.

    :returns: every allowed CPU once; empty when none is known
    """
    cores = sorted(sorted(core) for core in machine.cores.value or ())
    known = {cpu for core in cores for cpu in core}
    cores += [[cpu] for cpu in sorted(machine.allowed - known)]
    most = max(map(len, cores), default=0)
    return [core[thread] for thread in range(most) for core in cores if thread < len(core)]


def pin(slot: int, machine: Hardware | None = None) -> int | None:
    """Keep this process on the CPU of its slot; more slots than CPUs begin again with the first.

    :param machine: default: this one
    :returns: the CPU; None where nothing could be done
    """
    cpus = order(hardware.read() if machine is None else machine)
    if not cpus:
        return None
    cpu = cpus[slot % len(cpus)]
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError as exc:
        LOG.warning("Worker %d cannot be pinned to CPU %d: %s", slot, cpu, exc.strerror)
        return None
    LOG.debug("Worker %d keeps to CPU %d", slot, cpu)
    return cpu

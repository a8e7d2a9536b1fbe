"""Which slot keeps to which CPU."""

import os

import pytest

from heatperf.server.hardware import Found, Hardware
from heatperf.server.pinning import order, pin


def machine(allowed, cores=()):
    return Hardware(
        affinity=Found(frozenset(allowed), "x"),
        cores=Found(frozenset(map(frozenset, cores)) or None, "x"),
    )


@pytest.mark.parametrize(
    ("allowed", "cores", "expected"),
    [
        ({0, 1, 2, 3}, [{0, 2}, {1, 3}], [0, 1, 2, 3]),  # siblings are numbered far apart
        ({0, 1, 2, 3}, [{0, 1}, {2, 3}], [0, 2, 1, 3]),  # and side by side
        ({1, 2, 3, 5}, [{1}, {2, 3}, {5}], [1, 2, 5, 3]),  # of one core a single thread is allowed
        ({4, 6}, [], [4, 6]),  # the topology is unknown
        ({0, 1, 7}, [{0, 1}], [0, 7, 1]),
        (set(), [], []),
    ],
)
def test_one_thread_of_every_core_first(allowed, cores, expected):
    assert order(machine(allowed, cores)) == expected


@pytest.fixture
def affinity():
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


def test_slots_beyond_the_cpus_begin_again(affinity):
    cpus = sorted(affinity)
    for slot in range(len(cpus) + 1):
        os.sched_setaffinity(0, affinity)
        cpu = pin(slot, machine(cpus))
        assert (cpu, os.sched_getaffinity(0)) == (cpus[slot % len(cpus)], {cpu})


def test_this_machine(affinity):
    assert pin(0) in affinity


def test_a_cpu_that_is_gone_changes_nothing(affinity, caplog):
    assert pin(3, machine([8000])) is None
    assert os.sched_getaffinity(0) == affinity
    assert "Worker 3 cannot be pinned to CPU 8000" in caplog.text


def test_nothing_known_changes_nothing(affinity):
    assert pin(0, machine([])) is None and os.sched_getaffinity(0) == affinity

"""When a dead worker's replacement may start."""

import itertools

from heatperf.server.backoff import MAXIMUM, Backoff


def delays(number, chance):
    backoff = Backoff(lambda: chance)
    return [backoff.delay(1.0) for _ in range(number)]


def test_it_grows_and_is_bounded():
    assert delays(9, 0.5) == [0, 1, 2, 4, 8, 16, 24, 24, 24]
    assert delays(2000, 0.5)[-1] == 24


def test_a_long_life_is_forgiven():
    backoff = Backoff(lambda: 0.5)
    assert [backoff.delay(lived) for lived in (0.0, 9.9, 10.0, 9.9, 0.0)] == [0, 1, 0, 0, 1]


def test_jitter_stays_within_a_quarter_and_below_the_maximum():
    assert delays(7, 0.0) == [0, 0.75, 1.5, 3, 6, 12, 18]
    assert delays(7, 1.0) == [0, 1.25, 2.5, 5, 10, 20, MAXIMUM]


def test_slots_that_died_together_part_also_at_the_maximum():
    slots = [Backoff() for _ in range(20)]
    for _ in range(12):
        last = sorted(slot.delay(0.0) for slot in slots)
    assert all(first < second for first, second in itertools.pairwise(last)) and 18 <= last[0] <= last[-1] <= 30

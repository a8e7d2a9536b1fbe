"""The heap of timers, with moments instead of a clock."""

from heatperf.loops.timers import MANY_CANCELLED, Timers


def timers():
    armed = []
    return Timers(armed.append), armed


def called(found):
    return [timer.take()[1] for timer in found]


def test_order_and_arming():
    """Due ones come by their moment, then by their number; it is armed for the earliest and for nothing later."""
    heap, armed = timers()
    for when in (5.0, 3.0, 9.0, 3.0):
        heap.add(when, 0.0, print, (when, len(heap)))
    assert armed == [5.0, 3.0]
    assert called(heap.due(2.9)) == []
    assert called(heap.due(5.0)) == [(3.0, 1), (3.0, 3), (5.0, 0)]
    assert armed[-1] == 9.0 and len(heap) == 1
    heap.add(20.0, 0.0, print)
    assert armed[-1] == 9.0
    assert called(heap.due(30.0)) == [(9.0, 2), ()]
    heap.add(40.0, 0.0, print)
    assert armed[-1] == 40.0


def test_cancelled_before_it_is_due_and_before_it_is_called():
    heap, _ = timers()
    early, late = heap.add(1.0, 0.0, print), heap.add(1.0, 0.0, print)
    early.cancel()
    early.cancel()
    (found,) = heap.due(1.0)
    assert found is late
    late.cancel()
    assert late.take() is None


def test_once_means_once():
    heap, _ = timers()
    timer = heap.add(1.0, 0.0, print)
    heap.due(1.0)
    assert timer.take() and timer.take() is None


def test_repeated_turns_keep_their_rhythm_and_missed_ones_are_lost():
    heap, armed = timers()
    timer = heap.add(10.0, 2.0, print)
    assert len(heap.due(10.5)) == 1 and armed[-1] == 12.0
    assert len(heap.due(21.0)) == 1 and armed[-1] == 23.0
    timer.cancel()
    assert heap.due(30.0) == [] and len(heap) == 0


def test_cancelled_ones_do_not_pile_up():
    """A server sets a timeout for every call it makes and cancels nearly all of them."""
    heap, _ = timers()
    kept = [heap.add(1000.0 + number, 0.0, print, (number,)) for number in range(10)]
    for number in range(100 * MANY_CANCELLED):
        heap.add(500.0 + number, 60.0 * (number % 2), print).cancel()
        assert len(heap) <= 2 * MANY_CANCELLED + len(kept) + 1
    assert called(heap.due(2000.0)) == [(number,) for number in range(10)]

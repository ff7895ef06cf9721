"""What is due when."""

import random

from millstream_scheduler.timers import Due, Timers


def test_what_is_due_comes_earliest_first_and_nothing_before_its_time() -> None:
    timers = Timers()
    instants = list(range(100))
    random.Random(3).shuffle(instants)
    for at_ms in instants:
        timers.add(Due(at_ms, "timer", "r", at_ms))
    assert timers.next_ms == 0
    assert [due.at_ms for due in timers.take(49, entries_max=1000)] == list(range(50))
    assert timers.next_ms == 50
    assert timers.take(49, entries_max=1000) == []
    assert len(timers) == 50


def test_one_look_takes_a_bounded_number_and_the_next_takes_the_rest() -> None:
    timers = Timers()
    for action in range(10):
        timers.add(Due(1, "backoff", "r", action))
    first = timers.take(5, entries_max=4)
    second = timers.take(5, entries_max=100)
    assert [due.action for due in first + second] == list(range(10))
    assert timers.next_ms is None


def test_the_same_entry_twice_is_kept_twice() -> None:
    timers = Timers()
    due = Due(1, "grace", "r", 2, 3)
    timers.add(due)
    timers.add(due)
    assert timers.take(1, entries_max=9) == [due, due]


def test_an_empty_wheel_has_nothing_due() -> None:
    timers = Timers()
    assert timers.next_ms is None
    assert timers.take(10**18, entries_max=9) == []

from hypothesis import given
from hypothesis import strategies as st

from shared.queue_watch import Pressure, QueueWatch


def watch() -> QueueWatch:
    return QueueWatch(target_s=0.2, interval_s=0.5)


def test_a_queue_that_does_not_move_presses_more_and_more() -> None:
    queue = watch()
    queue.joined(10.0)
    queue.joined(10.4)
    seen = [queue.pressure(10.0 + after) for after in (0.1, 0.6, 0.71, 1.6, 1.71, 60)]
    assert seen == [Pressure.NONE, Pressure.NONE, Pressure.SOME, Pressure.SOME, Pressure.MUCH, Pressure.MUCH]


def test_one_that_did_not_wait_long_ends_it() -> None:
    queue = watch()
    slow = queue.joined(0.0)
    queue.joined(1.75)
    assert queue.pressure(1.8) is Pressure.MUCH
    queue.left(slow, 1.8)
    quick = queue.joined(1.8)
    assert queue.pressure(1.81) is Pressure.MUCH
    queue.left(quick, 1.85)
    assert queue.pressure(1.86) is Pressure.NONE


def test_an_empty_queue_is_no_reason_whatever_was_before() -> None:
    queue = watch()
    queue.left(queue.joined(0.0), 9.0)
    assert queue.pressure(9.0) is Pressure.NONE
    queue.joined(9.0)
    assert queue.pressure(9.6) is Pressure.NONE


def test_a_long_queue_that_moves_fast_is_no_reason() -> None:
    queue = watch()
    waiting = [(queue.joined(0.0), 0.0) for _ in range(100)]
    now = 0.0
    for _ in range(2000):
        now += 0.001
        ticket, _ = waiting.pop(0)
        queue.left(ticket, now)
        waiting.append((queue.joined(now), now))
        assert queue.pressure(now) is Pressure.NONE


def test_without_a_target_there_is_never_any_pressure() -> None:
    queue = QueueWatch(target_s=0.0)
    queue.joined(0.0)
    assert queue.pressure(100.0) is Pressure.NONE


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), max_size=80))
def test_pressure_never_comes_before_somebody_has_waited_beyond_the_target_for_the_interval(
    steps: list[tuple[float, bool]],
) -> None:
    queue, now, longest = watch(), 0.0, 0.0
    waiting: list[tuple[int, float]] = []
    for pause, joins in steps:
        now += pause
        if joins or not waiting:
            waiting.append((queue.joined(now), now))
        else:
            ticket, _ = waiting.pop(0)
            queue.left(ticket, now)
        longest = max([longest, *(now - since for _, since in waiting)])
        if queue.pressure(now):
            assert waiting
            assert longest >= 0.2
            assert now >= 0.7

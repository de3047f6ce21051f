"""The window: bounded in events and bytes, growing with acks, never closed to a single event."""

from hypothesis import given
from hypothesis import strategies as st

from hub.window import Window, WindowLimits


def test_it_ends_at_its_events_and_its_bytes() -> None:
    window = Window(WindowLimits(events=3, first_bytes=100, max_bytes=400))
    for seq in (1, 2, 3):
        assert window.take(seq, 10)
    assert not window.take(4, 1)
    window.release(1)
    assert not window.take(4, 181)
    assert window.take(4, 80)
    assert (window.used_events, window.used_bytes) == (3, 100)


def test_an_event_that_it_refuses_does_not_count() -> None:
    window = Window(WindowLimits(events=3, first_bytes=100, max_bytes=400))
    assert window.take(1, 60)
    assert not window.take(2, 60)
    assert (window.used_events, window.used_bytes) == (1, 60)


def test_an_ack_below_it_or_of_nothing_changes_nothing() -> None:
    window = Window(WindowLimits(events=3, first_bytes=100, max_bytes=400))
    window.release(7)
    assert window.take(8, 60)
    window.release(7)
    assert (window.used_events, window.budget) == (1, 100)


def test_an_empty_window_admits_an_event_of_any_size() -> None:
    window = Window(WindowLimits(events=3, first_bytes=100, max_bytes=400))
    assert window.take(1, 10_000)
    assert not window.take(2, 1)
    assert window.room_bytes == 0


def test_the_budget_grows_with_what_is_acked_up_to_its_limit() -> None:
    window = Window(WindowLimits(events=10, first_bytes=100, max_bytes=250))
    assert window.take(1, 100)
    window.release(1)
    assert window.budget == 200
    assert window.take(2, 200)
    window.release(2)
    assert window.budget == 250


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=200))
def test_it_never_holds_more_than_it_admits(steps: list[tuple[int, bool]]) -> None:
    limits = WindowLimits(events=8, first_bytes=200, max_bytes=600)
    window = Window(limits)
    unacked: list[tuple[int, int]] = []
    seq = 0
    for size, ack in steps:
        if ack and unacked:
            window.release(unacked[len(unacked) // 2][0])
            unacked = [one for one in unacked if one[0] > unacked[len(unacked) // 2][0]]
        elif window.take(seq + 1, size):
            seq += 1
            unacked.append((seq, size))
        assert window.used_events == len(unacked) <= limits.events
        assert window.used_bytes == sum(size for _, size in unacked)
        assert len(unacked) <= 1 or window.used_bytes <= limits.max_bytes
        assert limits.first_bytes <= window.budget <= limits.max_bytes


def test_a_limit_takes_nothing_back_and_holds_until_it_is_raised() -> None:
    window = Window(WindowLimits(events=10, first_bytes=100, max_bytes=400))
    for seq in (1, 2, 3):
        assert window.take(seq, 30)
    window.limit(50)
    assert (window.budget, window.room_bytes, window.used_bytes) == (50, 0, 90)
    assert not window.take(4, 1)
    window.release(2)
    assert window.budget == 50
    assert not window.take(4, 21)
    assert window.take(4, 20)
    window.limit(10_000)
    window.release(3)
    assert window.budget == 80
    assert (window.ceiling, window.acked_bytes) == (400, 90)

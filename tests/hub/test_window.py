"""The window: bounded in events and bytes, growing with acks, never closed to a single event."""

from hypothesis import given
from hypothesis import strategies as st

from hub.window import Window, WindowLimits


def test_it_ends_at_its_events_and_its_bytes() -> None:
    window = Window(WindowLimits(events=3, first_bytes=100, max_bytes=400))
    for seq in (1, 2, 3):
        assert window.admits(10)
        window.add(seq, 10)
    assert not window.admits(1)
    window.release(1)
    assert window.admits(80)
    assert not window.admits(91)


def test_an_empty_window_admits_an_event_of_any_size() -> None:
    window = Window(WindowLimits(events=3, first_bytes=100, max_bytes=400))
    assert window.admits(10_000)
    window.add(1, 10_000)
    assert not window.admits(1)
    assert window.room_bytes == 0


def test_the_budget_grows_with_what_is_acked_up_to_its_limit() -> None:
    window = Window(WindowLimits(events=10, first_bytes=100, max_bytes=250))
    window.add(1, 100)
    window.release(1)
    assert window.budget == 200
    window.add(2, 200)
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
        elif window.admits(size):
            seq += 1
            window.add(seq, size)
            unacked.append((seq, size))
        assert window.used_events == len(unacked) <= limits.events
        assert window.used_bytes == sum(size for _, size in unacked)
        assert len(unacked) <= 1 or window.used_bytes <= limits.max_bytes
        assert limits.first_bytes <= window.budget <= limits.max_bytes

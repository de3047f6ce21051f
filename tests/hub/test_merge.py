"""Where history and live events meet."""

from hypothesis import given
from hypothesis import strategies as st

from hub.merge import HELD_BYTES_MAX, HELD_MAX, Held, contiguous


def test_history_then_what_was_held_without_repeats() -> None:
    held = Held()
    for seq in (10, 9):
        held.put(seq, b"held")
    assert [seq for seq, _ in contiguous([(8, b""), (9, b"log")], held, 7)] == [8, 9, 10]
    assert len(held) == 0


def test_it_stops_at_a_hole() -> None:
    held = Held()
    held.put(12, b"")
    assert [seq for seq, _ in contiguous([(8, b""), (10, b"")], held, 7)] == [8]
    assert len(held) == 1


def test_what_is_held_is_bounded_in_number_and_bytes() -> None:
    held = Held()
    assert all(held.put(seq, b"") for seq in range(HELD_MAX))
    assert held.put(3, b"") is True
    assert held.put(HELD_MAX, b"") is False
    held.clear()
    assert held.put(1, b"x" * (HELD_BYTES_MAX + 1)) is True
    assert held.put(2, b"x") is False
    held.forget(0, 1)
    assert held.put(2, b"x") is True


@given(st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)), st.integers(0, 30))
def test_the_run_is_unbroken_and_complete(log: set[int], live: set[int], after: int) -> None:
    held = Held()
    for seq in live:
        held.put(seq, b"")
    history = [(seq, b"") for seq in sorted(log)]
    run = [seq for seq, _ in contiguous(history, held, after)]
    assert run == list(range(after + 1, after + 1 + len(run)))
    following = [seq for seq in sorted(log) if seq > after]
    unbroken = [seq for place, seq in enumerate(following) if seq == after + 1 + place]
    assert run[: len(unbroken)] == unbroken

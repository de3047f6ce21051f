"""The wheel gives everything back once, never early."""

from hypothesis import given
from hypothesis import strategies as st

from hub.wheel import Appointment, Wheel


@given(
    st.lists(st.floats(0, 50), max_size=50),
    st.lists(st.floats(0.01, 20), min_size=1, max_size=20),
)
def test_every_item_comes_back_once_when_it_is_due(dues: list[float], steps: list[float]) -> None:
    wheel: Wheel[tuple[int, float]] = Wheel(100.0)
    for number, due in enumerate(dues):
        wheel.schedule((number, 100.0 + due), 100.0 + due)
    now, seen = 100.0, []
    for step in [*steps, 100.0]:
        now += step
        for item in wheel.advance(now):
            assert item[1] <= now + 1e-9
            assert item[1] >= now - step - 0.25 - 1e-9
            seen.append(item)
    assert sorted(seen) == sorted((number, 100.0 + due) for number, due in enumerate(dues))
    assert len(wheel) == 0


def test_an_item_that_is_overdue_comes_with_the_next_tick() -> None:
    wheel: Wheel[str] = Wheel(10.0)
    wheel.advance(20.0)
    wheel.schedule("late", 5.0)
    assert wheel.advance(20.3) == ["late"]


def test_what_is_cancelled_is_not_kept_until_it_would_have_been_due() -> None:
    wheel: Wheel[Appointment[bytes]] = Wheel(10.0)
    appointment = Appointment(b"large")
    wheel.schedule(appointment, 30.0)
    appointment.cancel()
    assert [one.item for one in wheel.advance(30.1)] == [None]

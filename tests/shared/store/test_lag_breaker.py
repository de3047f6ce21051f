from hypothesis import given
from hypothesis import strategies as st

from shared.store.lag_breaker import LagBreaker, State, Trail


def closed() -> LagBreaker:
    breaker = LagBreaker(lag_max_s=0.1, cool_s=0.5, now=0)
    breaker.on_probe(0.0, 0.5)
    assert breaker.admit()
    breaker.on_read(True, 0.5)
    assert breaker.state is State.CLOSED
    return breaker


def test_it_begins_open_and_closes_by_a_read_that_tried() -> None:
    breaker = LagBreaker(lag_max_s=0.1, cool_s=0.5, now=0)
    assert not breaker.admit()
    breaker.on_probe(0.05, 0.4)
    assert not breaker.admit(), "not well for long enough"
    breaker.on_probe(0.05, 0.6)
    assert breaker.admit()
    assert not breaker.admit(), "one tries"
    breaker.on_read(None, 0.6)
    assert breaker.admit(), "that one said nothing about the copy, another may try"
    breaker.on_read(True, 0.6)
    assert breaker.admit()
    assert breaker.admit()


def test_a_late_or_silent_copy_opens_it_at_once_and_a_failed_read_too() -> None:
    for lag_s in (0.11, None):
        breaker = closed()
        breaker.on_probe(lag_s, 1.0)
        states = [breaker.state]
        for now in (1.4, 1.5):
            breaker.on_probe(0.0, now)
            states.append(breaker.state)
        assert states == [State.OPEN, State.OPEN, State.HALF_OPEN]
    breaker = closed()
    breaker.on_read(False, 1.0)
    assert not breaker.admit()


def test_a_try_that_fails_opens_it_again() -> None:
    breaker = LagBreaker(lag_max_s=0.1, cool_s=0.0, now=0)
    breaker.on_probe(0.0, 0.1)
    assert breaker.admit()
    breaker.on_read(False, 0.2)
    assert breaker.state is State.OPEN


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=60), st.integers(0, 400))
def test_lateness_is_the_age_of_the_oldest_place_that_is_missing(steps: list[tuple[int, int]], replayed: int) -> None:
    trail, now, lsn = Trail(), 0.0, 100
    places: list[tuple[float, int]] = []
    for seconds, bytes_written in steps:
        now, lsn = now + seconds, lsn + bytes_written
        trail.add(lsn, now)
        if not places or places[-1][1] != lsn:
            places.append((now, lsn))
    missing = [at for at, place in places if place > replayed]
    assert trail.lag_s(replayed, now) == (now - missing[0] if missing else 0.0)


def test_of_an_unknown_primary_no_lateness_is_known() -> None:
    trail = Trail()
    assert trail.lag_s(5, 1.0) is None
    trail.add(5, 1.0)
    assert trail.lag_s(5, 9.0) == 0.0
    trail.clear()
    assert trail.lag_s(5, 9.0) is None

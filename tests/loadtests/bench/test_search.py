"""The search for the highest rate that is held."""

from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.search import CLOSE_ENOUGH, TRIES_MAX, Try, best, next_rate


def search(limit: int, *, first: int = 1000, highest: int = 64_000) -> list[Try]:
    """All tries against something that holds exactly `limit`."""
    tries: list[Try] = []
    while (rate := next_rate(tries, first=first, highest=highest)) is not None:
        tries.append(Try(rate, rate <= limit))
    return tries


def test_it_doubles_and_then_halves_the_distance() -> None:
    assert [one.rate for one in search(5200)] == [1000, 2000, 4000, 8000, 6000, 5000, 5500]
    assert best(search(5200)) == 5000


def test_it_goes_down_when_even_the_first_rate_is_too_much() -> None:
    assert best(search(300)) in range(250, 301)


def test_it_ends_at_the_highest_rate_that_is_asked_for() -> None:
    assert [one.rate for one in search(10**9, highest=5000)] == [1000, 2000, 4000, 5000]


def test_nothing_held_is_said() -> None:
    assert best(search(0)) == 0


def test_a_rate_held_above_one_that_failed_was_luck() -> None:
    assert best([Try(1000, True), Try(2000, False), Try(4000, True)]) == 1000


@given(st.integers(min_value=200, max_value=60_000))
def test_it_ends_close_below_what_can_be_held(limit: int) -> None:
    tries = search(limit)
    assert len(tries) <= TRIES_MAX
    assert best(tries) <= limit < best(tries) * CLOSE_ENOUGH + 2 * len(tries)

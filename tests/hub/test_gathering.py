"""How long questions are left to gather."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.gathering import LONGEST_S, Gathering

SHORTEST_S = 0.003


def statements(rate: float, seconds: float) -> tuple[int, float]:
    """How many batches questions at an even rate make, and the longest pause in seconds."""
    gathering = Gathering(SHORTEST_S)
    now, asked, taken, count, longest = 0.0, 0.0, 0.0, 0, 0.0
    while now < seconds:
        now = max(now, asked)  # the first question of the next batch
        pause = gathering.delay(now)
        longest = max(longest, pause)
        now += pause
        gathering.took(int((now - taken) * rate), now)
        taken, asked, count = now, now + 1 / rate, count + 1
    return count, longest


def test_a_question_that_comes_alone_waits_a_few_milliseconds() -> None:
    gathering = Gathering(SHORTEST_S)
    assert gathering.delay(100.0) == SHORTEST_S
    gathering.took(1, 100.003)
    assert gathering.delay(500.0) == SHORTEST_S


def test_a_wave_of_five_thousand_in_three_seconds_takes_a_few_dozen_statements() -> None:
    count, longest = statements(rate=5000 / 3, seconds=3)
    assert count <= 40
    assert longest <= LONGEST_S


def test_a_steady_trickle_is_not_held_up() -> None:
    _, longest = statements(rate=50, seconds=10)
    assert longest == SHORTEST_S


def test_after_the_wave_the_pause_is_short_again() -> None:
    gathering = Gathering(SHORTEST_S)
    now = 0.0
    for _ in range(20):
        now += gathering.delay(now)
        gathering.took(500, now)
    assert gathering.delay(now) == pytest.approx(LONGEST_S)
    assert gathering.delay(now + 2 * LONGEST_S) == SHORTEST_S  # nobody came in between
    for _ in range(6):
        now += gathering.delay(now)
        gathering.took(1, now)
    assert gathering.delay(now) == SHORTEST_S


def test_a_lull_in_a_wave_costs_few_statements() -> None:
    gathering, now = Gathering(SHORTEST_S), 0.0
    for _ in range(20):
        now += gathering.delay(now)
        gathering.took(500, now)
    gathering.took(0, now + LONGEST_S)
    assert gathering.delay(now + LONGEST_S) == pytest.approx(LONGEST_S / 2)


def test_a_pause_that_was_set_longer_stays() -> None:
    gathering = Gathering(0.5)
    for now in (0.5, 1.0, 1.5):
        gathering.took(1000, now)
        assert gathering.delay(now) == 0.5


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 10, allow_nan=False)), max_size=50))
def test_nobody_waits_longer_than_the_longest_pause(batches: list[tuple[int, float]]) -> None:
    gathering, now = Gathering(SHORTEST_S), 0.0
    for count, later in batches:
        assert SHORTEST_S <= gathering.delay(now) <= LONGEST_S
        now += gathering.delay(now) + later
        gathering.took(count, now)

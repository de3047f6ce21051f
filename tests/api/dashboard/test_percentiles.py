"""Percentiles of the last minute, from counts that only rise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dashboard.percentiles import MinuteOfStages, Told, quantile

BOUNDS = (0.01, 0.1, 1.0)


def told(*counts: int) -> Told:
    return Told(BOUNDS, {"sent": counts})


def test_only_what_came_since_the_window_began_counts() -> None:
    minute = MinuteOfStages(60)
    minute.add("hub-1", told(100, 100, 100, 100), 0)
    minute.add("hub-1", told(100, 110, 110, 110), 30)
    count, values = minute.quantiles([0.5])["sent"]
    assert count == 10
    assert values == pytest.approx([0.055])
    minute.add("hub-1", told(100, 110, 110, 110), 91)
    assert minute.quantiles([0.5]) == {"sent": (0, [None])}


def test_hubs_add_up_and_one_that_was_restarted_begins_anew() -> None:
    minute = MinuteOfStages()
    for run in ("hub-1 a", "hub-2 a"):
        minute.add(run, told(0, 0, 0, 0), 0)
        minute.add(run, told(0, 4, 4, 4), 1)
    minute.add("hub-2 b", told(7, 7, 7, 7), 2)
    assert minute.quantiles([0.5])["sent"][0] == 8
    minute.keep(frozenset({"hub-2 b"}))
    assert minute.quantiles([0.5]) == {}


def test_what_is_above_all_bounds_is_said_as_the_last() -> None:
    assert quantile(BOUNDS, (0, 0, 0, 5), 0.5) == 1.0
    assert quantile(BOUNDS, (0, 0, 0, 0), 0.5) is None
    assert quantile(BOUNDS, (), 0.5) is None


@given(st.lists(st.floats(0, 0.999), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_value_that_it_stands_for(values: list[float], part: float) -> None:
    counts = [sum(value <= bound for value in values) for bound in (*BOUNDS, float("inf"))]
    found = quantile(BOUNDS, counts, part)
    assert found is not None
    rank = part * len(values)
    holder = next(value for number, value in enumerate(sorted(values), start=1) if number >= rank - 1e-9)
    upper = next(bound for bound in BOUNDS if holder <= bound)
    assert found <= upper + 1e-9

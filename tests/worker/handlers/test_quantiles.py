from bisect import bisect_left, bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.handlers.quantiles import QuantileSketch

FRACTIONS = [0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0]
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3).map(float)


@given(st.lists(numbers, min_size=1, max_size=600), st.sampled_from([8, 16, 64]))
def test_every_answer_is_a_value_of_the_stream_within_the_stated_error(values: list[float], capacity: int) -> None:
    sketch = QuantileSketch(capacity)
    for value in values:
        sketch.add(value)
    ordered = sorted(values)
    slack = sketch.rank_error * len(values)
    for fraction, answer in zip(FRACTIONS, sketch.quantiles(FRACTIONS), strict=True):
        lowest, highest = bisect_left(ordered, answer), bisect_right(ordered, answer)
        assert lowest < highest
        assert lowest - slack <= fraction * len(values) <= highest + slack + 1e-9


@given(st.lists(numbers, min_size=1, max_size=200))
def test_answers_rise(values: list[float]) -> None:
    sketch = QuantileSketch(8)
    for value in values:
        sketch.add(value)
    answers = sketch.quantiles(FRACTIONS)
    assert answers == sorted(answers)


def test_few_values_are_answered_exactly() -> None:
    sketch = QuantileSketch(1024)
    for value in range(101):
        sketch.add(float(value))
    assert sketch.rank_error == 0
    assert sketch.quantiles([0.0, 0.5, 1.0]) == [0.0, 50.0, 100.0]


def test_the_same_stream_gives_the_same_answers_and_little_is_kept() -> None:
    def build() -> QuantileSketch:
        sketch = QuantileSketch(256)
        for n in range(100_000):
            sketch.add(float(n * 7919 % 100_003))
        return sketch

    one, other = build(), build()
    assert one.quantiles(FRACTIONS) == other.quantiles(FRACTIONS)
    assert one.rank_error < 0.05
    assert sum(len(level) for level in one._levels) <= 256 * 12


def test_an_empty_sketch_has_no_quantiles() -> None:
    with pytest.raises(ValueError, match="no value"):
        QuantileSketch().quantiles([0.5])
    with pytest.raises(ValueError, match="even"):
        QuantileSketch(9)

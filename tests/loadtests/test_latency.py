"""Percentiles from buckets are within one percent of the truth."""

import math

from hypothesis import given
from hypothesis import strategies as st

from loadtests.driver.latency import Latencies


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=200), st.sampled_from([50, 90, 99, 100]))
def test_a_percentile_is_near_the_exact_one(samples: list[float], percent: float) -> None:
    exact = sorted(samples)[math.ceil(len(samples) * percent / 100) - 1]
    assert math.isclose(Latencies(samples).percentile(percent), exact, rel_tol=0.011)


def test_without_samples_there_is_no_percentile() -> None:
    assert math.isnan(Latencies().percentile(50))
    assert str(Latencies()) == "no samples"


def test_merged_runs_count_together() -> None:
    one, two = Latencies([1.0]), Latencies([100.0])
    one.merge(two)
    assert one.count == 2
    assert one.max_ms == 100.0

"""Backoff draws from zero, first try included, and never beyond its cap."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import Backoff, full_jitter


@given(st.integers(0, 10_000), st.integers())
def test_a_wait_is_between_zero_and_its_bound(attempt: int, seed: int) -> None:
    assert 0 <= full_jitter(attempt, Random(seed), base=0.5, cap=20) <= min(20, 0.5 * 2 ** min(attempt, 32))


def test_waits_grow_and_start_over_after_a_success() -> None:
    backoff = Backoff(Random(1), base=1, cap=1000)
    for _ in range(8):
        backoff.next()
    assert backoff.attempt == 8
    backoff.reset()
    assert backoff.next() <= 1

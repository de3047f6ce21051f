from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.retry import Again, Failure, GiveUp, RetryPolicy, after_failure

POLICY = RetryPolicy(max_attempts=4, base_s=2.0, cap_s=10.0, floor_s=0.1)


def test_a_permanent_failure_is_not_tried_again() -> None:
    assert after_failure(POLICY, Failure("no", permanent=True), attempt=1, expires_in_s=None, rand=Random(1)) == GiveUp(
        "permanent"
    )


def test_the_last_attempt_ends_the_tries() -> None:
    assert isinstance(after_failure(POLICY, Failure("x"), attempt=3, expires_in_s=None, rand=Random(1)), Again)
    assert after_failure(POLICY, Failure("x"), attempt=4, expires_in_s=None, rand=Random(1)) == GiveUp("attempts")


def test_a_retry_after_the_time_to_live_is_not_begun() -> None:
    assert after_failure(POLICY, Failure("x"), attempt=1, expires_in_s=0.05, rand=Random(1)) == GiveUp("expired")
    assert after_failure(POLICY, Failure("x"), attempt=1, expires_in_s=-1.0, rand=Random(1)) == GiveUp("expired")


@given(st.integers(1, 100), st.integers(), st.none() | st.floats(-10, 1e6))
def test_delays_are_bounded_and_end_within_the_time_to_live(
    attempt: int, seed: int, expires_in_s: float | None
) -> None:
    verdict = after_failure(POLICY, Failure("x"), attempt=attempt, expires_in_s=expires_in_s, rand=Random(seed))
    if isinstance(verdict, Again):
        assert attempt < POLICY.max_attempts
        assert POLICY.floor_s <= verdict.delay_s <= min(POLICY.cap_s, POLICY.base_s * 2 ** (attempt - 1))
        assert expires_in_s is None or verdict.delay_s < expires_in_s


def test_delays_differ_so_that_jobs_that_failed_together_do_not_return_together() -> None:
    delays = {
        verdict.delay_s
        for seed in range(50)
        if isinstance(
            verdict := after_failure(POLICY, Failure("x"), attempt=3, expires_in_s=None, rand=Random(seed)), Again
        )
    }
    assert len(delays) == 50


def test_a_policy_that_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="max_attempts"):
        RetryPolicy(max_attempts=0)


def test_attempts_at_a_store_that_is_away_end_only_with_the_time_to_live() -> None:
    away = Failure("away", outage=True)
    for tries in (4, 100, 10**6):
        verdict = after_failure(POLICY, away, attempt=tries, expires_in_s=3600.0, rand=Random(tries))
        assert isinstance(verdict, Again)
        assert verdict.delay_s <= min(POLICY.cap_s, POLICY.outage_cap_s)
    assert after_failure(POLICY, away, attempt=4, expires_in_s=0.05, rand=Random(1)) == GiveUp("expired")


def test_whoever_was_told_when_to_come_back_does_not_come_before() -> None:
    failure = Failure("busy", outage=True, after_s=5.0)
    for seed in range(20):
        verdict = after_failure(POLICY, failure, attempt=9, expires_in_s=None, rand=Random(seed))
        assert isinstance(verdict, Again)
        assert 5.0 < verdict.delay_s <= 5.0 + POLICY.base_s
    late = after_failure(POLICY, Failure("x", after_s=1e9), attempt=1, expires_in_s=None, rand=Random(1))
    assert isinstance(late, Again)
    assert late.delay_s <= POLICY.cap_s + POLICY.base_s


def test_an_error_is_something_that_a_database_can_hold() -> None:
    assert Failure("a\x00b\udc80c ü").error == "a\\x00b\\udc80c ü"

"""The bucket of calls: no minute has more than the limit, turns are taken in order, a pause is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cloud.call_bucket import CallBucket, CallLimit

LIMIT = CallLimit(1200)


@given(st.lists(st.tuples(st.floats(0, 3), st.sampled_from([1, 2, 5])), min_size=1, max_size=400))
def test_no_minute_has_more_than_the_limit_whenever_it_begins(calls: list[tuple[float, int]]) -> None:
    limit = CallLimit(120)
    bucket, now, made = CallBucket(limit), 1000.0, []
    for gap, cost in calls:
        now += gap
        taken, wait_s = bucket.reserve(now, cost, wait_max_s=30)
        if taken:
            made.append((now + wait_s, cost))
    for begin, _ in made:
        assert sum(cost for at, cost in made if begin <= at < begin + 60) <= 120 + 1e-6


@given(st.lists(st.floats(0, 0.2), min_size=2, max_size=300))
def test_turns_come_in_the_order_in_which_they_were_asked_for(gaps: list[float]) -> None:
    bucket, now, before = CallBucket(LIMIT), 0.0, 0.0
    for gap in gaps:
        now += gap
        _, wait_s = bucket.reserve(now, 5, wait_max_s=60)
        assert now + wait_s >= before - 1e-9
        before = now + wait_s


def test_a_turn_that_is_too_far_off_is_not_taken() -> None:
    bucket = CallBucket(LIMIT)
    waits = [bucket.reserve(0.0, 5, wait_max_s=1.0) for _ in range(60)]
    assert [taken for taken, _ in waits] == [True] * 43 + [False] * 17
    assert waits[-1] == waits[-2]
    assert bucket.reserve(60.0, 5, wait_max_s=0.0) == (True, 0.0)


def test_after_a_pause_calls_come_one_by_one() -> None:
    bucket = CallBucket(LIMIT)
    bucket.pause(0.0, 10)
    assert bucket.reserve(0.0, 1, wait_max_s=5)[0] is False
    first = bucket.reserve(0.0, 1, wait_max_s=30)
    second = bucket.reserve(0.0, 1, wait_max_s=30)
    assert first[0]
    assert first[1] == pytest.approx(10 + LIMIT.unit_s)
    assert second[1] - first[1] == pytest.approx(LIMIT.unit_s)


def test_a_pause_is_never_made_shorter_and_has_an_end() -> None:
    bucket = CallBucket(LIMIT)
    bucket.pause(0.0, 60)
    bucket.pause(1.0, 2)
    assert bucket.reserve(1.0, 1, wait_max_s=100)[1] > 59
    bucket.pause(0.0, 1e9)
    assert bucket.reserve(0.0, 1, wait_max_s=1e9)[1] < 3700


def test_a_share_is_that_part_of_the_limit_and_a_call_larger_than_the_bucket_still_gets_its_turn() -> None:
    small = CallBucket(CallLimit(12).share(4))
    assert small.limit.per_minute == 3
    taken, wait_s = small.reserve(0.0, 5, wait_max_s=0)
    assert (taken, wait_s) == (True, 0.0)

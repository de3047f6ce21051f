from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cloud.retrying import ONCE, RetryPolicy, Trouble, http_date, retry_after_s, trouble_of

POLICY = RetryPolicy(tries=5, total_s=60, base_s=0.5, cap_s=15)


@given(st.sampled_from(Trouble), st.integers(1, 10), st.floats(0, 100), st.booleans(), st.integers(0, 9))
def test_tries_and_time_are_bounded_and_what_may_have_happened_is_repeated_only_if_it_may(
    trouble: Trouble, made: int, spent_s: float, repeatable: bool, seed: int
) -> None:
    wait_s = POLICY.wait_s(trouble, made=made, spent_s=spent_s, rand=Random(seed), repeatable=repeatable)
    if wait_s is None:
        may_have_happened = trouble in (Trouble.BROKEN, Trouble.FAILED)
        assert made >= 5 or (may_have_happened and not repeatable) or spent_s + 15 > 60
    else:
        assert made < 5
        assert 0 <= wait_s <= min(15, 0.5 * 2 ** (made - 1))
        assert spent_s + wait_s <= 60
        assert repeatable or trouble in (Trouble.UNSENT, Trouble.REFUSED)


@given(st.floats(0, 58), st.integers(0, 99))
def test_nobody_comes_back_before_the_provider_said(told_s: float, seed: int) -> None:
    wait_s = POLICY.wait_s(
        Trouble.REFUSED, made=1, spent_s=0, rand=Random(seed), repeatable=False, retry_after_s=told_s
    )
    assert wait_s is not None
    assert told_s <= wait_s <= told_s + 1


def test_a_wait_longer_than_the_time_left_is_the_callers_to_decide() -> None:
    ask = {"made": 1, "rand": Random(1), "repeatable": True}
    assert POLICY.wait_s(Trouble.REFUSED, spent_s=0, retry_after_s=61, **ask) is None  # type: ignore[arg-type]
    assert ONCE.wait_s(Trouble.UNSENT, spent_s=0, **ask) is None  # type: ignore[arg-type]


def test_statuses_say_what_became_of_a_request() -> None:
    assert trouble_of(429) is Trouble.REFUSED
    assert {trouble_of(status) for status in (500, 502, 503, 504)} == {Trouble.FAILED}
    assert {trouble_of(status) for status in (200, 308, 401, 404, 409, 410, 412, 507)} == {None}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("999999999", 86_400.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 37.0),
        ("Sun, 06 Nov 1994 08:48:37 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("1_0", None),
        ("٣", None),
        ("9" * 400, None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, now=784_111_740.0) == seconds


def test_a_date_is_read_as_utc() -> None:
    assert http_date("Sun, 06 Nov 1994 08:49:37 GMT") == 784_111_777

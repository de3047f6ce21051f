from hypothesis import given
from hypothesis import strategies as st

from shared.token_bucket import TokenBucket


def test_after_a_burst_it_says_when_to_come_again() -> None:
    bucket = TokenBucket(2.0, 3.0, 100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(100.25) == 0.25
    assert bucket.take(100.5) == 0.0
    assert bucket.take(99.0) > 0.0, "a clock that goes back fills nothing"


@given(st.lists(st.floats(0, 5), max_size=60), st.floats(0.1, 20), st.floats(1, 10))
def test_never_more_than_a_burst_and_what_time_brought(pauses: list[float], per_s: float, burst: float) -> None:
    bucket, now, taken = TokenBucket(per_s, burst, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now) == 0.0
        assert taken <= burst + now * per_s + 1e-6

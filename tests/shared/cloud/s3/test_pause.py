"""One refusal holds everybody up, each longer than the last, and no longer than is bearable."""

from random import Random

import pytest

from shared.cloud.errors import RateLimited
from shared.cloud.s3.pause import Pause


class Clock:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pause(clock: Clock) -> Pause:
    return Pause("s3", wait_max_s=5.0, rand=Random(1), time=clock.time, sleep=clock.sleep)


async def test_nobody_waits_before_a_refusal(pause: Pause, clock: Clock) -> None:
    await pause.heard(200, {}, None)
    await pause.admit(1.0)
    assert clock.now == 100.0


async def test_after_one_everybody_waits_and_longer_after_the_next(pause: Pause, clock: Clock) -> None:
    waits = []
    for _ in range(4):
        await pause.heard(429, {}, None)
        await pause.heard(429, {}, None)
        waits.append(pause.left_s)
        clock.now += pause.left_s + 0.1
    assert waits == [0.5, 1.0, 2.0, 4.0], "those under way when the first was refused count once"
    clock.now += 60
    await pause.heard(200, {}, None)
    await pause.heard(429, {}, None)
    assert pause.left_s == 0.5, "calm has come back"
    began = clock.now
    await pause.admit(1.0)
    assert 0.5 <= clock.now - began < 1.0


async def test_what_s3_says_itself_counts_and_what_lasts_too_long_is_refused(pause: Pause, clock: Clock) -> None:
    await pause.heard(429, {}, 3.0)
    assert pause.left_s == 3.0
    await pause.heard(429, {}, 60.0)
    with pytest.raises(RateLimited) as caught:
        await pause.admit(1.0)
    assert caught.value.retry_after_s == 60.0
    assert clock.now == 100.0

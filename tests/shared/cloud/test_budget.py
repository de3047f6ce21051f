"""The budget of calls that processes share: one limit, one pause, and what holds while Redis is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from loadtests.ports import free_port
from shared.bus.redis_client import LazyRedis
from shared.cloud.budget import CallBudget
from shared.cloud.call_bucket import CallLimit
from shared.cloud.errors import RateLimited
from tests.conftest import ServerFactory

LIMIT = CallLimit(60)  # ten at once, then one in 1.2 seconds


class Sleeps:
    """A clock that sleeping moves on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@asynccontextmanager
async def redis_at(url: str) -> AsyncIterator[LazyRedis]:
    redis = LazyRedis(url, deadline_s=2.0, ask_s=2.0)
    try:
        yield redis
    finally:
        await redis.aclose()


def budget(
    redis: LazyRedis | None, sleeps: Sleeps, tenant: str, *, wait_max_s: float = 30.0, redis_s: float = 10.0
) -> CallBudget:
    return CallBudget(
        tenant,
        store="sharepoint",
        limit=LIMIT,
        redis=redis,
        wait_max_s=wait_max_s,
        redis_s=redis_s,
        time=sleeps.time,
        sleep=sleeps.sleep,
    )


async def test_two_processes_have_one_limit(redis_url: str) -> None:
    tenant, sleeps = f"graph:{uuid4()}", Sleeps()
    async with redis_at(redis_url) as first, redis_at(redis_url) as second:
        one, two = budget(first, sleeps, tenant), budget(second, sleeps, tenant)
        for _ in range(5):
            await one.admit(1)
            await two.admit(1)
        assert not sleeps.slept
        await one.admit(1)
        await two.admit(1)
    assert sleeps.slept == [pytest.approx(1.2, abs=1.0), pytest.approx(2.4, abs=1.0)]


async def test_a_rate_limit_pauses_every_call_here_and_in_the_other_process(redis_url: str) -> None:
    tenant, sleeps = f"graph:{uuid4()}", Sleeps()
    async with redis_at(redis_url) as first, redis_at(redis_url) as second:
        one, two = budget(first, sleeps, tenant), budget(second, sleeps, tenant)
        await one.heard(429, {}, 20.0)
        assert one.paused_s == 20
        await two.admit(1)
        assert 19 < sleeps.slept[0] <= 22.5
        await one.heard(429, {}, 600.0)
        with pytest.raises(RateLimited) as refused:
            await two.admit(1)
        assert 500 < refused.value.retry_after_s < 605
        with pytest.raises(RateLimited):
            await one.admit(1)


async def test_a_pause_that_comes_while_calls_wait_holds_for_them_too() -> None:
    sleeps = Sleeps()
    alone = budget(None, sleeps, "graph:a")
    await alone.pause(5)
    waiting = sleeps.sleep

    async def told_again(seconds: float) -> None:
        await waiting(seconds)
        if len(sleeps.slept) == 1:
            await alone.pause(8)

    alone._sleep = told_again
    await alone.admit(1)
    assert sleeps.now >= 113


@pytest.mark.parametrize(
    ("status", "headers", "retry_after_s", "paused"),
    [
        (429, {}, None, 5),
        (503, {}, 7.0, 7),
        (503, {}, None, 0),
        (200, {}, None, 0),
        (200, {"ratelimit-remaining": "0", "ratelimit-reset": "9"}, None, 9),
        (200, {"ratelimit-remaining": "3", "ratelimit-reset": "9"}, None, 0),
        (200, {"ratelimit-remaining": "0", "ratelimit-reset": "soon"}, None, 0),
    ],
)
async def test_what_pauses_and_what_does_not(
    status: int, headers: dict[str, str], retry_after_s: float | None, paused: float
) -> None:
    alone = budget(None, Sleeps(), "graph:a")
    await alone.heard(status, headers, retry_after_s)
    assert alone.paused_s == paused


async def test_while_redis_is_away_a_process_keeps_to_its_share_and_does_not_wait_for_redis() -> None:
    sleeps = Sleeps()
    async with redis_at(f"redis://127.0.0.1:{free_port()}") as redis:
        alone = budget(redis, sleeps, "graph:a", wait_max_s=5)
        for _ in range(3):  # of the sixty a minute it has fifteen, two and a half of them at once
            await alone.admit(1)
        assert sleeps.slept == [pytest.approx(2.4)]
        sleeps.slept.clear()
        await alone.admit(1)
        assert sleeps.slept == [pytest.approx(4.8)]


async def test_it_comes_back_to_redis_once_that_answers_again(valkey_server: ServerFactory) -> None:
    server, sleeps, tenant = valkey_server(), Sleeps(), f"graph:{uuid4()}"
    async with redis_at(server.url) as first, redis_at(server.url) as second:
        one, two = (budget(redis, sleeps, tenant, redis_s=0.5) for redis in (first, second))
        server.pause()
        await one.admit(1)
        server.resume()
        async with asyncio.timeout(20):
            while True:
                sleeps.now += 3
                await one.pause(9)
                await two.pause(0.001)
                await two.admit(1)
                if sleeps.slept and sleeps.slept[-1] > 8:
                    break

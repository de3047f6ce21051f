"""Buckets in Redis: what passes, what is said to the rest, what is kept, in one Redis and in a cluster."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from loadtests.ports import free_port
from loadtests.valkey_cluster import ValkeyCluster
from shared.bus.names import rate_bucket, shared_rate_bucket
from shared.bus.redis_client import REDIS_ERRORS, LazyRedis
from shared.bus.token_buckets import TokenBuckets
from shared.rate_limits import GLOBAL, Asked, Limit
from tests.conftest import ServerFactory

SLOW = Limit("truck", 5, 5 / 60)  # a token in twelve seconds: none comes while a test runs


@asynccontextmanager
async def buckets(url: str, *, deadline_s: float = 5.0) -> AsyncIterator[tuple[TokenBuckets, LazyRedis]]:
    redis = LazyRedis(url, deadline_s=deadline_s, ask_s=deadline_s)
    try:
        yield TokenBuckets(redis, deadline_s=deadline_s), redis
    finally:
        await redis.aclose()


def names(prefix: str = "device") -> tuple[str, str]:
    return f"{prefix}:{uuid4()}", f"{prefix}:{uuid4()}"


async def test_a_full_bucket_passes_at_once_and_each_refused_is_told_to_come_one_token_later(redis_url: str) -> None:
    truck, other = names()
    async with buckets(redis_url) as (taken, _):
        verdicts = await taken.take([Asked(truck, SLOW, 1)] * 7 + [Asked(other, SLOW, 1)], None)
    assert [one.refused_by for one in verdicts] == [None] * 5 + ["truck"] * 2 + [None]
    assert [int(one.left) for one in verdicts[:5]] == [4, 3, 2, 1, 0]
    assert verdicts[5].wait_s == pytest.approx(12, abs=0.1)
    assert verdicts[6].wait_s == pytest.approx(24, abs=0.1)
    assert verdicts[7].left == pytest.approx(4)


async def test_the_wait_that_was_told_is_enough(redis_url: str) -> None:
    [truck, _], quick = names(), Limit("truck", 2, 20.0)
    async with buckets(redis_url) as (taken, _):
        verdicts = await taken.take([Asked(truck, quick, 1)] * 3, None)
        assert 0 < verdicts[2].wait_s <= 0.05
        await asyncio.sleep(verdicts[2].wait_s)
        [again] = await taken.take([Asked(truck, quick, 1)], None)
    assert again.refused_by is None


async def test_calls_at_once_from_several_processes_share_one_bucket(redis_url: str) -> None:
    truck, _ = names()
    async with buckets(redis_url) as (one, _), buckets(redis_url) as (two, _):
        verdicts = await asyncio.gather(*[a.take([Asked(truck, SLOW, 1)], None) for a in (one, two) * 10])
    assert sum(found[0].refused_by is None for found in verdicts) == 5


async def test_costs_are_parts_of_a_token_or_several_and_never_more_than_a_bucket(redis_url: str) -> None:
    truck, other = names()
    async with buckets(redis_url) as (taken, _):
        small = await taken.take([Asked(truck, SLOW, 0.2)] * 26, None)
        large = await taken.take([Asked(other, SLOW, 1000)] * 2, None)
    assert [one.refused_by for one in small] == [None] * 25 + ["truck"]
    assert [one.refused_by for one in large] == [None, "truck"]


async def test_the_shared_bucket_refuses_and_takes_nothing_from_the_callers_own(redis_url: str) -> None:
    truck, other = names()
    shared = Limit(GLOBAL, 3, 0.01)
    async with buckets(redis_url) as (taken, _):
        verdicts = await taken.take([Asked(truck, SLOW, 1)] * 4 + [Asked(other, None, 1)], shared)
    assert [one.refused_by for one in verdicts] == [None] * 3 + [GLOBAL] * 2
    assert verdicts[3].left == pytest.approx(2)


async def test_a_bucket_that_is_full_again_is_no_key(redis_url: str) -> None:
    truck, other = names()
    async with buckets(redis_url) as (taken, redis):
        await taken.take([Asked(truck, SLOW, 1), Asked(other, SLOW, 0)], Limit(GLOBAL, 1000, 1000))
        client = await redis.get()
        assert 11_000 < await client.pttl(rate_bucket(truck)) <= 12_000
        assert not await client.exists(rate_bucket(other))
        assert await client.pttl(shared_rate_bucket()) <= 1


async def test_what_else_is_under_the_key_counts_as_a_full_bucket(redis_url: str) -> None:
    truck, other = names()
    async with buckets(redis_url) as (taken, redis):
        client = await redis.get()
        await client.set(rate_bucket(truck), "nonsense")
        await client.set(rate_bucket(other), "99999999999999999 99999999999999999")
        verdicts = await taken.take([Asked(truck, SLOW, 1), Asked(other, SLOW, 1)], None)
    assert verdicts[0].refused_by is None
    # A clock that was set back makes nobody wait longer than for a whole bucket.
    assert verdicts[1].refused_by == "truck"
    assert verdicts[1].wait_s <= 60.001


async def test_a_redis_that_is_away_or_hangs_is_an_error_in_time(valkey_server: ServerFactory) -> None:
    async with buckets(f"redis://127.0.0.1:{free_port()}", deadline_s=0.5) as (taken, _):
        with pytest.raises(REDIS_ERRORS):
            await taken.take([Asked("device:a", SLOW, 1)], None)
    server = valkey_server()
    async with buckets(server.url, deadline_s=0.5) as (taken, _):
        assert (await taken.take([Asked("device:a", SLOW, 1)], None))[0].refused_by is None
        server.pause()
        with pytest.raises(REDIS_ERRORS):
            await taken.take([Asked("device:a", SLOW, 1)], None)
        server.resume()
        async with asyncio.timeout(20):
            while True:
                try:
                    await taken.take([Asked("device:b", SLOW, 1)], None)
                    break
                except REDIS_ERRORS:
                    continue


async def test_in_a_cluster_the_buckets_lie_on_several_nodes_and_the_shared_one_holds_for_all(
    valkey_cluster: ValkeyCluster,
) -> None:
    callers = [f"device:{uuid4()}" for _ in range(40)]
    shared = Limit(GLOBAL, 60, 0.01)
    async with buckets(valkey_cluster.url) as (taken, redis):
        await (await redis.get()).delete(shared_rate_bucket())
        first = await taken.take([Asked(caller, SLOW, 1) for caller in callers], shared)
        second = await taken.take([Asked(caller, SLOW, 1) for caller in callers], shared)
        third = await taken.take([Asked(callers[0], SLOW, 1)] * 10, None)
        await (await redis.get()).delete(shared_rate_bucket())
    assert [one.refused_by for one in first] == [None] * 40
    assert sum(one.refused_by == GLOBAL for one in second) == 20
    assert all(3 <= one.left < 3.1 for one in second)
    assert [one.refused_by for one in third] == [None] * 3 + ["truck"] * 7

"""Answers in Redis: the newest stays, and whatever Redis does, nobody waits for long and nobody fails."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from loadtests.ports import free_port
from loadtests.valkey_cluster import ValkeyCluster
from shared.bus.names import template_entry
from shared.bus.redis_client import LazyRedis
from shared.bus.versioned_cache import KeptAnswer, VersionedCache
from tests.conftest import ServerFactory

KEY = "fw:template:1:x"


@asynccontextmanager
async def cache(url: str, *, deadline_s: float = 5.0, **options: Any) -> AsyncIterator[VersionedCache]:
    made = VersionedCache(LazyRedis(url, deadline_s=deadline_s), ttl_s=3600, deadline_s=deadline_s, **options)
    try:
        yield made
    finally:
        await made.aclose()


async def kept(one: VersionedCache, answer: KeptAnswer) -> KeptAnswer | None:
    """What is there once all writes are done."""
    one.put(KEY, answer)
    async with asyncio.timeout(10):
        while one._writes:
            await asyncio.sleep(0)
    return await one.get(KEY)


async def test_an_answer_is_replaced_by_a_newer_one_only(redis_url: str) -> None:
    async with cache(redis_url) as one:
        assert await one.get(KEY) is None
        first, second, late = (KeptAnswer(n, 1_700_000_000_000_000 + n, b"%d" % n) for n in (1, 2, 1))
        assert await kept(one, first) == first
        assert await kept(one, second) == second
        assert await kept(one, late) == second
        # The same number given out again after commits were lost is newer by its time.
        again = KeptAnswer(2, second.at_us + 1, b"another")
        assert await kept(one, again) == again
        redis = await one._redis.get()
        assert 3_500_000 < await redis.pttl(KEY) <= 3_600_000


async def test_what_nobody_of_ours_wrote_is_no_answer(redis_url: str) -> None:
    async with cache(redis_url) as one:
        redis = await one._redis.get()
        for entry in (["version", "x", "at", "1", "body", "b"], ["version", "1", "at", "1"], ["body", "b"]):
            await redis.delete(KEY)
            await redis.execute_command("HSET", KEY, *entry)
            assert await one.get(KEY) is None
        await redis.delete(KEY)
        await redis.lpush(KEY, "a list")
        assert await one.get(KEY) is None
        # That is no reason to leave Redis alone.
        await redis.delete(KEY)
        answer = KeptAnswer(1, 1, b"\x00\xff")
        assert await kept(one, answer) == answer


async def test_a_redis_that_is_away_or_hangs_is_left_alone_for_a_while_and_asked_again(
    valkey_server: ServerFactory,
) -> None:
    now = 0.0
    async with cache(f"redis://127.0.0.1:{free_port()}/0") as away:
        assert await away.get(KEY) is None
    server = valkey_server()
    async with cache(server.url, deadline_s=0.3, clock=lambda: now) as one:
        answer = KeptAnswer(1, 1, b"body")
        assert await kept(one, answer) == answer
        server.pause()
        assert await one.get(KEY) is None
        began = time.monotonic()
        for _ in range(20):
            assert await one.get(KEY) is None
        assert time.monotonic() - began < 5  # each of them waiting would take longer
        server.resume()
        now = 10.0
        async with asyncio.timeout(10):
            while await one.get(KEY) != answer:
                now += 10.0


async def test_many_writes_at_once_are_bounded(redis_url: str) -> None:
    async with cache(redis_url) as one:
        for n in range(1000):
            one.put(f"{KEY}{n}", KeptAnswer(1, 1, b"x"))
        assert len(one._writes) <= 64


async def test_entries_lie_on_whichever_node_of_a_cluster_has_them(valkey_cluster: ValkeyCluster) -> None:
    async with cache(valkey_cluster.url) as one:
        answers = {template_entry(UUID(int=n)): KeptAnswer(n, n, b"%d" % n) for n in range(1, 21)}
        for key, answer in answers.items():
            one.put(key, answer)
        async with asyncio.timeout(10):
            while one._writes:
                await asyncio.sleep(0)
        assert {key: await one.get(key) for key in answers} == answers

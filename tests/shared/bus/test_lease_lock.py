"""Locks tell apart: ours, another's, and a Redis that cannot be asked."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from loadtests.ports import free_port
from shared.bus.lease_lock import Held, LeaseLocks
from shared.bus.names import lease_lock
from shared.bus.redis_client import LazyRedis
from tests.conftest import ServerFactory

NAMES = [f"local/{n}" for n in range(64)]


@asynccontextmanager
async def client(url: str, deadline_s: float = 1.0) -> AsyncIterator[LazyRedis]:
    redis = LazyRedis(url, deadline_s=deadline_s)
    try:
        yield redis
    finally:
        await redis.aclose()


async def test_sixty_four_locks_are_taken_in_one_call_and_are_anothers_to_everybody_else(redis_url: str) -> None:
    async with client(redis_url) as redis:
        mine, theirs = LeaseLocks(redis, owner="watcher-1"), LeaseLocks(redis, owner="watcher-2")
        assert set((await mine.hold(NAMES)).values()) == {Held.MINE}
        assert set((await theirs.hold(NAMES)).values()) == {Held.ANOTHERS}
        assert set((await mine.hold(NAMES)).values()) == {Held.MINE}
        assert await mine.hold([]) == {}


async def test_only_the_owner_can_give_a_lock_back(redis_url: str) -> None:
    async with client(redis_url) as redis:
        mine, theirs = LeaseLocks(redis, owner="watcher-1"), LeaseLocks(redis, owner="watcher-2")
        await mine.hold(["a", "b"])
        await theirs.release(["a", "b"])
        assert await theirs.hold(["a"]) == {"a": Held.ANOTHERS}
        await mine.release(["a"])
        assert await theirs.hold(["a", "b"]) == {"a": Held.MINE, "b": Held.ANOTHERS}


async def test_a_lock_that_is_not_renewed_ends_and_one_that_is_does_not(redis_url: str) -> None:
    async with client(redis_url) as redis:
        locks = LeaseLocks(redis, owner="watcher-1", ttl_s=30.0)
        await locks.hold(["a"])
        await (await redis.get()).pexpire(lease_lock("a"), 5000)
        await locks.hold(["a"])
        assert 29_000 < await (await redis.get()).pttl(lease_lock("a")) <= 30_000


async def test_a_lock_that_a_flush_took_is_taken_back_by_its_owner(redis_url: str) -> None:
    async with client(redis_url) as redis:
        locks = LeaseLocks(redis, owner="watcher-1")
        await locks.hold(["a"])
        await (await redis.get()).flushall()
        assert await locks.hold(["a"]) == {"a": Held.MINE}


async def test_a_redis_that_is_away_cannot_be_asked() -> None:
    async with client(f"redis://127.0.0.1:{free_port()}/0") as redis:
        locks = LeaseLocks(redis, owner="watcher-1")
        assert await locks.hold(["a", "b"]) == {"a": Held.UNKNOWN, "b": Held.UNKNOWN}
        await locks.release(["a"])


async def test_a_redis_that_hangs_cannot_be_asked_and_says_so_in_time(valkey_server: ServerFactory) -> None:
    server = valkey_server()
    async with client(server.url) as redis:
        locks = LeaseLocks(redis, owner="watcher-1", deadline_s=0.2)
        assert await locks.hold(["a"]) == {"a": Held.MINE}
        server.pause()
        began = time.monotonic()
        assert await locks.hold(["a"]) == {"a": Held.UNKNOWN}
        assert time.monotonic() - began < 0.6
        server.resume()
        assert await locks.hold(["a"]) == {"a": Held.MINE}
        assert await LeaseLocks(redis, owner="watcher-2").hold(["a"]) == {"a": Held.ANOTHERS}


async def test_a_redis_that_is_full_cannot_be_asked(valkey_server: ServerFactory) -> None:
    server = valkey_server(**{"maxmemory-policy": "noeviction"})
    async with client(server.url) as redis:
        await (await redis.get()).config_set("maxmemory", "1")
        assert await LeaseLocks(redis, owner="watcher-1").hold(["a"]) == {"a": Held.UNKNOWN}

"""Retention is carried out by itself, by one worker at a time, and survives an absent Postgres."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from random import Random

from shared.store import leases, log
from shared.store.log import PageRequest, Retention
from shared.store.pool import Pool, open_pool
from tests.servers import ServerProcess
from tests.shared.store.samples import event, make_devices
from worker.left_places import LeftPlaces
from worker.retention_loop import LEASE, RetentionLoop

AT_ONCE = Retention(acked=timedelta(0), any=timedelta(0), keys=timedelta(0))


def keeper(pool: Pool, owner: str = "w1") -> RetentionLoop:
    return RetentionLoop(pool, AT_ONCE, [LeftPlaces(pool, {})], owner=owner, period_s=0.01, rand=Random(1))


async def floor_of(pool: Pool, device_id: str) -> int:
    return (await log.read_pages(pool, [PageRequest(device_id, 0)]))[device_id].floor


async def test_what_may_go_goes_by_itself(database_url: str) -> None:
    pool = await open_pool(database_url, name="test")
    await make_devices(pool, "a")
    await log.append_committed(pool, [event("a", str(number)) for number in range(5)])
    running = asyncio.create_task(keeper(pool).run())
    async with asyncio.timeout(5):
        while await floor_of(pool, "a") < 5:
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    await pool.close()


async def test_one_worker_does_it_at_a_time_and_gives_the_lease_back(database_url: str) -> None:
    pool = await open_pool(database_url, name="test")
    await make_devices(pool, "a")
    await log.append_committed(pool, [event("a", "1")])
    await leases.ensure(pool, [LEASE])
    held = await leases.claim(pool, [LEASE], "other", ttl_s=30, limit=1)
    assert await keeper(pool).once() == 0
    await leases.release(pool, "other", held)
    assert await keeper(pool).once() == 1
    assert await keeper(pool, "w2").once() == 0, "the lease was free and nothing was left"
    assert await leases.claim(pool, [LEASE], "other", ttl_s=30, limit=1)
    await pool.close()


async def test_without_postgres_it_is_put_off_and_goes_on(postgres_server: Callable[[], ServerProcess]) -> None:
    server = postgres_server()
    pool = await open_pool(server.url, name="test", max_size=1)
    await make_devices(pool, "a")
    await log.append_committed(pool, [event("a", "1")])
    server.kill()
    running = asyncio.create_task(keeper(pool).run())
    await asyncio.wait([running], timeout=0.2)
    assert not running.done()
    server.start()
    async with asyncio.timeout(10):
        while True:
            try:
                if await floor_of(pool, "a") == 1:
                    break
            except Exception:  # the pool finds its way back
                await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    await pool.close()


async def test_keys_of_operations_and_requests_go_when_their_time_is_over(database_url: str) -> None:
    pool = await open_pool(database_url, name="test")
    async with pool.transaction() as connection:
        for age in ("29 days", "31 days"):
            await connection.execute(
                "INSERT INTO sync_operations VALUES"
                f" ('{age}', 'p', 'u', 't', gen_random_uuid(), '', 'applied', '{{}}', now() - interval '{age}')"
            )
        for age in ("23 hours", "25 hours"):
            await connection.execute(
                f"INSERT INTO request_keys VALUES ('p', '{age}', '', NULL, 200, '[]', '', now() - interval '{age}')"
            )
    await keeper(pool).once()
    async with pool.transaction() as connection:
        left = await connection.fetch(
            "SELECT idempotency_key FROM sync_operations UNION ALL SELECT key FROM request_keys"
        )
    assert [row[0] for row in left] == ["29 days", "23 hours"]
    await pool.close()

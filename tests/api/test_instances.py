import asyncio
import random

import asyncpg

from api.instances import Instances
from shared.store.pool import Pool


def instance(pool: Pool, name: str) -> Instances:
    return Instances(pool, name=name, period_s=0.3, rand=random.Random(1))


async def test_each_instance_knows_how_many_live_and_forgets_those_that_left_or_fell_silent(
    pool: Pool, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "INSERT INTO api_instances VALUES ('dead', clock_timestamp() - interval '2 hours'),"
        " ('silent', clock_timestamp() - interval '1 minute')"
    )
    one, two = instance(pool, "one"), instance(pool, "two")
    first, second = asyncio.create_task(one.run()), asyncio.create_task(two.run())
    async with asyncio.timeout(20):
        while (one.live, two.live) != (2, 2):
            await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        await two.leave()
        while one.live != 1:
            await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    left = await sql.fetch("SELECT name FROM api_instances ORDER BY name")
    assert [row["name"] for row in left] == ["one", "silent"]


async def test_while_the_database_is_away_the_last_number_holds(pool: Pool) -> None:
    one = instance(pool, "one")
    one.live = 3
    await pool.close()
    running = asyncio.create_task(one.run())
    await asyncio.sleep(0)
    await one.leave()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert one.live == 3

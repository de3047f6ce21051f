"""The fixtures that every other test stands on."""

import asyncpg
import pytest
import redis.asyncio
import redis.exceptions

from tests.conftest import ServerFactory


async def test_a_test_has_a_migrated_database_of_its_own(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM devices") == 0
        await connection.execute("INSERT INTO devices (device_id, class, epoch) VALUES ('truck-7', 'truck', 1)")
    finally:
        await connection.close()


async def test_the_next_test_sees_nothing_of_the_one_before(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM devices") == 0
    finally:
        await connection.close()


async def test_a_copied_database_bounds_a_stopped_transaction(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "5s"
        assert await connection.fetchval("SHOW lock_timeout") == "2s"
    finally:
        await connection.close()


async def test_a_private_postgres_is_migrated_and_survives_a_kill(postgres_server: ServerFactory) -> None:
    server = postgres_server()
    connection = await asyncpg.connect(server.url)
    await connection.execute("INSERT INTO devices (device_id, class, epoch) VALUES ('truck-7', 'truck', 1)")
    server.kill()
    connection.terminate()
    server.launch()
    await server.wait_ready()
    connection = await asyncpg.connect(server.url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM devices") == 1
    finally:
        await connection.close()


async def test_redis_is_empty_at_the_start_of_a_test(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0
        await client.set("left", "behind")


async def test_redis_is_empty_again_for_the_next(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0


async def test_a_private_valkey_can_be_paused_killed_and_started_again(valkey_server: ServerFactory) -> None:
    server = valkey_server()
    async with redis.asyncio.Redis.from_url(server.url, socket_timeout=0.2, retry=None) as client:
        assert await client.ping()
        server.pause()
        with pytest.raises(redis.exceptions.TimeoutError):
            await client.ping()
        server.resume()
        assert await client.ping()
    server.kill()
    server.start()
    async with redis.asyncio.Redis.from_url(server.url) as client:
        assert await client.ping()

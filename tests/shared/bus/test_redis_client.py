"""Commands reach whatever the server is, and a server that is not there costs a bounded time."""

import time

import pytest
from redis.asyncio import Redis, RedisCluster

from loadtests.ports import free_port
from loadtests.valkey_cluster import ValkeyCluster
from shared.bus.redis_client import REDIS_ERRORS, LazyRedis
from tests.conftest import ServerFactory


async def test_one_redis_gets_a_plain_client_and_keeps_it(redis_url: str) -> None:
    lazy = LazyRedis(redis_url)
    client = await lazy.get()
    assert isinstance(client, Redis)
    await client.set("fw:test", "1")
    await lazy.failed()
    assert await lazy.get() is client
    await lazy.aclose()


async def test_a_cluster_gets_a_client_that_is_made_anew_after_a_failure(valkey_cluster: ValkeyCluster) -> None:
    lazy = LazyRedis(valkey_cluster.url)
    client = await lazy.get()
    assert isinstance(client, RedisCluster)
    for key in ("fw:a", "fw:b", "fw:c", "fw:d"):
        await client.set(key, key)
        assert await client.get(key) == key.encode()
    await lazy.failed()
    assert await lazy.get() is not client
    await lazy.aclose()


async def test_a_redis_that_is_not_there_is_an_error_in_time_and_asked_again(valkey_server: ServerFactory) -> None:
    lazy = LazyRedis(f"redis://127.0.0.1:{free_port()}", ask_s=0.3)
    with pytest.raises(REDIS_ERRORS):
        await lazy.get()
    server = valkey_server()
    lazy = LazyRedis(server.url, ask_s=0.3)
    server.pause()
    began = time.monotonic()
    with pytest.raises(REDIS_ERRORS):
        await lazy.get()
    assert time.monotonic() - began < 2.0
    server.resume()
    assert await (await lazy.get()).ping()
    await lazy.aclose()

"""A probe tells a server that serves others from one that serves nobody."""

import time

import redis.asyncio as redis

from loadtests.ports import free_port
from loadtests.valkey_cluster import ValkeyCluster
from shared.bus import probe
from shared.bus.client import Endpoint
from shared.bus.names import canary_channel
from shared.bus.slot_map import key_slot
from tests.conftest import ServerFactory

CHANNEL = canary_channel("hub-1")


async def test_a_server_that_takes_a_subscription_and_a_message_serves(redis_url: str) -> None:
    assert await probe.serves(Endpoint.from_url(redis_url), CHANNEL, deadline_s=2.0)


async def test_a_server_that_is_away_or_hangs_or_follows_another_serves_nobody(valkey_server: ServerFactory) -> None:
    away = Endpoint(host="127.0.0.1", port=free_port())
    assert not await probe.serves(away, CHANNEL, deadline_s=0.3)
    server = valkey_server()
    async with redis.Redis.from_url(server.url) as admin:
        await admin.replicaof("127.0.0.1", away.port)
        assert not await probe.serves(Endpoint.from_url(server.url), CHANNEL, deadline_s=1.0)
        await admin.replicaof("NO", "ONE")
    server.pause()
    began = time.monotonic()
    assert not await probe.serves(Endpoint.from_url(server.url), CHANNEL, deadline_s=0.3)
    assert time.monotonic() - began < 2.0


async def test_a_node_that_says_moved_serves_that_slot_to_nobody(valkey_cluster: ValkeyCluster) -> None:
    owner = valkey_cluster.owner(key_slot(CHANNEL))
    for node in valkey_cluster.primaries():
        endpoint = Endpoint(host="127.0.0.1", port=node.port, password=valkey_cluster.password)
        assert await probe.serves(endpoint, CHANNEL, deadline_s=2.0) == (node is owner)

"""What is known of a Redis and its nodes, and how soon news is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from urllib.parse import urlsplit, urlunsplit

from loadtests.ports import free_port
from loadtests.valkey_cluster import ValkeyCluster
from shared.bus.slot_map import KEY_SLOTS, Address, SlotMap
from shared.bus.topology import Topology
from tests.conftest import ServerFactory
from tests.shared.bus.conftest import until


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[tuple[Topology, list[SlotMap]]]:
    maps: list[SlotMap] = []
    topology = Topology(url, name="test", rand=Random(3), deadline_s=0.5, on_change=maps.append)
    task = asyncio.create_task(topology.run())
    try:
        yield topology, maps
    finally:
        topology.close()
        async with asyncio.timeout(5):
            await task


async def test_one_redis_is_a_map_with_one_node_and_asked_no_more(redis_url: str) -> None:
    async with asking(redis_url) as (topology, maps):
        await until(lambda: bool(maps), "the map is known")
        assert topology.is_cluster is False
        assert topology.endpoint(next(iter(maps[0].owners))) == topology.seeds[0]
        topology.moved(7, Address("elsewhere", 1))
        topology.trouble()
        await asyncio.sleep(0)
        assert topology.owner(7) == Address(topology.seeds[0].host, topology.seeds[0].port)
        assert len(maps) == 1


async def test_a_redis_that_is_not_there_yet_is_waited_for(valkey_server: ServerFactory) -> None:
    server = valkey_server()
    server.kill()
    async with asking(server.url) as (topology, maps):
        assert topology.owner(0) is None
        server.launch()
        await until(lambda: len(maps) == 1, "the map is known", 10.0)


async def test_any_node_that_answers_is_enough_to_know_a_cluster(valkey_cluster: ValkeyCluster) -> None:
    parts = urlsplit(valkey_cluster.url)
    user, _, hosts = parts.netloc.rpartition("@")
    last = hosts.split(",")[-1]
    async with asking(urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{free_port()},{last}"))) as (topology, maps):
        await until(lambda: bool(maps), "the map is known")
        assert topology.is_cluster
        assert {owner.port for owner in maps[0].owners} == {node.port for node in valkey_cluster.primaries()}
        assert len(maps[0].nodes) == 6
        assert all(maps[0].owner(slot) is not None for slot in range(KEY_SLOTS))


async def test_a_node_that_says_moved_is_believed_over_a_map_fetched_just_then(valkey_cluster: ValkeyCluster) -> None:
    async with asking(valkey_cluster.url) as (topology, maps):
        await until(lambda: bool(maps), "the map is known")
        here = topology.owner(7)
        there = next(owner for owner in maps[0].owners if owner != here)
        topology.moved(7, there)
        assert topology.owner(7) == there
        await until(lambda: len(maps) > 1, "told of it")
        assert maps[-1].owner(7) == there
        assert maps[-1].owner(8) == here
        # The cluster knows nothing of that move, and in the end it has the last word.
        async with asyncio.timeout(10):
            while topology.owner(7) != here:
                topology.trouble()
                await asyncio.sleep(0.05)

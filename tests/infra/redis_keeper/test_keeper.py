"""The keeper before real servers: it makes a cluster of nine, and mends it when one comes back with nothing."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from infra.redis_keeper.keeper import Keeper
from infra.redis_keeper.plan import KEY_SLOTS
from infra.redis_keeper.servers import Servers, resolved
from loadtests.ports import free_port
from loadtests.valkey_cluster import Node

PASSWORD = "a" * 32


def _node(folder: Path, number: int, ports: tuple[int, int]) -> Node:
    settings = {
        "cluster-node-timeout": "800",
        "availability-zone": f"node-{number % 3}",
        "maxmemory": "64mb",
        "cluster-require-full-coverage": "no",
    }
    return Node(folder / str(ports[0]), ports, PASSWORD, settings)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    ports: set[int] = set()
    while len(ports) < 18:
        ports.add(free_port())
    numbers = sorted(ports)
    Random(7).shuffle(numbers)
    made = [_node(tmp_path, n, (numbers[2 * n], numbers[2 * n + 1])) for n in range(9)]
    for node in made:
        node.start()
    yield made
    for node in made:
        node.kill()


async def settled(keeper: Keeper) -> None:
    async with asyncio.timeout(50):
        while True:
            await keeper.look()
            if keeper.settled:
                return
            await asyncio.sleep(0.1)


async def test_nine_servers_become_a_cluster_and_one_that_comes_back_with_nothing_is_taken_in(
    nodes: list[Node], tmp_path: Path
) -> None:
    servers = Servers(PASSWORD, 3.0)
    keeper = Keeper([f"127.0.0.1:{node.port}" for node in nodes], servers, least=9, period_s=1, stuck_s=3)
    try:
        await settled(keeper)
        seen = await servers.look([f"127.0.0.1:{node.port}" for node in nodes])
        masters = [server for server in seen if server.own.slots]
        assert len(masters) == 3
        assert sum(len(server.own.slots) for server in masters) == KEY_SLOTS
        for master in masters:
            replicas = [server for server in seen if server.own.master_id == master.id]
            # A node that is lost takes one of the three with it.
            assert len({server.place for server in [master, *replicas]}) == 3
        assert all(0 < servers.memory[server.address] < 0.85 for server in masters)

        lost = next(node for node in nodes if f"127.0.0.1:{node.port}" == masters[0].address)
        number = nodes.index(lost)
        lost.kill()
        shutil.rmtree(lost.folder)
        nodes[number] = _node(tmp_path, number, (lost.port, lost.bus_port))
        nodes[number].start()
        await settled(keeper)
        seen = await servers.look([f"127.0.0.1:{node.port}" for node in nodes])
        assert len(seen) == 9
        assert all(len(server.table) == 9 for server in seen), "the old one is forgotten"
        assert masters[0].id not in {server.id for server in seen}
        assert sorted(
            sum(other.own.master_id == server.id for other in seen) for server in seen if server.own.slots
        ) == [2, 2, 2]
    finally:
        await servers.close()


async def test_names_without_an_address_are_nobody() -> None:
    assert await resolved(["127.0.0.1:7000", "no-such-name.invalid:7000"]) == ["127.0.0.1:7000"]


async def test_who_does_not_answer_is_left_out_and_never_called_empty() -> None:
    servers = Servers(None, 0.5)
    address = f"127.0.0.1:{free_port()}"
    assert await servers.look([address]) == []
    assert servers.memory == {}
    await servers.close()

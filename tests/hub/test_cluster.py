"""A hub on a Redis Cluster that fails over and moves slots: devices get everything once and in order."""

import asyncio

from loadtests.valkey_cluster import ValkeyCluster
from shared.bus.canary_judge import BusState
from shared.bus.names import slot_channel
from shared.bus.publisher import Publisher
from shared.bus.slot_map import key_slot
from shared.hash_slots import slot_of
from shared.store.pool import Pool
from tests.hub.conftest import Fleet, StartHub, until

DEVICES = 9


def key_slot_of(device_id: str) -> int:
    return key_slot(slot_channel(slot_of(device_id)))


async def test_failover_and_migration_under_a_hub_lose_repeat_and_reorder_nothing(
    pool: Pool, start_hub: StartHub, valkey_cluster: ValkeyCluster
) -> None:
    publisher = Publisher(valkey_cluster.url, name="test")
    publishing = asyncio.create_task(publisher.run())
    fleet = Fleet(pool, publisher)
    try:
        hub = await start_hub(redis=valkey_cluster.url, FLEETWIRE_HUB_CANARY_S="0.4", FLEETWIRE_REDIS_DEADLINE_S="0.5")
        await until(lambda: hub.running.canary.state is BusState.OK)
        names = [await fleet.new_device() for _ in range(DEVICES)]
        devices = [await fleet.connect(hub.url, name) for name in names]
        for device in devices:
            await device.welcome()
        sent, flowing = 0, True

        async def flow() -> None:
            nonlocal sent
            while flowing:
                for name in names:
                    await fleet.record(name, 1)
                sent += 1
                await asyncio.sleep(0.01)

        flow_task = asyncio.create_task(flow())
        old = valkey_cluster.owner(key_slot_of(names[0]))
        await asyncio.to_thread(valkey_cluster.fail_over, old)
        await until(lambda: hub.running.canary.state is BusState.OK, 20)
        source, target = valkey_cluster.primaries()[:2]
        await asyncio.to_thread(
            valkey_cluster.move,
            [slot for slot in map(key_slot_of, names) if valkey_cluster.owner(slot) is source],
            source,
            target,
        )
        lost = valkey_cluster.owner(key_slot_of(names[0]))
        lost.kill()
        await until(lambda: hub.running.canary.state is not BusState.OK)
        assert (await hub.ready())[0] == 200, "a node that is gone is a shared fault"
        await until(lambda: hub.running.canary.state is BusState.OK, 20)
        flowing = False
        await flow_task
        for device in devices:
            assert await device.seqs(sent, 5.0) == list(range(1, sent + 1))
    finally:
        await fleet.close()
        await publisher.close()
        await asyncio.wait([publishing])

"""Redis and Postgres failing under a hub: nothing is lost, lateness is bounded, readiness tells the truth."""

import asyncio

from shared.bus.canary_judge import BusState
from shared.bus.message import EVENT, Message
from shared.bus.publisher import Publisher
from shared.store.pool import open_pool
from tests.conftest import ServerFactory
from tests.hub.conftest import Fleet, RunningHub, StartHub, until
from tests.hub.deaf_link import DeafLink


async def bus_is(hub: RunningHub, state: BusState) -> None:
    await until(lambda: hub.running.canary.state is state)


async def test_redis_killed_costs_lateness_only_and_new_devices_can_come(
    fleet: Fleet, start_hub: StartHub, valkey_server: ServerFactory
) -> None:
    valkey = valkey_server()
    hub = await start_hub(redis=valkey.url)
    await bus_is(hub, BusState.OK)
    truck, late = await fleet.new_device(), await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    valkey.kill()
    await fleet.record(truck, 20)
    assert await device.seqs(20, 2.0) == list(range(1, 21))
    newcomer = await fleet.connect(hub.url, late)
    await newcomer.welcome()
    await fleet.record(late, 5)
    assert await newcomer.seqs(5, 2.0) == [1, 2, 3, 4, 5]
    await bus_is(hub, BusState.DEGRADED)
    assert await hub.ready() == (200, [])
    valkey.restart()
    await bus_is(hub, BusState.OK)
    await fleet.record(truck, 5)
    assert await device.seqs(5, 2.0) == list(range(21, 26))


async def test_redis_stopped_is_found_and_delivery_goes_on_from_the_log(
    fleet: Fleet, start_hub: StartHub, valkey_server: ServerFactory
) -> None:
    valkey = valkey_server()
    hub = await start_hub(redis=valkey.url)
    await bus_is(hub, BusState.OK)
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    valkey.pause()
    await fleet.record(truck, 3)
    assert await device.seqs(3, 3.0) == [1, 2, 3]
    await bus_is(hub, BusState.DEGRADED)
    newcomer = await fleet.connect(hub.url, await fleet.new_device())
    await newcomer.welcome()
    valkey.resume()
    await bus_is(hub, BusState.OK)


async def test_events_lost_by_the_bus_are_found_by_the_sweep(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    await fleet.record(truck, 4, publish=False)
    assert await device.seqs(4, 2.0) == [1, 2, 3, 4]


async def test_a_bus_that_reorders_repeats_and_loses_changes_nothing(
    fleet: Fleet, start_hub: StartHub, publisher: Publisher
) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    for start in range(0, 240, 30):
        results = await fleet.record(truck, 30, publish=False)
        rows = await fleet.pool.fetch("SELECT seq, body FROM events WHERE device_id = $1 AND seq > $2", truck, start)
        bodies = {row["seq"]: row["body"].encode() for row in rows}
        seqs = [result.seq for result in results]
        for seq in [*reversed(seqs[: len(seqs) - 3]), *seqs[::2]]:
            publisher.offer(Message(EVENT, truck, 1, seq, bodies[seq]))
    assert await device.seqs(240) == list(range(1, 241))


async def test_postgres_restarted_keeps_the_sockets_and_loses_no_ack(
    start_hub: StartHub, postgres_server: ServerFactory, publisher: Publisher
) -> None:
    postgres = postgres_server()
    pool = await open_pool(postgres.url, name="test", max_size=2)
    fleet = Fleet(pool, publisher)
    try:
        hub = await start_hub(database=postgres.url)
        truck = await fleet.new_device()
        device = await fleet.connect(hub.url, truck)
        await device.welcome()
        await fleet.record(truck, 10)
        assert (await device.seqs(10))[-1] == 10
        postgres.stop()
        await device.ack(10)
        async with asyncio.timeout(10):
            while (await hub.ready())[0] != 503:
                await asyncio.sleep(0.02)
        assert (await hub.ready())[1] == ["postgres does not answer"]
        refused = await fleet.refused(hub.url, truck)
        assert refused.status == 503
        assert device.socket.close_code is None
        postgres.restart()
        async with asyncio.timeout(20):
            while (await hub.ready())[0] != 200:
                await asyncio.sleep(0.02)
        await fleet.until_acked(truck, 10)
        await fleet.record(truck, 2)
        assert await device.seqs(2) == [11, 12]
        await hub.leave()
    finally:
        await fleet.close()
        await pool.close()


async def test_a_hub_starts_before_postgres_is_there(
    fleet: Fleet, start_hub: StartHub, postgres_server: ServerFactory
) -> None:
    postgres = postgres_server()
    postgres.stop()
    starting = asyncio.ensure_future(start_hub(database=postgres.url))
    await asyncio.sleep(0.5)
    assert not starting.done()
    postgres.restart()
    hub = await starting
    truck = "truck-first"
    await (await fleet.connect(hub.url, truck)).welcome()
    await hub.leave()


async def test_postgres_stopped_is_found_and_survived(
    start_hub: StartHub, postgres_server: ServerFactory, publisher: Publisher
) -> None:
    postgres = postgres_server()
    pool = await open_pool(postgres.url, name="test", max_size=2)
    fleet = Fleet(pool, publisher)
    try:
        hub = await start_hub(database=postgres.url, FLEETWIRE_HUB_STORE_S="0.5")
        truck = await fleet.new_device()
        device = await fleet.connect(hub.url, truck)
        await device.welcome()
        await fleet.record(truck, 3)
        assert await device.seqs(3) == [1, 2, 3]
        postgres.pause()
        await device.ack(3)
        async with asyncio.timeout(5):
            while (await hub.ready())[0] != 503:
                await asyncio.sleep(0.02)
        # What the bus still brings is delivered meanwhile.
        publisher.offer(Message(EVENT, truck, 1, 4, b'{"data":{"n":4}}'))
        assert await device.seqs(1) == [4]
        postgres.resume()
        async with asyncio.timeout(20):
            while (await hub.ready())[0] != 200:
                await asyncio.sleep(0.02)
        # That event was never recorded: the log has the last word.
        assert await device.close_code() == 4102
        await fleet.until_acked(truck, 3)
        await hub.leave()
    finally:
        postgres.resume()
        await fleet.close()
        await pool.close()


async def test_a_deaf_hub_says_so_delivers_from_the_log_and_hears_again(
    fleet: Fleet, start_hub: StartHub, redis_url: str
) -> None:
    async with DeafLink(redis_url) as link:
        hub = await start_hub(redis=link.url)
        await bus_is(hub, BusState.OK)
        truck = await fleet.new_device()
        device = await fleet.connect(hub.url, truck)
        await device.welcome()
        link.deafen(new_ones_too=True)
        await fleet.record(truck, 3)
        assert await device.seqs(3, 2.0) == [1, 2, 3]
        await bus_is(hub, BusState.DEAF)
        assert await hub.ready() == (503, ["the bus does not reach this hub"])
        refused = await fleet.refused(hub.url, await fleet.new_device())
        assert (refused.status, refused.problem["type"]) == (503, "urn:fleetwire:problem:not-ready")
        await fleet.record(truck, 3)
        assert await device.seqs(3, 2.0) == [4, 5, 6]
        link.hear()
        await bus_is(hub, BusState.OK)
        assert await hub.ready() == (200, [])
        await fleet.record(truck, 3)
        assert await device.seqs(3, 2.0) == [7, 8, 9]
        await hub.leave()

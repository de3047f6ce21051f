"""A device connects to a running hub, gets events and acks them."""

import asyncio

from tests.hub.conftest import Fleet, StartHub, until


async def test_live_events_arrive_in_order_and_acks_are_recorded(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    welcome = await device.welcome()
    assert (welcome["position"], welcome["acked"], welcome["head"], welcome["hub"]) == ("1:0", 0, 0, "hub-1")
    await fleet.record(truck, 50)
    assert await device.seqs(50) == list(range(1, 51))
    await device.ack(50)
    await fleet.until_acked(truck, 50)


async def test_missed_events_come_first_and_live_ones_after_them(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    await fleet.record(truck, 100)
    device = await fleet.connect(hub.url, truck, after="1:40")
    assert (await device.welcome())["position"] == "1:40"
    await fleet.record(truck, 10)
    assert await device.seqs(70) == list(range(41, 111))


async def test_readiness_and_metrics_are_told(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    assert await until(lambda: hub.running.canary.state.value == "ok")
    assert await hub.ready() == (200, [])


async def test_an_event_recorded_behind_the_greetings_snapshot_is_not_left_to_the_sweep(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub(FLEETWIRE_HUB_SWEEP_S="60", FLEETWIRE_HUB_SWEEP_DOUBT_S="60")
    assert await until(lambda: hub.running.canary.state.value == "ok")
    truck = await fleet.new_device()
    async with fleet.pool.transaction() as connection:
        # The greeting has its snapshot and waits for the cursor; the event is recorded and published meanwhile.
        await connection.execute("SELECT 1 FROM cursors WHERE device_id = $1 FOR UPDATE", truck)
        connecting = asyncio.create_task(fleet.connect(hub.url, truck))
        async with asyncio.timeout(5):
            while not await fleet.pool.fetch("SELECT 1 FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
        await fleet.record(truck)
        waiting = await until(lambda: list(hub.running.hub.registry.waiting(truck)))
        await until(lambda: waiting[0].heard == (1, 1))
    device = await connecting
    assert (await device.welcome())["head"] == 0
    assert await device.seqs(1, 2.0) == [1]


async def test_two_hundred_devices_that_return_at_once_get_what_they_missed(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    trucks = [await fleet.new_device() for _ in range(200)]
    for truck in trucks:
        await fleet.record(truck, 5, publish=False)
    connected = await asyncio.gather(*(fleet.connect(hub.url, truck) for truck in trucks))
    for device in connected:
        await device.welcome()
        assert await device.seqs(5) == [1, 2, 3, 4, 5]
        await device.ack(5)
    for truck in trucks:
        await fleet.until_acked(truck, 5)

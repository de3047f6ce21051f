"""The newest connection of a device wins, on one hub and across hubs, with the bus and without it."""

import asyncio

from loadtests.ports import free_port
from shared.store import cursors, devices, hubs
from tests.hub.conftest import Fleet, StartHub, until

ONE = "0b8a3e3c-7a0a-4a53-9f58-111111111111"
TWO = "0b8a3e3c-7a0a-4a53-9f58-222222222222"


async def test_the_newest_connection_wins_across_hubs_within_a_second(fleet: Fleet, start_hub: StartHub) -> None:
    slow = {"FLEETWIRE_HUB_SWEEP_S": "60", "FLEETWIRE_HUB_SWEEP_DOUBT_S": "60"}
    first, second = await start_hub("hub-a", **slow), await start_hub("hub-b", **slow)
    truck = await fleet.new_device()
    old = await fleet.connect(first.url, truck, instance=ONE, attempt=1)
    await old.welcome()
    again = await fleet.connect(second.url, truck, instance=ONE, attempt=2)
    await again.welcome()
    assert await old.close_code(1.0) == 4002
    other = await fleet.connect(first.url, truck, instance=TWO, attempt=1)
    await other.welcome()
    assert await again.close_code(1.0) == 4300
    await fleet.record(truck, 3)
    assert await other.seqs(3) == [1, 2, 3]


async def test_the_sweep_tells_the_loser_when_redis_is_gone(fleet: Fleet, start_hub: StartHub) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    first, second = await start_hub("hub-a", redis=nowhere), await start_hub("hub-b", redis=nowhere)
    truck = await fleet.new_device()
    old = await fleet.connect(first.url, truck, instance=ONE, attempt=1)
    await old.welcome()
    new = await fleet.connect(second.url, truck, instance=TWO, attempt=1)
    await new.welcome()
    assert await old.close_code(2.0) == 4300
    await fleet.record(truck, 3)
    assert await new.seqs(3) == [1, 2, 3]


async def test_an_old_connection_that_goes_does_not_mark_the_new_one_as_gone(fleet: Fleet, start_hub: StartHub) -> None:
    first, second = await start_hub("hub-a"), await start_hub("hub-b")
    truck = await fleet.new_device()
    old = await fleet.connect(first.url, truck, instance=ONE, attempt=1)
    await old.welcome()
    new = await fleet.connect(second.url, truck, instance=ONE, attempt=2)
    await new.welcome()
    await old.close_code()
    await until(lambda: first.running.hub.registry.get(truck) is None)
    await first.running.hub.acks.flush(5)
    state = await devices.get(fleet.pool, truck)
    assert state is not None
    assert (state.hub, state.disconnected_at) == ("hub-b", None)
    await new.socket.close()
    await until(lambda: second.running.hub.registry.get(truck) is None)
    await second.running.hub.acks.flush(5)
    state = await devices.get(fleet.pool, truck)
    assert state is not None
    assert (state.hub, state.disconnected_at is None) == (None, False)


async def test_fifty_connections_of_one_device_at_once_leave_exactly_one(fleet: Fleet, start_hub: StartHub) -> None:
    first, second = await start_hub("hub-a"), await start_hub("hub-b")
    truck = await fleet.new_device()
    await fleet.record(truck, 5)
    urls = [first.url, second.url] * 25
    tries = await asyncio.gather(*(fleet.connect(url, truck) for url in urls), return_exceptions=True)
    assert any(not isinstance(one, BaseException) for one in tries)
    here = [first.running.hub.registry, second.running.hub.registry]

    def live() -> int:
        connections = [registry.get(truck) for registry in here]
        return sum(one is not None and not one.session.ended for one in connections)

    await until(lambda: live() == 1)
    await asyncio.sleep(0.5)
    assert live() == 1
    held = max((one for registry in here if (one := registry.get(truck))), key=lambda one: one.conn_term)
    rows = await cursors.sweep(fleet.pool, [cursors.Known(truck, 0, 0, 0, 0)])
    assert rows[0].conn_term == held.conn_term


async def test_the_membership_row_follows_connections_and_ends_with_the_hub(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub("hub-a", FLEETWIRE_HUB_URL="ws://hub.test:1")
    device = await fleet.connect(hub.url, await fleet.new_device())
    await device.welcome()
    async with asyncio.timeout(5):
        while (rows := await hubs.live(fleet.pool)) == [] or rows[0].connections != 1:
            await asyncio.sleep(0.01)
    (row,) = rows
    assert (row.name, row.url, row.capacity, row.draining) == ("hub-a", "ws://hub.test:1", 500, False)
    assert await hub.leave() == 0
    assert await hubs.live(fleet.pool) == []

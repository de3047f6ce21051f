"""A device connects to a running hub, gets events and acks them."""

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

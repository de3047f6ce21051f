"""What a hub tells of itself does not grow with the devices it has: no series, and so no cost, is a device's."""

from prometheus_client import generate_latest

from shared.telemetry.metrics import REGISTRY
from tests.hub.conftest import Fleet, StartHub, until


def series() -> set[str]:
    page = generate_latest(REGISTRY).decode()
    return {line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")}


async def test_the_series_of_a_hub_are_the_same_for_two_devices_and_for_more(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()

    async def whole_lives(count: int) -> list[str]:
        names = [await fleet.new_device() for _ in range(count)]
        for name in names:
            await fleet.record(name, 3, publish=False)
            device = await fleet.connect(hub.url, name)
            await device.welcome()
            await device.seqs(3)
            await fleet.record(name)
            assert await device.seqs(1) == [4]
            await device.ack(4)
            await device.socket.send('{"type":"nonsense"}')
            await device.frame()
            await device.socket.close()
        await until(lambda: len(hub.running.hub.registry) == 0)
        await fleet.until_acked(names[-1], 4)
        return names

    await whole_lives(2)
    before = series()
    names = await whole_lives(12)
    # Other tests' loops may have gone on meanwhile, so only what could be a device's is looked at.
    grown = series() - before
    assert len(grown) < 5, grown
    assert not [one for one in series() if any(name in one for name in names)]

"""One connection that breaks is given up alone: the loops that serve all go on."""

import json
import time

from hub.apart import apart
from shared.telemetry.metrics import HUB_CLOSES
from tests.hub.conftest import TOKENS, Fleet, StartHub


class Breaking:
    device_id = "truck-1"
    faults = 0

    def on_fault(self) -> None:
        self.faults += 1

    @apart
    def halve(self, numbers: list[int], by: int) -> None:
        numbers[0] //= by


def test_an_error_ends_at_the_connection_it_came_from() -> None:
    breaking, numbers = Breaking(), [8]
    breaking.halve(numbers, by=2)
    assert (numbers, breaking.faults) == ([4], 0)
    breaking.halve(numbers, by=0)
    breaking.halve([], 2)
    assert (numbers, breaking.faults) == ([4], 2)


async def test_a_device_whose_state_is_broken_is_cut_off_and_the_others_are_served(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub()
    broken, well = await fleet.new_device(), await fleet.new_device()
    device, bystander = await fleet.connect(hub.url, broken), await fleet.connect(hub.url, well)
    await device.welcome()
    await bystander.welcome()
    connection = hub.running.hub.registry.get(broken)
    assert connection is not None
    before = HUB_CLOSES.labels("1011")._value.get()
    del connection._pulse  # the wheel will stumble over it
    assert await device.close_code() == 1006
    assert HUB_CLOSES.labels("1011")._value.get() == before + 1
    back = await fleet.connect(hub.url, broken)
    await back.welcome()
    await fleet.record(well)
    assert await bystander.seqs(1) == [1]


async def test_an_event_that_could_not_be_sent_comes_with_the_next_connection(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    connection = hub.running.hub.registry.get(truck)
    assert connection is not None
    del connection._deflate_from  # fails after the session has counted the event as sent
    await fleet.record(truck)
    assert await device.close_code() == 1006
    back = await fleet.connect(hub.url, truck)
    await back.welcome()
    assert await back.seqs(1) == [1]


async def test_a_token_that_ends_in_the_year_ten_thousand_or_later_is_refused_and_breaks_nothing(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    # Milliseconds where seconds belong, as those who make tokens get it wrong.
    endless = TOKENS.mint(subject=truck, scopes=frozenset({"device"}), now=time.time(), lifetime_s=1000 * time.time())
    await device.socket.send(json.dumps({"type": "token", "token": endless}))
    answer = await device.frame()
    assert (answer["type"], answer["code"]) == ("error", "token_refused")
    await fleet.record(truck)
    assert await device.seqs(1) == [1]

"""The client of real devices on real hubs that come, drain and return: each event once, and never without a socket."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random

import pytest

from device import Client, State, Timing
from shared.hash_slots import owner, slot_of
from tests.api import conftest as api_conftest
from tests.api.conftest import StartApi
from tests.hub import conftest as hub_conftest
from tests.hub.conftest import TICKET_KEYS, TOKEN_KEYS, Fleet, RunningHub, StartHub, token, until

pool, publisher, fleet = hub_conftest.pool, hub_conftest.publisher, hub_conftest.fleet
start_hub, start_api = hub_conftest.start_hub, api_conftest.start_api

ON = {
    "FLEETWIRE_HUB_REBALANCE": "on",
    "FLEETWIRE_HUB_MOVES_PER_S": "100",
    "FLEETWIRE_HUB_JITTER_S": "0.1",
    # A machine that is busy with other tests must not look like devices that are gone.
    "FLEETWIRE_HUB_LINGER_S": "9",
    "FLEETWIRE_HUB_HEARTBEAT_S": "20",
    "FLEETWIRE_HUB_PONG_S": "8",
}
KEYS = {"FLEETWIRE_TOKEN_KEYS": TOKEN_KEYS, "FLEETWIRE_TICKET_KEYS": TICKET_KEYS, "FLEETWIRE_HUB_SILENCE_S": "2"}
# A handshake may take as long as in life: on a busy machine a tenth of that is not enough, and the old socket is closed
# as soon as the new one is greeted.
UNHURRIED = replace(Timing().faster(10), open_s=4.0, welcome_s=4.0, grace_s=3.0)


class Truck:
    """A client, what its application was shown, and how it stood."""

    def __init__(self, device_id: str, api: str, number: int) -> None:
        self.device_id = device_id
        self.seqs: list[int] = []
        self.states: list[State] = []
        self.client = Client(
            device_id,
            token=token(device_id),
            api=api,
            folder=None,
            timing=UNHURRIED,
            rand=Random(number),
            on_state=lambda change: self.states.append(change.state),
        )

    async def run(self) -> None:
        async for event in self.client:
            self.seqs.append(event.position.seq)


@pytest.fixture
async def trucks(fleet: Fleet, start_api: StartApi) -> AsyncIterator[list[Truck]]:
    api = await start_api(**KEYS)
    made = [Truck(await fleet.new_device(), api.url, number) for number in range(8)]
    yield made
    await asyncio.gather(*(truck.client.close() for truck in made))


def where(trucks: list[Truck], *running: RunningHub) -> dict[str, set[str]]:
    ids = {truck.device_id for truck in trucks}
    return {hub.name: ids & set(hub.running.hub.registry.by_device) for hub in running}


def belonging(trucks: list[Truck], *names: str) -> dict[str, set[str]]:
    return {name: {one.device_id for one in trucks if owner(slot_of(one.device_id), names) == name} for name in names}


async def test_a_device_stays_live_while_hubs_join_and_leave(
    fleet: Fleet, start_hub: StartHub, trucks: list[Truck]
) -> None:
    first, second = await start_hub("hub-a", **ON), await start_hub("hub-b", **ON)
    await until(lambda: all(len(hub.running.neighbours.view.runs) == 2 for hub in (first, second)))
    running = [asyncio.create_task(truck.run()) for truck in trucks]
    await until(lambda: where(trucks, first, second) == belonging(trucks, "hub-a", "hub-b"), 20)
    moving, recorded = True, 0

    async def publish() -> None:
        nonlocal recorded
        while moving:
            recorded += 1
            for truck in trucks:
                await fleet.record(truck.device_id)

    publishing = asyncio.create_task(publish())
    third = await start_hub("hub-c", **ON)
    await until(lambda: where(trucks, first, second, third) == belonging(trucks, "hub-a", "hub-b", "hub-c"), 20)
    assert await first.leave() == 0
    await until(lambda: where(trucks, second, third) == belonging(trucks, "hub-b", "hub-c"), 20)
    again = await start_hub("hub-a", **ON)
    await until(lambda: where(trucks, again, second, third) == belonging(trucks, "hub-a", "hub-b", "hub-c"), 20)
    moving = False
    await publishing
    await until(lambda: all(len(truck.seqs) >= recorded for truck in trucks), 20)
    assert all(truck.seqs == list(range(1, recorded + 1)) for truck in trucks)
    # Once live, none was ever without a socket.
    assert all(truck.states[truck.states.index(State.LIVE) :] == [State.LIVE] for truck in trucks)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)

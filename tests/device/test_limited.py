"""A device that asks too often: it waits as long as it is told, for each kind of request, and nothing is lost."""

import asyncio

import pytest

from device.route import State
from tests.device.clients import DEADLINE_S, client_of, numbers, take
from tests.device.fleet import Fleet


@pytest.mark.parametrize(("kind", "after_s"), [("events", 1), ("acks", 3), ("connection", 1)])
async def test_a_device_that_asks_too_often_waits_as_it_is_told(fleet: Fleet, kind: str, after_s: int) -> None:
    if kind != "connection":
        await fleet.hub_gate.set("refuse")
    fleet.limited = {kind: [after_s]}
    await fleet.publish(3)
    states: list[State] = []
    async with client_of(fleet, on_state=lambda change: states.append(change.state)) as client:
        assert numbers(await take(client, 3)) == [1, 2, 3]
        await asyncio.wait_for(fleet.until_acked(3), DEADLINE_S)
        if kind == "connection":
            await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)
    (_, refused), (_, again), *_ = fleet.limited_at
    assert again - refused >= after_s
    assert State.OFFLINE not in states

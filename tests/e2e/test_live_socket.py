"""What happens on a socket that stays: its token is renewed before it ends, and notices come once."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from device.client import Client
from device.route import State
from device.run import StateChange
from device.timing import Timing
from loadtests.fault_proxy import FaultProxy
from loadtests.watched_device import publish
from tests.e2e.conftest import Site

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
LIFE_S = 4.0


async def test_a_socket_outlives_its_first_token_and_brings_each_notice_once(site: Site) -> None:
    device_id = site.new_device("renewing")
    tokens: list[float] = []
    notices: list[Mapping[str, Any]] = []
    states: list[StateChange] = []

    def token() -> str:
        tokens.append(time.time())
        life_s = LIFE_S if len(tokens) == 1 else 600.0
        return site.machine.token(device_id, "device", device_class="truck", lifetime_s=life_s)

    async def until(condition: Any) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.02)

    options: dict[str, Any] = {"on_notice": notices.append, "on_state": states.append, "timing": Timing().faster(20)}
    async with (
        FaultProxy(site.hub, port=site.hub_port) as proxy,
        Client(device_id, api=site.machine.api, token=token, **options) as client,
        httpx.AsyncClient(base_url=site.machine.api, timeout=30, verify=False) as http,
    ):
        await asyncio.wait_for(client.wait_for_state(State.LIVE), 30)
        headers = {"Authorization": f"Bearer {site.machine.token('people', 'operator')}"}
        for _ in range(2):
            said = await http.post("/api/v1/notices", headers=headers, json={"id": "n-1", "data": {"text": "rain"}})
            assert said.status_code == 202
        await until(lambda: time.time() > tokens[0] + LIFE_S + 1.5)
        assert len(tokens) == 2, "asked again once, before the first one ended"
        assert tokens[1] < tokens[0] + LIFE_S
        await publish(site.machine, [device_id], 1)
        event = await asyncio.wait_for(anext(aiter(client)), 30)
        assert event.data["number"] == 0
        await client.finish(event)
        await until(lambda: notices)
        assert (proxy.accepted, client.state.state) == (1, State.LIVE)
    assert notices == [{"text": "rain"}]
    assert [change.state for change in states][-2:] == [State.LIVE, State.CLOSED]


async def test_a_device_that_connects_too_often_is_parked_on_rest_and_misses_nothing(site: Site) -> None:
    device_id = site.new_device("flapping")
    token = site.machine.token(device_id, "device", device_class="truck")
    async with (
        FaultProxy(site.hub, port=site.hub_port) as proxy,
        Client(device_id, api=site.machine.api, token=token, timing=Timing().faster(40)) as client,
        asyncio.timeout(60),
    ):
        while "connects too often" not in client.state.detail:
            if client.state.state is State.LIVE:
                await proxy.cut()
            await asyncio.sleep(0.02)
        await publish(site.machine, [device_id], 3)
        events = aiter(client)
        assert [(await anext(events)).position.seq for _ in range(3)] == [1, 2, 3]
        assert client.state.state is State.REST

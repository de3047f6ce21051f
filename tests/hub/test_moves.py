"""Hubs come, go and are restarted under devices that notice nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from random import Random
from typing import Any

import httpx
import pytest

from hub.rebalance import View
from loadtests.driver.fleet import Device, FleetOptions
from loadtests.driver.fleet import Fleet as Devices
from shared.hash_slots import owner, slot_of
from shared.store import hubs
from tests.hub.conftest import Fleet, RunningHub, StartHub, token, until

ON = {"FLEETWIRE_HUB_REBALANCE": "on", "FLEETWIRE_HUB_MOVES_PER_S": "200"}
OPTIONS = FleetOptions(ack_every=4, ack_s=0.05, jitter_s=0.05)

Connect = Callable[[Iterable[RunningHub], int], Awaitable[Devices]]


@pytest.fixture
async def connect(fleet: Fleet) -> AsyncIterator[Connect]:
    """So many devices, each connected to its owner among these hubs; whatever they do next is their own affair."""
    made: list[Devices] = []

    async def to(running: Iterable[RunningHub], count: int) -> Devices:
        by_name = {hub.name: hub for hub in running}
        names = [await fleet.new_device() for _ in range(count)]
        urls = {name: by_name[owner(slot_of(name), by_name) or ""].url for name in names}
        devices = Devices(names, lambda name: (urls[name], token(name)), OPTIONS, Random(1))
        made.append(devices)
        devices.start_all()
        assert await devices.all_welcomed(20)
        return devices

    yield to
    for devices in made:
        await devices.stop()


async def ask(hub: RunningHub, what: str, **body: Any) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"{hub.ops_url}/control/{what}"
        answer = await (client.get(url) if what == "hub" else client.post(url, json=body))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def settled(*running: RunningHub) -> None:
    """Until all of them have acted on the view that all of them are in."""
    names = sorted(hub.name for hub in running)

    def acted() -> bool:
        return all(hub.running.mover.rebalance.base.names == names for hub in running)

    await until(acted, 20)


async def flowing(fleet: Fleet, devices: Devices, until_done: asyncio.Event) -> int:
    """Events for all devices in turn until told to stop; how many each got."""
    rounds = 0
    while not until_done.is_set():
        rounds += 1
        for device in devices.devices:
            await fleet.record(device.device_id)
            if until_done.is_set() and rounds > 1:
                break
    return rounds


def _has_come_to(device: Device, seq: int) -> bool:
    return device.seq == seq


async def all_shown(fleet: Fleet, devices: Devices) -> None:
    """Every event of every device came, once and in order."""
    for device in devices.devices:
        state = await fleet.pool.fetch("SELECT head_seq FROM devices WHERE device_id = $1", device.device_id)
        assert await devices.until(partial(_has_come_to, device, state[0][0]), 20), device.device_id
    heads = await fleet.pool.fetch("SELECT sum(head_seq)::bigint AS events FROM devices")
    assert (devices.totals.events, devices.totals.gaps) == (heads[0]["events"], 0)


async def test_a_hub_that_joins_gets_exactly_the_devices_it_won_while_events_flow(
    fleet: Fleet, start_hub: StartHub, connect: Connect
) -> None:
    old = [await start_hub("hub-a", **ON), await start_hub("hub-b", **ON)]
    await settled(*old)
    devices = await connect(old, 60)
    stop = asyncio.Event()
    publishing = asyncio.create_task(flowing(fleet, devices, stop))
    joined = await start_hub("hub-c", **ON)
    won = {
        one.device_id
        for one in devices.devices
        if owner(slot_of(one.device_id), ["hub-a", "hub-b", "hub-c"]) == "hub-c"
    }
    assert won
    await until(lambda: set(joined.running.hub.registry.by_device) == won, 20)
    await settled(*old, joined)
    stop.set()
    await publishing
    await all_shown(fleet, devices)
    assert (devices.totals.moves_told, devices.totals.moves_done) == (len(won), len(won))
    assert set(devices.totals.closes) == {4002}
    assert len(joined.running.hub.registry) + sum(len(hub.running.hub.registry) for hub in old) == 60


async def test_a_drained_hub_sends_its_devices_to_the_others_and_gets_them_back_when_it_returns(
    fleet: Fleet, start_hub: StartHub, connect: Connect
) -> None:
    running = [await start_hub(name, **ON) for name in ("hub-a", "hub-b", "hub-c")]
    await settled(*running)
    devices = await connect(running, 45)
    own = set(running[0].running.hub.registry.by_device)
    stop = asyncio.Event()
    publishing = asyncio.create_task(flowing(fleet, devices, stop))
    await ask(running[0], "drain")
    async with asyncio.timeout(20):
        assert await running[0].task == 0
    assert len(running[1].running.hub.registry) + len(running[2].running.hub.registry) == 45
    assert 4001 not in devices.totals.closes
    again = await start_hub("hub-a", **ON)
    await until(lambda: set(again.running.hub.registry.by_device) == own, 20)
    stop.set()
    await publishing
    await all_shown(fleet, devices)
    assert devices.totals.moves_told == 2 * len(own)
    assert all(hub.running.mover.progress()["left"] == 0 for hub in running[1:])


async def test_a_device_that_stays_where_it_is_is_ended_with_its_acks_kept(fleet: Fleet, start_hub: StartHub) -> None:
    first = await start_hub("hub-a", FLEETWIRE_HUB_LINGER_S="0.3", FLEETWIRE_HUB_ACK_WRITE_S="30", **ON)
    truck = await device_of("hub-b", ["hub-a", "hub-b"], fleet)
    await settled(first)
    device = await fleet.connect(first.url, truck)
    await device.welcome()
    second = await start_hub("hub-b", **ON)
    moved = await device.frame(20)
    assert (moved["type"], moved["url"], moved["reason"]) == ("moved", second.url, "rebalance")
    assert 0 <= moved["after_ms"] <= 100
    await fleet.record(truck, 3)
    assert await device.seqs(3) == [1, 2, 3]  # it goes on
    await device.ack(3)
    assert await device.close_code() == 4000
    await fleet.until_acked(truck, 3)


async def test_hubs_that_leave_together_do_not_wait_for_devices_to_go_to_each_other(
    fleet: Fleet, start_hub: StartHub
) -> None:
    patient = {"FLEETWIRE_HUB_LINGER_S": "9"}
    running = [await start_hub(name, **patient) for name in ("hub-a", "hub-b")]
    await settled(*running)
    devices = [await fleet.connect(hub.url, await fleet.new_device()) for hub in running for _ in range(3)]
    for device in devices:
        await device.welcome()
    for hub in running:
        hub.stop.request("everything stops")
    assert await asyncio.gather(*(device.close_code(8) for device in devices)) == [4001] * 6


async def device_of(hub: str, names: list[str], fleet: Fleet) -> str:
    while True:
        truck = await fleet.new_device()
        if owner(slot_of(truck), names) == hub:
            return truck


async def test_a_device_that_came_to_another_hubs_place_is_sent_home_once(fleet: Fleet, start_hub: StartHub) -> None:
    names = ["hub-a", "hub-b"]
    first, second = [await start_hub(name, **ON) for name in names]
    await settled(first, second)
    truck, named = await device_of("hub-b", names, fleet), await device_of("hub-b", names, fleet)
    sent = await fleet.connect(first.url, named, hub="hub-a")
    await sent.welcome()
    lost = await fleet.connect(first.url, truck)
    await lost.welcome()
    assert (await ask(first, "hub"))["strangers"] == 2
    moved = await lost.frame()
    assert (moved["type"], moved["url"], moved["reason"]) == ("moved", second.url, "rehome")
    again = await fleet.connect(first.url, truck)
    await again.welcome()
    assert list(first.running.mover._strangers.rehomable(float("inf"))) == []
    await fleet.record(named)
    await fleet.record(truck)
    assert await sent.seqs(1) == await again.seqs(1) == [1]


async def test_nobody_is_sent_to_a_hub_that_is_full(fleet: Fleet, start_hub: StartHub, connect: Connect) -> None:
    first = await start_hub("hub-a", **ON)
    await settled(first)
    devices = await connect([first], 30)
    small = await start_hub("hub-b", FLEETWIRE_HUB_CAPACITY="5", **ON)
    await settled(first, small)
    await until(lambda: len(small.running.hub.registry) == 5)
    await until(lambda: len(first.running.hub.registry) == 25)
    async with asyncio.timeout(20):
        while (await ask(first, "plan"))["refused"] != {"hub-b": "full"}:
            await asyncio.sleep(0.02)
    assert len(devices.devices) == devices.totals.welcomed


async def test_an_operator_sees_pauses_resumes_and_stops_the_moves(
    fleet: Fleet, start_hub: StartHub, connect: Connect
) -> None:
    names = ["hub-a", "hub-b"]
    slow = {"FLEETWIRE_HUB_MOVES_PER_S": "20", "FLEETWIRE_HUB_REBALANCE": "off"}
    first, second = [await start_hub(name, **slow) for name in names]
    await settled(first, second)
    devices = await connect([first], 60)
    theirs = sum(owner(slot_of(one.device_id), names) == "hub-b" for one in devices.devices)
    plan = await ask(first, "plan")
    assert (plan["move"], plan["stay"], plan["rebalance"]) == ({"hub-b": theirs}, 60 - theirs, 0)
    assert (await ask(first, "plan", without=["hub-b"]))["move"] == {}
    assert set((await ask(first, "plan", **{"with": ["hub-x"]}))["move"]) == {"hub-b", "hub-x"}
    state = await ask(first, "move")
    assert state["planned"] == theirs
    assert state["moving"]["eta_s"] > 0
    await until(lambda: first.running.mover.done >= 2)
    paused = (await ask(first, "pause"))["moving"]
    assert (paused["paused"], paused["eta_s"]) == (True, None)
    await until(lambda: devices.totals.moves_done == first.running.mover.done)
    held = first.running.mover.done
    await asyncio.sleep(0.3)
    assert first.running.mover.done == held
    assert 0 < (await ask(first, "resume"))["moving"]["left"] <= theirs - held
    await until(lambda: first.running.mover.done > held)
    stopped = await ask(first, "abort")
    assert stopped["moving"]["left"] == 0
    assert (await ask(first, "move", to="hub-b"))["planned"] <= theirs - held
    await until(lambda: len(second.running.hub.registry) == theirs, 20)


async def test_what_makes_no_sense_is_refused_by_name(start_hub: StartHub) -> None:
    hub = await start_hub("hub-a")
    async with httpx.AsyncClient(base_url=hub.ops_url, trust_env=False) as client:
        for what, body, field in (
            ("plan", b'{"without": ["hub-z"]}', "without"),
            ("plan", b'{"with": "hub-z"}', "with"),
            ("move", b'{"to": "hub-z"}', "to"),
            ("move", b"[]", "body"),
            ("move", b"[" * 3000, "body"),
            ("move", b"x" * 5000, "body"),
        ):
            answer = await client.post(f"/control/{what}", content=body)
            assert (answer.status_code, answer.json()["detail"].split(":")[0].split()[-1]) == (400, field) or (
                answer.status_code == 400 and field in answer.json()["detail"]
            ), answer.text
        assert (await client.get("/control/move")).status_code == 405


async def test_all_hubs_read_each_other_with_their_own_heartbeat(fleet: Fleet, start_hub: StartHub) -> None:
    running = [await start_hub(name) for name in ("hub-a", "hub-b")]
    await settled(*running)
    rows = await hubs.live(fleet.pool)
    assert [row.ops_url for row in rows] == [hub.ops_url for hub in running]
    expected = View({row.name: row.instance for row in rows})
    assert [hub.running.neighbours.view for hub in running] == [expected, expected]


async def test_a_page_sees_figures_and_the_devices_that_it_asks_for(
    fleet: Fleet, start_hub: StartHub, connect: Connect
) -> None:
    hub = await start_hub("hub-a", **ON)
    devices = await connect([hub], 2)
    first, second = (device.device_id for device in devices.devices)
    await fleet.record(first)
    there = hub.running.hub.registry.by_device
    await until(lambda: there[first].session.acked == 1, 10)
    seen = await ask(hub, "look", devices=[first, "nobody"])
    assert set(seen["devices"]) == {first}
    assert (seen["devices"][first]["sent"], seen["devices"][first]["acked"]) == (1, 1)
    assert seen["bus"] == "ok"
    stages, bounds = seen["figures"]["stages"], seen["figures"]["bounds"]
    assert {"fanned_out", "sent", "acked"} <= stages.keys()
    assert all(len(counts) == len(bounds) + 1 and counts == sorted(counts) for counts in stages.values())
    assert (await ask(hub, "look"))["devices"] == {}
    assert second in there

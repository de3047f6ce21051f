"""A hub as a process: told to leave, killed, stopped for a while beside another."""

import asyncio
import os
import signal
import subprocess
import sys

import httpx
import pytest

from shared.store import hubs
from tests.hub.conftest import Fleet, SpawnHub, StartHub


@pytest.mark.processes
async def test_sigterm_sends_devices_away_with_their_acks_written(fleet: Fleet, spawn_hub: SpawnHub) -> None:
    hub = await spawn_hub("hub-a", FLEETWIRE_HUB_ACK_WRITE_S="30")
    connected = []
    for _ in range(20):
        truck = await fleet.new_device()
        device = await fleet.connect(hub.url, truck)
        await device.welcome()
        await fleet.record(truck, 3)
        assert await device.seqs(3) == [1, 2, 3]
        await device.ack(3)
        connected.append((truck, device))
    hub.signal(signal.SIGTERM)
    codes = await asyncio.gather(*(device.close_code() for _, device in connected))
    assert set(codes) == {4001}
    assert await hub.wait() == 0
    for truck, _ in connected:
        assert await fleet.acked(truck) == 3
    assert await hubs.live(fleet.pool) == []


@pytest.mark.processes
async def test_a_draining_hub_refuses_and_says_that_it_is_not_ready(fleet: Fleet, spawn_hub: SpawnHub) -> None:
    hub = await spawn_hub("hub-a", FLEETWIRE_HUB_DRAIN_RATE="1", FLEETWIRE_HUB_DRAIN_S="3")
    devices = [await fleet.connect(hub.url, await fleet.new_device()) for _ in range(4)]
    for device in devices:
        await device.welcome()
    hub.signal(signal.SIGTERM)
    async with httpx.AsyncClient() as client:
        async with asyncio.timeout(5):
            while (await client.get(f"{hub.ops_url}/ready")).status_code != 503:
                await asyncio.sleep(0.01)
        assert "draining" in (await client.get(f"{hub.ops_url}/ready")).json()["reasons"]
        assert (await client.get(f"{hub.ops_url}/health")).status_code == 200
        metrics = (await client.get(f"{hub.ops_url}/metrics")).text
        assert "fleetwire_hub_connections" in metrics
    refused = await fleet.refused(hub.url, await fleet.new_device())
    assert refused.problem["type"] == "urn:fleetwire:problem:draining"
    async with asyncio.timeout(5):
        while not (rows := await hubs.live(fleet.pool)) or not rows[0].draining:
            await asyncio.sleep(0.01)
    assert await hub.wait() == 0


@pytest.mark.processes
async def test_devices_of_a_hub_that_leaves_are_not_sent_back_by_one_that_has_not_looked_since(
    fleet: Fleet, spawn_hub: SpawnHub, start_hub: StartHub
) -> None:
    leaves = await spawn_hub("hub-a", FLEETWIRE_HUB_MEMBER_S="0.2", FLEETWIRE_HUB_SILENCE_S="60")
    stays = await start_hub("hub-b", FLEETWIRE_HUB_MEMBER_S="20", FLEETWIRE_HUB_SILENCE_S="60")
    trucks = [await fleet.new_device() for _ in range(12)]
    for truck in trucks:
        await (await fleet.connect(leaves.url, truck)).welcome()
    async with asyncio.timeout(10):
        while len(await hubs.live(fleet.pool)) < 2:
            await asyncio.sleep(0.02)
    leaves.signal(signal.SIGTERM)
    for truck in trucks:
        device = await fleet.connect(stays.url, truck)
        await device.welcome()
    assert await leaves.wait() == 0
    (row,) = await fleet.pool.fetch(
        "SELECT count(*) AS marked FROM cursors WHERE rehomed_at IS NOT NULL AND device_id = ANY($1)", trucks
    )
    assert row["marked"] == len(trucks)


@pytest.mark.processes
async def test_a_hub_that_stood_still_wakes_up_and_changes_nothing(
    fleet: Fleet, spawn_hub: SpawnHub, start_hub: StartHub
) -> None:
    asleep = await spawn_hub("hub-a")
    awake = await start_hub("hub-b")
    truck, stays = await fleet.new_device(), await fleet.new_device()
    instance = "0b8a3e3c-7a0a-4a53-9f58-111111111111"
    old = await fleet.connect(asleep.url, truck, instance=instance, attempt=1)
    await old.welcome()
    patient = await fleet.connect(asleep.url, stays)
    await patient.welcome()
    await fleet.record(truck, 5)
    assert await old.seqs(5) == [1, 2, 3, 4, 5]
    asleep.signal(signal.SIGSTOP)
    await old.ack(2)
    new = await fleet.connect(awake.url, truck, instance=instance, attempt=2, after="1:5")
    await new.welcome()
    await new.ack(5)
    await fleet.until_acked(truck, 5)
    await fleet.record(truck, 5)
    assert await new.seqs(5) == [6, 7, 8, 9, 10]
    await fleet.record(stays, 3)
    # Longer than heartbeat, pong and patience together: the devices of a hub that slept are not blamed for its sleep.
    await asyncio.sleep(3.5)
    asleep.signal(signal.SIGCONT)
    assert await old.close_code() == 4002
    assert await patient.seqs(3) == [1, 2, 3]
    await new.ack(10)
    await fleet.until_acked(truck, 10)
    assert await fleet.acked(truck) == 10
    await fleet.record(truck, 1)
    assert await new.seqs(1) == [11]


@pytest.mark.processes
async def test_a_killed_hub_loses_nothing(fleet: Fleet, spawn_hub: SpawnHub, start_hub: StartHub) -> None:
    doomed = await spawn_hub("hub-a")
    heir = await start_hub("hub-b")
    truck = await fleet.new_device()
    device = await fleet.connect(doomed.url, truck)
    await device.welcome()
    await fleet.record(truck, 10)
    assert await device.seqs(10) == list(range(1, 11))
    await device.ack(6)
    await fleet.until_acked(truck, 6)
    doomed.signal(signal.SIGKILL)
    await fleet.record(truck, 10)
    device = await fleet.connect(heir.url, truck, after="1:8")
    await device.welcome()
    assert await device.seqs(12) == list(range(9, 21))


def test_wrong_settings_are_all_named_and_end_with_status_2() -> None:
    environ = {"PATH": os.environ["PATH"], "FLEETWIRE_HUB_PORT": "x", "FLEETWIRE_HUB_HEARTBEAT_S": "-1"}
    ended = subprocess.run(
        [sys.executable, "-m", "hub"], env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 2
    for name in ("FLEETWIRE_HUB_NAME", "FLEETWIRE_HUB_PORT", "FLEETWIRE_HUB_HEARTBEAT_S", "FLEETWIRE_DATABASE_URL"):
        assert name in ended.stderr

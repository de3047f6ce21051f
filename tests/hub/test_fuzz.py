"""A hundred thousand frames that are almost right. A million: `python -m loadtests.fuzz`."""

from pathlib import Path
from random import Random

import pytest

from loadtests.fuzz import GROWTH_MAX, SETTINGS, fuzz, open_files, random_frames
from loadtests.process import resident_bytes
from tests.hub.conftest import Fleet, SpawnHub, token

FRAMES = 100_000


@pytest.mark.processes
async def test_a_hundred_thousand_frames_that_are_almost_right_harm_nothing(
    fleet: Fleet, spawn_hub: SpawnHub, tmp_path: Path
) -> None:
    hub = await spawn_hub("hub-1", **SETTINGS)
    devices = {device_id: token(device_id) for device_id in [await fleet.new_device() for _ in range(8)]}
    await fuzz(hub.url, devices, FRAMES // 10, seed=1)
    pid = hub.process.pid
    memory, files = resident_bytes(pid), open_files(pid)
    fuzzed = await fuzz(hub.url, devices, FRAMES, seed=2)
    assert fuzzed.frames == FRAMES
    assert fuzzed.refused == 0
    # Each way of being wrong has its own end, and not one is that the hub fell over it.
    assert {"1002", "1007", "1009", "4302"} <= set(fuzzed.ends)
    assert "1011" not in fuzzed.ends
    assert resident_bytes(pid) - memory < GROWTH_MAX
    assert open_files(pid) - files <= len(devices) + 4
    assert "Traceback" not in (tmp_path / "hub-1.log").read_text("utf-8")
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    await fleet.record(truck, 3)
    assert await device.seqs(3) == [1, 2, 3]


def test_the_same_seed_makes_the_same_frames() -> None:
    assert random_frames(Random(7), 500) == random_frames(Random(7), 500)
    assert random_frames(Random(7), 500) != random_frames(Random(8), 500)

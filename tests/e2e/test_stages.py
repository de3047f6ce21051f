"""Every stage of an event's life is timed by the process where it happens."""

import asyncio

import pytest

from device.route import State
from device.timing import Timing
from loadtests.fault_proxy import FaultProxy
from loadtests.watched_device import WatchedDevice
from shared.stages import Stage
from tests.e2e.conftest import Site

pytestmark = [pytest.mark.processes, pytest.mark.timeout(150)]

WHERE = {
    Stage.RECORDED: "worker",
    Stage.PUBLISHED: "worker",
    Stage.FANNED_OUT: "hub-1",
    Stage.SENT: "hub-1",
    Stage.ACKED: "hub-1",
}


async def test_a_file_that_comes_back_as_a_response_is_timed_at_every_stage(site: Site) -> None:
    async def timed() -> dict[Stage, float]:
        name = "fleetwire_stage_lag_seconds_count"
        return {stage: await site.count(process, name, stage=stage.value) for stage, process in WHERE.items()}

    asked: list[str] = []
    device = WatchedDevice(site.machine, site.new_device("timed"), timing=Timing().faster(10))
    async with FaultProxy(site.hub, port=site.hub_port):
        await device.start()
        try:
            await device.until(lambda: device.state is State.LIVE, 20, "live")
            before = after = await timed()
            async with asyncio.timeout(60):
                while any(after[stage] <= before[stage] for stage in WHERE):
                    asked.append(f"Requests/{device.device_id}/r{len(asked)}.noop")
                    site.drop(asked[-1], b"%d" % len(asked))
                    await device.until(lambda: len(device.shown) >= len(asked), 30, "the answer")
                    after = await timed()
        finally:
            await device.stop()

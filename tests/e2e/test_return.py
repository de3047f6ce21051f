"""A device that was away comes back over lines that are long, slow or cut: all of it, in order, then live events."""

import asyncio

import pytest

from device.route import State
from device.timing import Timing
from loadtests.away import IN_FLIGHT_MAX, Absence, return_after
from loadtests.fault_proxy import FaultProxy
from loadtests.slow_link import SlowLink
from loadtests.watched_device import WatchedDevice, judge, publish
from tests.e2e.conftest import HUB_PATIENCE_S, Site

pytestmark = [pytest.mark.processes, pytest.mark.timeout(150)]


def unwatched(events: int) -> None:
    del events


async def test_what_was_missed_comes_in_order_with_a_bounded_amount_in_flight(site: Site) -> None:
    line = SlowLink(delay_s=0.05, buffer_bytes=4 * IN_FLIGHT_MAX)
    absence = Absence("long", 700, 6000, line, live_gap_s=0.01, deadline_s=30)
    outcome = await return_after(site.machine, absence, port=site.hub_port, tick=unwatched)
    assert outcome.passed, outcome
    # The window has opened far beyond its beginning, and a line that takes everything was not given everything.
    assert 256 * 1024 < outcome.in_flight_peak <= IN_FLIGHT_MAX, outcome


async def test_a_line_that_takes_longer_than_the_hub_has_patience_is_not_cut(site: Site) -> None:
    line = SlowLink(bytes_per_s=8000 * 60 / HUB_PATIENCE_S)
    absence = Absence("slow", 2500, 30, line, live_gap_s=0.05, deadline_s=30)
    outcome = await return_after(site.machine, absence, port=site.hub_port, timing=Timing().faster(10), tick=unwatched)
    assert outcome.passed, outcome
    assert outcome.connections == 1
    assert outcome.caught_up_s > HUB_PATIENCE_S


async def test_a_line_that_is_cut_in_the_middle_of_frames_loses_and_repeats_nothing(site: Site) -> None:
    device = WatchedDevice(site.machine, site.new_device("cut"), timing=Timing().faster(40))
    async with FaultProxy(site.hub, port=site.hub_port) as proxy:
        await device.start()
        await device.until(lambda: device.state is State.LIVE, 20, "live")
        proxy.cut_after = 20_000
        await proxy.cut()
        for _ in range(20):
            await publish(site.machine, [device.device_id], 20, size=1000)
            await asyncio.sleep(0.1)
        await device.until(lambda: len(device.shown) >= 400, 30, "all events")
        cuts = proxy.accepted
        await device.stop()
    verdict = await judge(site.machine, [device])
    assert verdict.passed, verdict
    assert verdict.shown == 400
    assert cuts > 3

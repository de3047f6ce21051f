"""Devices that come and go: nothing is lost by their going."""

import asyncio

import pytest

from loadtests.crowd import Crowd
from loadtests.driver.run import Target
from tests.loadtests.conftest import Driven
from tests.loadtests.withholding_proxy import WithholdingProxy


@pytest.mark.processes
async def test_devices_that_go_were_shown_what_they_were_sent_and_do_not_come_back(driven: Driven) -> None:
    machine = driven.machine
    crowd = Crowd(Target(machine.api, machine.hubs, machine.keys), run="crowd", most=8, rate=100)
    async with WithholdingProxy(driven.hub, driven.proxy_port, lambda device_id, seq: False):
        publishing = asyncio.create_task(crowd.run())
        crowd.resize(8)
        assert await crowd.fleet.until(lambda: crowd.welcomed == 8, 20)
        assert await crowd.fleet.until(lambda: crowd.publications.recorded > 40, 20)
        crowd.resize(3)
        assert len(crowd) == 3
        assert await crowd.fleet.until(lambda: crowd.fleet.totals.connected == 3, 20)
        crowd.resize(99)  # those that went are not taken again
        assert len(crowd) == 3
        crowd.finish()
        await publishing
        assert await crowd.all_shown(20)
        assert crowd.fleet.totals.connected == 3
        await crowd.close()
    verdict = crowd.fleet.history.judge()
    assert verdict.passed, str(verdict)
    assert verdict.recorded > 40

"""When retention has taken every event, what lies in the cloud folder is no news to a watcher that starts anew."""

from datetime import timedelta

import httpx
import pytest

from device.route import State
from device.timing import Timing
from loadtests.fault_proxy import FaultProxy
from loadtests.watched_device import WatchedDevice
from shared.store import devices, log
from shared.store.log import Retention
from shared.store.pool import Pool, open_pool
from tests.e2e.conftest import Site, until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(150)]

AT_ONCE = Retention(acked=timedelta(0), any=timedelta(0), keys=timedelta(0))
FEEDS = 64
# What a scan finds is looked at a quiet time later, so the third scan of a feed follows the looks of the first.
SCANS = 3


async def test_a_watcher_that_rescans_after_everything_was_trimmed_announces_nothing(site: Site) -> None:
    device = WatchedDevice(site.machine, site.new_device("trimmed"), timing=Timing().faster(10))
    folder = device.device_id
    pool = await open_pool(site.machine.database_url, name="test", max_size=2)
    try:
        async with FaultProxy(site.hub, port=site.hub_port):
            await device.start()
            await device.until(lambda: device.state is State.LIVE, 20, "live")
            for number in range(3):
                site.drop(f"Requests/{folder}/r{number}.noop", b"%d" % number)
                site.drop(f"Responses/{folder}/report-{number}.txt", b"%d" % number)
            site.drop(f"Requests/{folder}/load.csv", b"a,b\n1,2\n")
            await device.until(lambda: len(device.shown) >= 7, 30, "four answers and three reports")
            await device.stop()

        await log.trim(pool, AT_ONCE)
        await log.prune(pool, AT_ONCE)
        for table in ("events", "event_keys"):
            (row,) = await pool.fetch(f"SELECT count(*) FROM {table} WHERE device_id = $1", folder)
            assert row[0] == 0, table
        jobs_before = await _jobs(pool, folder)
        assert jobs_before == 4

        site.machine.kill("watcher-1")
        await until(lambda: _scanned(site), "every feed scanned three times by the new watcher", 40)
        site.drop(f"Requests/{folder}/marker.noop", b"")
        async with FaultProxy(site.hub, port=site.hub_port):
            await device.start()
            await device.until(lambda: len(device.shown) >= 8, 30, "the marker")
            await device.stop()
        state = await devices.get(pool, folder)
        assert state is not None
        assert (state.floor, state.head) == (7, 8)
        assert await _jobs(pool, folder) == jobs_before + 1
        assert device.resets == 0
    finally:
        await pool.close()


async def _jobs(pool: Pool, device_id: str) -> int:
    (row,) = await pool.fetch("SELECT count(*) FROM jobs WHERE device_id = $1", device_id)
    count: int = row[0]
    return count


async def _scanned(site: Site) -> bool:
    try:
        return await site.count("watcher", "fleetwire_watcher_rescan_seconds_count") >= SCANS * FEEDS
    except httpx.TransportError:  # not back yet
        return False

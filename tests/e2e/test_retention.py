"""When retention has taken every event, what lies in the cloud folder is no news to a watcher that starts anew."""

import asyncio
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

TRIMMER = {
    "FLEETWIRE_WORKER_NAME": "trimmer",
    "FLEETWIRE_WORKER_QUEUES": "nobody-uses-it",
    "FLEETWIRE_WORKER_PROCESSES": "1",
    "FLEETWIRE_OPS_PORT": "0",
    "FLEETWIRE_RETENTION_ACKED_H": "0",
    "FLEETWIRE_RETENTION_PERIOD_S": "0.2",
}
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

        # A worker that keeps no acked event takes them all.
        trimmer = site.machine.add("worker-1", "worker", **TRIMMER)
        await until(lambda: _none(pool, "events", folder), "every event trimmed", 30)
        trimmer.terminate()
        assert await asyncio.to_thread(trimmer.wait, 20) == 0
        # The keys that would know the events again are kept for a month; even without them nothing may come twice.
        await log.prune(pool, Retention(keys=timedelta(0)))
        assert await _none(pool, "event_keys", folder)
        jobs_before = await _count(pool, "jobs", folder)
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
        assert await _count(pool, "jobs", folder) == jobs_before + 1
        assert await _count(pool, "events", folder) == 1
        assert device.resets == 0
    finally:
        await pool.close()


async def _count(pool: Pool, table: str, device_id: str) -> int:
    (row,) = await pool.fetch(f"SELECT count(*) FROM {table} WHERE device_id = $1", device_id)
    count: int = row[0]
    return count


async def _none(pool: Pool, table: str, device_id: str) -> bool:
    return await _count(pool, table, device_id) == 0


async def _scanned(site: Site) -> bool:
    try:
        return await site.count("watcher", "fleetwire_watcher_rescan_seconds_count") >= SCANS * FEEDS
    except httpx.TransportError:  # not back yet
        return False

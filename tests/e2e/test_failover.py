"""Postgres fails over to its copy under a whole Fleetwire: everything goes on in the same processes, and what the copy
lacked is told by the epoch.
"""

import asyncio
import time
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from device.route import State
from device.timing import Timing
from loadtests.machine import Machine, running_machine
from loadtests.watched_device import WatchedDevice, publish
from tests.conftest import Pair

pytestmark = [pytest.mark.processes, pytest.mark.timeout(150)]

DEVICE = "truck-7"


def both(pair: Pair) -> str:
    """An address that names both servers."""
    parts = urlsplit(pair[0].url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc},127.0.0.1:{pair[1].server.port}"))


async def publish_when_taken(machine: Machine, count: int, deadline_s: float) -> float:
    """Seconds until writes were taken again."""
    began = time.monotonic()
    async with asyncio.timeout(deadline_s):
        while True:
            try:
                await publish(machine, [DEVICE], count)
            except httpx.HTTPError:
                await asyncio.sleep(0.1)
            else:
                return time.monotonic() - began


async def request_job(machine: Machine, name: str) -> str:
    """A request to the worker, whose response is an event of the device."""
    bearer = {"Authorization": f"Bearer {machine.token('olga', 'operator')}", "Idempotency-Key": name}
    body = {"device_id": DEVICE, "kind": "table", "name": f"{name}.csv", "data": "a,b\n1,2\n"}
    async with httpx.AsyncClient(base_url=machine.api, timeout=15, headers=bearer) as client:
        answer = await client.post("/api/v1/jobs", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job_id"])


async def test_writes_resume_without_a_restart_and_lost_commits_are_told(postgres_pair: Pair) -> None:
    primary, copy = postgres_pair
    with running_machine(hubs=1, FLEETWIRE_DATABASE_URL=both(postgres_pair)) as machine:
        before = machine.pids()
        device = WatchedDevice(machine, DEVICE, timing=Timing().faster(4))
        await device.start()
        await device.until(lambda: device.state is State.LIVE, 30, "live")
        await publish(machine, [DEVICE], 3)
        await request_job(machine, "before")
        await device.until(lambda: len(device.shown) == 4, 30, "what both servers have")

        on_copy = await asyncpg.connect(copy.url)
        head = "SELECT head_seq FROM devices"
        async with asyncio.timeout(10):
            while await on_copy.fetchval(head) != 4:
                await asyncio.sleep(0.01)
        await on_copy.execute("ALTER SYSTEM SET primary_conninfo = ''")
        await on_copy.execute("SELECT pg_reload_conf()")
        async with asyncio.timeout(10):
            while await on_copy.fetchval("SELECT count(*) FROM pg_stat_wal_receiver"):
                await asyncio.sleep(0.01)
        await publish(machine, [DEVICE], 2)
        await device.until(lambda: len(device.shown) == 6, 20, "what only the primary has")

        primary.kill()
        assert await on_copy.fetchval("SELECT pg_promote()")
        took_s = await publish_when_taken(machine, 3, 30)
        await device.until(lambda: len(device.shown) >= 9, 30, "what came after the failover")
        await request_job(machine, "after")
        await device.until(lambda: len(device.shown) >= 10, 30, "a response of after the failover")
        await device.stop()

        print(f"writes taken again {took_s:.2f} s after the promotion")
        assert took_s < 20, "generous: the machine may be busy"
        assert device.resets == 1
        assert len({one.event_id for one in device.shown}) == len(device.shown) == 10, "nothing is shown twice"
        in_log = [row["event_id"] for row in await on_copy.fetch("SELECT event_id FROM events ORDER BY seq")]
        shown = [one.event_id for one in device.shown]
        assert in_log == shown[:4] + shown[6:], "the two of the lost end are gone, their numbers were given again"
        assert await on_copy.fetchval("SELECT epoch FROM devices") == 2
        assert machine.pids() == before, "no process was started again"
        await on_copy.close()

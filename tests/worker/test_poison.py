"""Jobs that end or stop whoever works on them, with real workers that are started again as a supervisor does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from shared.store import jobs
from tests.worker.rig import Cloud, WorkerProcess, until

Start = Callable[..., WorkerProcess]
pytestmark = pytest.mark.processes

QUICK = {"worker_lease_s": 1, "worker_heartbeat_s": 0.3, "worker_retry_base_s": 0.05, "worker_retry_cap_s": 0.1}


@asynccontextmanager
async def kept_running(worker_process: Start, **settings: object) -> AsyncIterator[list[WorkerProcess]]:
    """A worker that is started again whenever it ends. Gives all that there were."""
    started = [worker_process("w0", **QUICK, **settings)]

    async def keep() -> None:
        while True:
            await until(lambda: started[-1].process.poll() is not None, 60)
            started.append(worker_process(f"w{len(started)}", **QUICK, **settings))

    keeping = asyncio.create_task(keep())
    try:
        yield started
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


@pytest.mark.timeout(180)
async def test_a_job_that_ends_its_worker_every_time_is_dead_after_its_attempts_and_the_device_is_told(
    cloud: Cloud, worker_process: Start
) -> None:
    """Those that were there when it did so are not: they are done, though they were claimed together every time."""
    poison = await cloud.request("a.fell", "x")
    there = [await cloud.request(f"{n}.noop", "", device_id="truck-9") for n in range(6)]
    async with kept_running(worker_process, worker_max_attempts=3) as started:
        job = await cloud.ended(poison, 120)
        assert (job.current_status, job.error) == ("dead", "none of 3 attempts came to a result")
        assert len([worker for worker in started if worker.process.returncode == -9]) == 3
        for job_id in there:
            assert (await cloud.ended(job_id)).current_status == "done"
        other = await cloud.request("b.noop", "", device_id="truck-8")
        assert (await cloud.ended(other)).current_status == "done"
    event = await cloud.event_of(poison)
    assert (event["type"], event["data"]["request"]) == ("RequestFailed", {"name": "a.fell"})


async def test_a_worker_that_a_handler_keeps_from_all_else_ends_and_says_where_it_stood(
    cloud: Cloud, worker_process: Start
) -> None:
    stuck = await cloud.request("a.stuck", "x")
    async with kept_running(worker_process, worker_max_attempts=1, worker_stall_s=0.5) as started:
        assert (await cloud.ended(stuck)).current_status == "dead"
        assert started[0].process.returncode == 1
        assert "misbehaving.py" in started[0].log()
        assert "in handle" in started[0].log()
    assert (await cloud.event_of(stuck))["type"] == "RequestFailed"


async def test_a_coroutine_is_cancelled_at_its_deadline_and_given_back_by_a_worker_that_stops(
    cloud: Cloud, worker_process: Start
) -> None:
    late = await cloud.request("a.waits", "x")
    first = worker_process("first", worker_handler_s=0.3, worker_max_attempts=1)
    job = await cloud.ended(late)
    assert (job.current_status, first.process.poll()) == ("dead", None)
    assert "HandlerTimedOut" in (job.error or "")
    first.terminate()
    assert await first.wait() == 0
    second = worker_process("second", worker_drain_s=0.2)
    await second.ready()
    waiting = await cloud.request("b.waits", "x")

    async def running() -> bool:
        return (await cloud.job(waiting)).current_status == "running"

    await until(running)
    second.terminate()
    assert await second.wait() == 0
    given_back = await cloud.job(waiting)
    assert (given_back.current_status, given_back.attempts) == ("retry", 0)
    assert (await jobs.history(cloud.pool, waiting))[0].detail == "released by a worker that stops"

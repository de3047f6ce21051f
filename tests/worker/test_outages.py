"""Workers while Redis or Postgres fails: jobs wait or go on, and none is lost or answered twice."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from loadtests.ports import free_port
from shared.bus.job_hints import JobHints
from shared.cloud.local import LocalStore
from shared.store import jobs
from shared.store.pool import open_pool
from tests.servers import ServerProcess
from tests.worker.rig import Cloud, WorkerProcess, until

Start = Callable[..., WorkerProcess]
pytestmark = pytest.mark.processes


@pytest.fixture
async def broken(
    postgres_server: Callable[..., ServerProcess], store: LocalStore, tmp_path: Path
) -> AsyncIterator[tuple[ServerProcess, Cloud]]:
    """A Postgres of this test's own, and the cloud folder with it."""
    server = postgres_server()
    pool = await open_pool(server.url, name="test", max_size=3)
    yield server, Cloud(pool, tmp_path / "cloud")
    await pool.close()


async def test_jobs_are_done_without_redis(cloud: Cloud, worker_process: Start) -> None:
    worker = worker_process(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    await worker.ready()
    job_id = await cloud.request("a.csv", "a,b\n1,2\n")
    assert (await cloud.ended(job_id, deadline_s=5)).current_status == "done"
    cloud.verify(await cloud.event_of(job_id), job_id)


async def test_a_hint_brings_a_job_long_before_the_next_poll(
    cloud: Cloud, worker_process: Start, redis_url: str
) -> None:
    import asyncio

    worker = worker_process(worker_poll_s=30)
    await worker.ready()
    hints = JobHints(redis_url)
    running = asyncio.create_task(hints.run())
    # The first poll may still be to come; the second is half a minute away.
    for name in ("a.noop", "b.noop", "c.noop"):
        job_id = await cloud.request(name, "")

        async def ended(name: str = name, job_id: object = job_id) -> bool:
            hints.offer("requests", job_id)  # type: ignore[arg-type]
            return bool(
                await cloud.pool.fetch("SELECT FROM jobs WHERE job_id = $1 AND current_status = 'done'", job_id)
            )

        await until(ended, deadline_s=5)
    await hints.close()
    await running


async def test_a_redis_that_is_flushed_or_killed_delays_nothing_for_long(
    cloud: Cloud, worker_process: Start, valkey_server: Callable[..., ServerProcess]
) -> None:
    server = valkey_server()
    worker = worker_process(redis_url=server.url)
    await worker.ready()
    server.kill()
    first = await cloud.request("a.noop", "")
    assert (await cloud.ended(first, deadline_s=5)).current_status == "done"
    server.start()
    server.pause()
    second = await cloud.request("b.noop", "")
    assert (await cloud.ended(second, deadline_s=5)).current_status == "done"
    server.resume()
    assert len(await cloud.events()) == 2


async def test_a_postgres_that_restarts_in_the_middle_loses_and_doubles_nothing(
    broken: tuple[ServerProcess, Cloud], worker_process: Start
) -> None:
    server, cloud = broken
    worker = worker_process(database_url=server.url)
    await worker.ready()
    gate = cloud.root.parent / "gate"
    held = await cloud.request("a.gated", str(gate))
    await until(lambda: gate.with_suffix(".waiting").exists())
    others = [await cloud.request(f"{n}.count", "x") for n in range(10)]
    await cloud.pool.close()
    server.kill()
    gate.touch()
    await until(lambda: "not written" in worker.log() or "left to its lease" in worker.log())
    server.start()
    cloud.pool = await open_pool(server.url, name="test", max_size=3)
    try:
        for job_id in [held, *others]:
            assert (await cloud.ended(job_id)).current_status == "done", worker.log()
            cloud.verify(await cloud.event_of(job_id), job_id)
        assert len(await cloud.events()) == 11
        assert worker.process.poll() is None
    finally:
        await cloud.pool.close()


async def test_a_job_of_a_store_that_nobody_knows_is_dead_in_the_end(cloud: Cloud, worker_process: Start) -> None:
    job_id = await cloud.request("a.csv", "a,b\n1,2\n")
    await cloud.pool.fetch("UPDATE jobs SET store = 'elsewhere' WHERE job_id = $1", job_id)
    # Perhaps another worker knows it: only the time to live ends such a job, not its attempts.
    worker_process(worker_max_attempts=1, worker_ttl_s=2)
    job = await cloud.ended(job_id)
    assert job.current_status == "dead"
    assert "elsewhere" in (job.error or "")
    assert (await jobs.depth(cloud.pool, "requests")).waiting == 0


async def test_a_worker_leaves_in_time_also_when_postgres_hangs(
    broken: tuple[ServerProcess, Cloud], worker_process: Start
) -> None:
    server, cloud = broken
    worker = worker_process(database_url=server.url, worker_drain_s=0)
    await worker.ready()
    job_id = await cloud.request("a.hang", "x")

    async def running() -> bool:
        return (await cloud.job(job_id)).current_status == "running"

    await until(running)
    backends = [int(pid) for pid in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()]
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    worker.terminate()
    try:
        assert await worker.wait(15) == 0
    finally:
        for pid in backends:
            os.kill(pid, signal.SIGCONT)
    assert (await cloud.job(job_id)).current_status == "running"

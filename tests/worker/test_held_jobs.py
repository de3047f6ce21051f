import asyncio
from random import Random

import pytest

from shared.store import jobs
from shared.store.jobs import Claimed
from shared.store.pool import Pool
from tests.shared.store.test_jobs import claim, new_job, put, until_claimed
from worker.errors import LeaseLost
from worker.held_jobs import HeldJobs


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def holding(
    pool: Pool, clock: Clock, *claimed: Claimed, lease_s: float = 60.0
) -> tuple[HeldJobs, list["asyncio.Task[None]"]]:
    held = HeldJobs(pool, lease_s=lease_s, heartbeat_s=lease_s / 3, rand=Random(1), clock=clock)
    tasks = []
    for job in claimed:
        task: asyncio.Task[None] = asyncio.create_task(asyncio.sleep(3600))
        tasks.append(task)
        held.add(job, "requests", claimed_at=clock(), task=task)
    return held, tasks


async def end(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_lease_is_trusted_for_two_thirds_from_before_its_last_renewal(pool: Pool, clock: Clock) -> None:
    await put(pool, new_job())
    (job,) = await claim(pool)
    held, tasks = holding(pool, clock, job)
    clock.now += 39.9
    held.still_ours(job)
    clock.now += 0.2
    with pytest.raises(LeaseLost, match="renewed in time"):
        held.still_ours(job)
    assert await held.renew()
    held.still_ours(job)
    await end(tasks)


async def test_a_job_that_another_took_is_lost_and_its_work_cancelled(pool: Pool, clock: Clock) -> None:
    await put(pool, new_job("a"), new_job("b"))
    mine, other = await claim(pool, lease_s=0.01)
    held, tasks = holding(pool, clock, mine, other)
    taken = await until_claimed(pool, "heir")
    taken += await claim(pool, "heir")
    assert {job.job_id for job in taken} == {mine.job_id, other.job_id}
    assert await held.renew()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert held.is_lost(mine)
    assert held.held == []
    with pytest.raises(LeaseLost):
        held.still_ours(mine)


async def test_a_job_that_ends_just_now_is_not_taken_for_lost(pool: Pool, clock: Clock) -> None:
    """Its end is committed while its work goes on for a moment: that statement said whose it was."""
    await put(pool, new_job("a"), new_job("b"))
    ending, gone = await claim(pool)
    held, tasks = holding(pool, clock, ending, gone)
    held.ends(ending)
    async with pool.transaction() as connection:
        await jobs.finish(connection, [jobs.Finish(job.job_id, job.lease_token, "done") for job in (ending, gone)])
    assert await held.renew()
    await asyncio.sleep(0)
    assert ([task.done() for task in tasks], held.held) == ([False, True], [ending])
    await end(tasks)


async def test_a_job_claimed_again_by_the_same_worker_is_not_the_old_one(pool: Pool, clock: Clock) -> None:
    await put(pool, new_job())
    (old,) = await claim(pool, lease_s=0.01)
    held, tasks = holding(pool, clock, old)
    (new,) = await until_claimed(pool, "w1")
    task: asyncio.Task[None] = asyncio.create_task(asyncio.sleep(3600))
    held.add(new, "requests", claimed_at=clock(), task=task)
    held.still_ours(new)
    assert held.is_lost(old)
    held.remove(old)
    held.still_ours(new)
    await end([*tasks, task])


async def test_a_database_that_does_not_answer_loses_no_job_by_itself(pool: Pool, clock: Clock) -> None:
    await put(pool, new_job())
    (job,) = await claim(pool)
    held, tasks = holding(pool, clock, job)
    await pool.close()
    assert not await held.renew()
    held.still_ours(job)
    assert not tasks[0].done()
    await end(tasks)


async def test_the_heartbeat_keeps_jobs_for_longer_than_a_lease(pool: Pool) -> None:
    await put(pool, new_job())
    (job,) = await claim(pool, lease_s=0.3)
    held = HeldJobs(pool, lease_s=0.3, heartbeat_s=0.1, rand=Random(1))
    task: asyncio.Task[None] = asyncio.create_task(asyncio.sleep(3600))
    from shared.clock import monotonic

    held.add(job, "requests", claimed_at=monotonic(), task=task)
    beating = asyncio.create_task(held.run())
    ends = monotonic() + 0.9
    while monotonic() < ends:
        assert await claim(pool, "other") == []
        await asyncio.sleep(0.05)
    assert not held.is_lost(job)
    await end([task, beating])


async def test_a_cancelled_job_is_seen_long_before_the_next_renewal_and_others_go_on(pool: Pool) -> None:
    from shared.clock import monotonic

    await put(pool, new_job("a"), new_job("b"))
    first, second = await claim(pool)
    held = HeldJobs(pool, lease_s=6000, heartbeat_s=2000, look_s=0.02, rand=Random(1))
    tasks: list[asyncio.Task[None]] = [asyncio.create_task(asyncio.sleep(3600)) for _ in range(2)]
    for job, task in zip((first, second), tasks, strict=True):
        held.add(job, "requests", claimed_at=monotonic(), task=task)
    beating = asyncio.create_task(held.run())
    await pool.fetch("UPDATE jobs SET current_status = 'cancelled' WHERE job_id = $1", first.job_id)
    await asyncio.wait([tasks[0]], timeout=20)
    assert tasks[0].cancelled()
    assert (held.is_lost(first), held.is_lost(second), held.held) == (True, False, [second])
    # One that has ended is let go of by who ended it, with all that follows.
    await pool.fetch("UPDATE jobs SET current_status = 'done' WHERE job_id = $1", second.job_id)
    await held.look()
    assert not tasks[1].done()
    await end([*tasks, beating])


async def test_waiting_for_room_ends_when_a_job_does(pool: Pool, clock: Clock) -> None:
    await put(pool, new_job())
    (job,) = await claim(pool)
    held, tasks = holding(pool, clock, job)
    waiting = asyncio.create_task(held.wait_below(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    held.remove(job)
    await asyncio.wait_for(waiting, 1)
    assert await jobs.renew(pool, [], lease_s=1) == set()
    await end(tasks)

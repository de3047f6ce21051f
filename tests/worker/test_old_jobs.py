from typing import Any
from uuid import UUID

import pytest

from shared.store import job_retention, jobs
from shared.store.jobs import Finish
from shared.store.pool import Pool
from tests.shared.store.test_jobs import claim, new_job, put
from worker import old_jobs
from worker.old_jobs import OldJobs


async def ended(pool: Pool, name: str, status: Any, *, hours_ago: float) -> UUID:
    """A job that came to this end so long ago, with its response reserved."""
    (job_id,) = await put(pool, new_job(name))
    (held,) = await claim(pool)
    async with pool.transaction() as connection:
        await jobs.finish(connection, [Finish(job_id, held.lease_token, status)])
    await pool.fetch(
        "UPDATE jobs SET created_at = created_at - make_interval(mins => $2), "
        "finished_at = finished_at - make_interval(mins => $2) WHERE job_id = $1",
        job_id, round(hours_ago * 60),
    )  # fmt: skip
    return job_id


async def test_jobs_go_with_their_histories_when_their_time_is_over_and_dead_ones_later(pool: Pool) -> None:
    old = [await ended(pool, f"old-{n}", "done", hours_ago=25) for n in range(3)]
    kept = [
        await ended(pool, "new", "done", hours_ago=23),
        await ended(pool, "dead", "dead", hours_ago=47),
    ]
    dead = await ended(pool, "long dead", "dead", hours_ago=49)
    kept += await put(pool, new_job("waiting"))
    await pool.fetch("UPDATE jobs SET created_at = created_at - interval '1 year' WHERE name = 'waiting'")
    sweep = OldJobs(pool, ended_h=24, dead_h=48)
    assert await sweep.sweep() == 4
    assert await sweep.sweep() == 0
    left = {row["job_id"] for row in await pool.fetch("SELECT job_id FROM jobs")}
    assert left == set(kept)
    assert {row["job_id"] for row in await pool.fetch("SELECT DISTINCT job_id FROM job_status")} == set(kept)
    # The folders stay known for what they are, so that their files are announced by nobody.
    reserved = {row["job_id"] for row in await pool.fetch("SELECT job_id FROM responses WHERE job_id IS NOT NULL")}
    assert {*old, dead} <= reserved


async def test_many_go_in_several_transactions_of_bounded_size(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_retention, "BATCH", 2)
    for number in range(5):
        await ended(pool, f"{number}", "cancelled" if number % 2 else "done", hours_ago=25)
    assert await job_retention.prune(pool, "done", hours=24, limit=2) == 2
    assert await OldJobs(pool, ended_h=24, dead_h=24).sweep() == 3


def test_more_may_go_in_a_minute_than_a_worker_ends() -> None:
    assert old_jobs.BATCHES * job_retention.BATCH >= 60 * 1000

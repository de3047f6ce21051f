"""The queue: one claimant at a time, nothing by a stale token, and a history that nobody rewrites."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.job_events import AnnouncedFile, request_failed, response_ready
from shared.store import jobs, log, response_list, responses
from shared.store.jobs import Claimed, Finish, NewJob
from shared.store.pool import Pool
from shared.store.responses import Completion, Home, NewFile, Request
from tests.shared.store.samples import make_devices

QUEUE = "requests"


def new_job(name: str = "a.csv", device_id: str = "d1", **fields: Any) -> NewJob:
    job_id = uuid4()
    path = f"Requests/{device_id}/{name}"
    return NewJob(job_id, QUEUE, "table", device_id, "local", path, name, 10, "0" * 64)._replace(**fields)


async def put(pool: Pool, *new: NewJob) -> list[UUID]:
    await make_devices(pool, *{job.device_id for job in new})
    async with pool.transaction() as connection:
        await jobs.insert_jobs(connection, new)
    return [job.job_id for job in new]


def reserve(request: Request) -> Home:
    return Home(uuid4(), "local", f"Responses/{request.device_id}/{request.name}.{request.job_id}")


async def claim(pool: Pool, worker: str = "w1", limit: int = 10, lease_s: float = 60.0) -> list[Claimed]:
    return await jobs.claim(pool, QUEUE, worker, limit=limit, lease_s=lease_s, ttl_s=3600, reserve=reserve)


async def status(pool: Pool, job_id: UUID) -> str:
    job = await jobs.get(pool, job_id)
    assert job is not None
    return job.current_status


async def until_claimed(pool: Pool, worker: str) -> list[Claimed]:
    async with asyncio.timeout(5):
        while not (found := await claim(pool, worker)):
            await asyncio.sleep(0.01)
    return found


async def test_a_claim_brings_all_a_worker_needs(pool: Pool) -> None:
    (job_id,) = await put(pool, new_job(detected_age_s=1.5, traceparent="00-aa-bb-01"))
    (claimed,) = await claim(pool)
    assert (claimed.job_id, claimed.name, claimed.attempt, claimed.lease_token) == (job_id, "a.csv", 1, 1)
    assert claimed.folder == f"Responses/d1/a.csv.{job_id}"
    assert claimed.traceparent == "00-aa-bb-01"
    assert 3590 < claimed.expires_in_s <= 3600
    assert 0 <= claimed.waited_s < 5
    job = await jobs.get(pool, job_id)
    assert job is not None
    assert job.detected_at is not None
    assert 1 < (job.created_at - job.detected_at).total_seconds() < 3


async def test_of_many_claimants_each_job_has_one(pool: Pool) -> None:
    ids = await put(pool, *(new_job(f"{n}.csv", f"d{n % 7}") for n in range(60)))
    taken = [
        claimed for batch in await asyncio.gather(*(claim(pool, f"w{n}", 10) for n in range(12))) for claimed in batch
    ]
    taken += await claim(pool, "last", 100)
    assert sorted(one.job_id for one in taken) == sorted(ids)


async def test_a_job_that_is_not_due_waits(pool: Pool) -> None:
    (job_id,) = await put(pool, new_job())
    (claimed,) = await claim(pool)
    assert await jobs.retry(pool, job_id, claimed.lease_token, error="x", delay_s=60)
    assert await claim(pool) == []
    assert (await jobs.depth(pool, QUEUE)).waiting == 0
    assert await claim(pool, "w", 0) == []


async def test_a_retry_keeps_folder_and_time_to_live_and_counts_the_attempt(pool: Pool) -> None:
    (job_id,) = await put(pool, new_job())
    (first,) = await claim(pool)
    assert await jobs.retry(pool, job_id, first.lease_token, error="no luck", delay_s=0)
    (second,) = await claim(pool)
    assert (second.attempt, second.lease_token) == (2, 2)
    assert (second.folder, second.response_id) == (first.folder, first.response_id)
    assert second.expires_in_s < first.expires_in_s


async def test_a_silent_workers_job_is_taken_over_and_its_token_is_over(pool: Pool) -> None:
    (job_id,) = await put(pool, new_job())
    (first,) = await claim(pool, "silent", lease_s=0.05)
    (second,) = await until_claimed(pool, "heir")
    assert second.lease_token == first.lease_token + 1
    assert await jobs.renew(pool, [(job_id, first.lease_token)], lease_s=60) == set()
    assert not await jobs.retry(pool, job_id, first.lease_token, error="late", delay_s=0)
    assert await jobs.release(pool, [(job_id, first.lease_token)]) == set()
    async with pool.transaction() as connection:
        assert await jobs.finish(connection, [Finish(job_id, first.lease_token, "done")]) == {}
    assert await status(pool, job_id) == "running"


async def test_jobs_whose_workers_died_with_them_twice_are_taken_one_at_a_time(pool: Pool) -> None:
    ids = await put(pool, *(new_job(f"{n}") for n in range(4)))
    for _ in range(2):
        assert {one.job_id for one in await claim(pool)} == set(ids)
        await pool.fetch("UPDATE jobs SET lease_until = clock_timestamp()")
    (other,) = await put(pool, new_job("other"))
    (suspect, fresh) = sorted(await claim(pool), key=lambda job: not job.is_suspect)
    assert (suspect.is_suspect, suspect.attempt, fresh.job_id) == (True, 3, other)
    # Whoever holds one takes no other; somebody else may.
    assert await jobs.claim(pool, QUEUE, "w", limit=9, lease_s=60, ttl_s=3600, reserve=reserve, suspects=0) == []
    (second,) = await claim(pool, "w2")
    assert second.is_suspect
    assert second.job_id != suspect.job_id
    assert [one.is_suspect for one in await claim(pool, "w3", 1)] == [True]


async def test_renewing_keeps_a_job(pool: Pool) -> None:
    ids = await put(pool, new_job("a"), new_job("b"))
    held = [(one.job_id, one.lease_token) for one in await claim(pool)]
    await pool.fetch("UPDATE jobs SET lease_until = clock_timestamp()")
    assert await jobs.renew(pool, held, lease_s=60) == set(ids)
    assert await claim(pool, "other") == []


async def test_releasing_does_not_count_the_attempt(pool: Pool) -> None:
    (job_id,) = await put(pool, new_job())
    (first,) = await claim(pool)
    assert await jobs.release(pool, [(job_id, first.lease_token)]) == {job_id}
    (second,) = await claim(pool)
    assert (second.attempt, second.lease_token) == (1, 2)


def finished(one: Claimed, pool: Pool) -> Callable[[Any], Any]:
    event = response_ready(
        event_id=uuid4(), job_id=one.job_id, device_id=one.device_id, request_name=one.name,
        files=[AnnouncedFile(uuid4(), "summary.json", 3, "1" * 64, "application/json")],
        source="/t", time="2026-01-01T00:00:00Z", redrives=one.redrives,
    )  # fmt: skip

    async def work(connection: Any) -> list[log.Appended]:
        ended = await jobs.finish(connection, [Finish(one.job_id, one.lease_token, "done")])
        if not ended:
            return []
        file = NewFile(
            uuid4(), one.job_id, f"{one.folder}/summary.json", "summary.json", 3, "1" * 64, "application/json"
        )
        await responses.complete(connection, [Completion(one.job_id, "ready", None, event.event_id)], [file])
        return await log.append(connection, [event])

    return work


async def test_the_end_of_a_job_its_response_and_its_event_are_one(pool: Pool) -> None:
    (job_id,) = await put(pool, new_job())
    (one,) = await claim(pool)
    assert await pool.run(finished(one, pool)) == [log.Appended("recorded", 1, 1)]
    assert await pool.run(finished(one, pool)) == []
    assert await status(pool, job_id) == "done"
    (row,) = await response_list.page(pool, "d1", before=None, limit=5)
    assert (row.job_id, row.outcome, row.request_name) == (job_id, "ready", "a.csv")
    assert "summary.json" in row.files
    assert [line.status for line in await jobs.history(pool, job_id)] == ["done", "running", "queued"]


async def test_two_ends_of_one_job_at_once_record_one_event(pool: Pool) -> None:
    await put(pool, new_job())
    (one,) = await claim(pool)
    results = await asyncio.gather(*(pool.run(finished(one, pool)) for _ in range(6)))
    assert sum(len(result) for result in results) == 1


async def test_cancelling_takes_a_job_from_its_worker_and_tells_the_device(pool: Pool) -> None:
    (job_id,) = await put(pool, new_job())
    (one,) = await claim(pool)

    def announce(cancelled: jobs.Cancelled) -> log.NewEvent:
        return request_failed(
            event_id=uuid4(), job_id=cancelled.job_id, device_id=cancelled.device_id, request_name=cancelled.name,
            reason="cancelled", source="/t", time="2026-01-01T00:00:00Z",
        )  # fmt: skip

    ended = await jobs.cancel(pool, job_id, reason="not needed", response_id=uuid4(), announce=announce)
    assert ended is not None
    appended = ended[1]
    assert appended is not None
    assert appended.status == "recorded"
    assert await jobs.cancel(pool, job_id, reason="again", response_id=uuid4(), announce=announce) is None
    assert await pool.run(finished(one, pool)) == []
    assert await jobs.renew(pool, [(job_id, one.lease_token)], lease_s=60) == set()
    assert (await status(pool, job_id), await claim(pool)) == ("cancelled", [])
    (row,) = await response_list.page(pool, "d1", before=None, limit=5)
    assert (row.outcome, row.reason) == ("failed", "not needed")


async def test_of_many_who_queue_a_dead_job_anew_one_does_and_its_old_claim_ends_nothing(pool: Pool) -> None:
    (job_id,) = await put(pool, new_job())
    (old,) = await claim(pool)
    async with pool.transaction() as connection:
        assert await jobs.finish(connection, [Finish(job_id, old.lease_token, "dead", "no luck")])
    queues = await asyncio.gather(*(jobs.redrive(pool, job_id, detail=f"by {n}") for n in range(6)))
    assert sorted(queues, key=str) == [None] * 5 + [QUEUE]
    (new,) = await claim(pool)
    assert (new.attempt, new.redrives, new.folder) == (1, 1, old.folder)
    assert new.expires_in_s > 3590
    # The worker that lost the answer to its end says it again, and that is over.
    assert await pool.run(finished(old, pool)) == []
    assert [one.status for one in await pool.run(finished(new, pool))] == ["recorded"]
    assert [row.status for row in await jobs.history(pool, job_id)].count("queued") == 2


async def test_the_history_can_only_grow(pool: Pool) -> None:
    (job_id,) = await put(pool, new_job())
    for statement in ("UPDATE job_status SET status = 'done'", "DELETE FROM job_status", "TRUNCATE job_status"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await pool.fetch(statement)
    await pool.fetch("DELETE FROM jobs WHERE job_id = $1", job_id)
    assert await jobs.history(pool, job_id) == []


async def test_the_depth_of_a_queue_counts_what_waits(pool: Pool) -> None:
    await put(pool, *(new_job(str(n)) for n in range(5)))
    await claim(pool, limit=2)
    depth = await jobs.depth(pool, QUEUE)
    assert depth.waiting == 3
    assert depth.oldest_s >= 0
    assert (await jobs.depth(pool, "other")).waiting == 0


async def test_a_claim_reads_only_what_is_due(pool: Pool) -> None:
    """However many wait for later, the index leads to what is due now."""
    await put(pool, *(new_job(f"{n}", f"d{n % 5}") for n in range(2000)))
    await pool.fetch("UPDATE jobs SET run_at = clock_timestamp() + interval '1 hour' WHERE name <> '7'")
    await pool.fetch("ANALYZE jobs")
    async with pool.transaction() as connection:
        arguments = [QUEUE, "w", 10, 60.0, 3600.0, 0, 0, [f"d{n}" for n in range(5)], 1]
        rows = await connection.fetch("EXPLAIN (ANALYZE, FORMAT TEXT) " + jobs._SQL["claim"], *arguments)
    plan = "\n".join(row[0] for row in rows)
    assert "jobs_turns" in plan
    assert "Rows Removed by Filter: 1" not in plan

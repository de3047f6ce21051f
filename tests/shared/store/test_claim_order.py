"""Whose turn it is: higher priorities first, round the devices, and of one device no more at once than may be."""

import asyncio
from collections import Counter
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.store import jobs
from shared.store.jobs import Claimed, NewJob
from shared.store.pool import Pool
from shared.store.turns import Turns
from tests.shared.store.test_jobs import QUEUE, new_job, put, reserve

few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def claim(
    pool: Pool, limit: int, turns: Turns | None = None, *, device_limit: int = 0, worker: str = "w"
) -> list[Claimed]:
    return await jobs.claim(
        pool,
        QUEUE,
        worker,
        limit=limit,
        lease_s=60,
        ttl_s=3600,
        reserve=reserve,
        turns=turns,
        device_limit=device_limit,
    )


def many(device_id: str, count: int, **fields: object) -> list[NewJob]:
    return [new_job(f"{device_id}-{n:04}", device_id, **fields) for n in range(count)]


async def drained(pool: Pool, *, limit: int, device_limit: int = 0) -> list[list[Claimed]]:
    """Claims of one worker until it says that there is no more."""
    turns, claims = Turns(), []
    while True:
        claims.append(await claim(pool, limit, turns, device_limit=device_limit))
        if len(claims[-1]) < limit and not turns.more:
            return claims


async def clear(pool: Pool) -> None:
    await pool.fetch("DELETE FROM responses")
    await pool.fetch("DELETE FROM jobs")


@few
@given(backlogs=st.lists(st.integers(1, 12), min_size=1, max_size=5), limit=st.integers(2, 12))
async def test_no_device_gets_a_second_turn_before_others_that_wait_had_theirs(
    pool: Pool, backlogs: list[int], limit: int
) -> None:
    await clear(pool)
    await put(pool, *(job for n, count in enumerate(backlogs) for job in many(f"d{n}", count)))
    left = Counter({f"d{n}": count for n, count in enumerate(backlogs)})
    got: Counter[str] = Counter()
    for claimed in await drained(pool, limit=limit):
        for job in claimed:
            got[job.device_id] += 1
        waiting = [device for device in left if got[device] < left[device]]
        most = max(got.values())
        assert all(most - got[device] <= 1 for device in waiting), (got, left)
    assert got == left


@few
@given(
    waiting=st.lists(st.tuples(st.sampled_from(["d1", "d2", "d3"]), st.integers(-9, 9)), min_size=1, max_size=25),
    limit=st.integers(1, 6),
)
async def test_what_is_claimed_has_the_highest_priority_that_waits_but_one_job_in_eight(
    pool: Pool, waiting: list[tuple[str, int]], limit: int
) -> None:
    await clear(pool)
    made = [new_job(f"{n}", device, priority=priority) for n, (device, priority) in enumerate(waiting)]
    await put(pool, *made)
    left: dict[UUID, int] = {job.job_id: job.priority for job in made}
    turns, plain, lifted = Turns(), 0, 0
    while left:
        turn = turns.turn(limit)
        claimed = [left.pop(job.job_id) for job in await claim(pool, limit, turns)]
        assert len(set(claimed)) == 1
        if turn:
            lifted += len(claimed)
        else:
            plain += len(claimed)
            assert claimed[0] >= max(left.values(), default=-9)
    assert lifted <= plain / 7 + limit


async def test_within_a_device_what_was_due_first_comes_first(pool: Pool) -> None:
    made = many("d1", 6)
    await put(pool, *made)
    for n, job in enumerate(made):
        await pool.fetch("UPDATE jobs SET run_at = now() - $2 * interval '1 s' WHERE job_id = $1", job.job_id, 10 + n)
    order = [(await claim(pool, 1))[0].job_id for _ in made]
    assert order == [job.job_id for job in reversed(made)]


async def test_another_devices_job_is_in_the_next_claim_whatever_one_has_waiting(pool: Pool) -> None:
    await put(pool, *many("flood", 200))
    turns = Turns()
    assert {job.device_id for job in await claim(pool, 10, turns)} == {"flood"}
    (other,) = await put(pool, new_job("mine", "zulu"))
    assert other in {job.job_id for job in await claim(pool, 2, turns)}
    (first,) = await put(pool, new_job("mine too", "alpha"))
    assert first in {job.job_id for job in await claim(pool, 2, turns)}


async def test_of_one_device_no_more_run_at_once_than_may_by_any_number_of_claimants(pool: Pool) -> None:
    await put(pool, *many("d1", 40), *many("d2", 3), *many("d3", 40))
    stands = [Turns() for _ in range(8)]
    held: list[Claimed] = []
    for _ in range(4):
        rounds = await asyncio.gather(
            *(claim(pool, 10, turns, device_limit=5, worker=f"w{n}") for n, turns in enumerate(stands))
        )
        held += [job for claimed in rounds for job in claimed]
    running = Counter(job.device_id for job in held)
    assert running == {"d1": 5, "d2": 3, "d3": 5}
    assert await claim(pool, 10, device_limit=5) == []
    one = next(job for job in held if job.device_id == "d1")
    await jobs.release(pool, [(one.job_id, one.lease_token)])
    assert [job.device_id for job in await claim(pool, 10, device_limit=5)] == ["d1"]


async def test_a_device_whose_jobs_wait_for_later_or_run_hides_none_of_another(pool: Pool) -> None:
    await put(pool, *many("a", 30), *many("z", 2))
    await pool.fetch("UPDATE jobs SET run_at = now() + interval '1 hour' WHERE device_id = 'a'")
    assert {job.device_id for job in await claim(pool, 1)} == {"z"}
    await put(pool, *many("b", 30, priority=9))
    assert len(await claim(pool, 4, device_limit=4)) == 4
    assert [job.device_id for job in await claim(pool, 4, device_limit=4)] == ["z"]


async def test_jobs_whose_worker_is_silent_come_first_and_stay_within_the_room(pool: Pool) -> None:
    await put(pool, *many("d1", 4), *many("d2", 4))
    first = await claim(pool, 3)
    await pool.fetch("UPDATE jobs SET lease_until = now() - interval '1 s' WHERE current_status = 'running'")
    second = await claim(pool, 4)
    assert {job.job_id for job in first} < {job.job_id for job in second}
    assert len(second) == 4

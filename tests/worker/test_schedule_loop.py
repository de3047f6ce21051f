"""Schedules: each firing by one worker, missed ones made up for by one, none beside a job that has not ended."""

import asyncio
from datetime import timedelta
from random import Random
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from shared.job_kinds import DEFAULT_KINDS
from shared.store import devices, schedules
from shared.store.pool import Pool
from shared.store.schedules import NewSchedule
from worker.schedule_loop import ScheduleLoop


def loop_of(pool: Pool, woken: list[int] | None = None) -> ScheduleLoop:
    called = [] if woken is None else woken
    return ScheduleLoop(pool, DEFAULT_KINDS, store="local", fired=lambda: called.append(1), rand=Random(1))


async def put(pool: Pool, name: str = "hourly", *, due_s: float = 1.0, **changes: Any) -> None:
    """A schedule that has been due for so long."""
    for device_id in ("truck-7", "truck-8"):
        await devices.ensure(pool, device_id, "truck")
    next_at = await schedules.now(pool) - timedelta(seconds=due_s)
    new = NewSchedule(
        name, None, 3600, "UTC", ["truck-7", "truck-8"], "table", "load.csv", "a\n1\n", None, next_at, "operator:olga"
    )
    await schedules.put(pool, new._replace(**changes))
    await pool.fetch("UPDATE schedules SET next_at = $2 WHERE name = $1", name, next_at)


async def queued(pool: Pool) -> list[Any]:
    return await pool.fetch("SELECT * FROM jobs ORDER BY device_id, created_at")


async def test_a_firing_queues_a_job_for_each_device_and_moves_the_schedule_on(pool: Pool) -> None:
    await put(pool, due_s=1.0)
    woken: list[int] = []
    assert await loop_of(pool, woken).once() == 1
    made = await queued(pool)
    assert [(job["device_id"], job["queue"], job["inline_body"], job["requested_by"]) for job in made] == [
        (device, "requests", "a\n1\n", "schedule:hourly") for device in ("truck-7", "truck-8")
    ]
    one = await schedules.get(pool, "hourly")
    assert one is not None
    assert one.fired_at is not None
    assert timedelta(seconds=3590) < one.next_at - one.fired_at <= timedelta(seconds=3600)
    assert (await loop_of(pool).once(), woken) == (0, [1])
    history = await pool.fetch("SELECT status, detail FROM job_status")
    assert {tuple(row) for row in history} == {("queued", "schedule hourly")}


async def test_of_many_workers_that_look_at_once_one_fires(pool: Pool) -> None:
    for number in range(5):
        await put(pool, f"s{number}", kind="model", priority=number)
    fired = await asyncio.gather(*(loop_of(pool).once() for _ in range(6)))
    assert sum(fired) == 5
    made = await queued(pool)
    assert len(made) == 10
    assert {(job["queue"], job["priority"]) for job in made} == {("ai", number) for number in range(5)}


async def test_however_many_firings_were_missed_one_makes_up_for_them(pool: Pool) -> None:
    await put(pool, due_s=10 * 3600 + 5)
    assert await loop_of(pool).once() == 1
    assert await loop_of(pool).once() == 0
    one = await schedules.get(pool, "hourly")
    assert one is not None
    assert timedelta(seconds=3500) < one.next_at - await schedules.now(pool) < timedelta(seconds=3600), "in its step"


async def test_a_device_whose_last_job_has_not_ended_gets_none_and_a_paused_schedule_makes_none(pool: Pool) -> None:
    await put(pool)
    assert await loop_of(pool).once() == 1
    await pool.fetch("UPDATE jobs SET current_status = 'done' WHERE device_id = 'truck-8'")
    await put(pool)
    assert await loop_of(pool).once() == 1
    assert [job["device_id"] for job in await queued(pool)] == ["truck-7", "truck-8", "truck-8"]
    await put(pool)
    assert await schedules.enable(pool, "hourly", enabled=False, next_at=await schedules.now(pool))
    assert await loop_of(pool).once() == 0


async def test_a_firing_and_its_jobs_are_one(pool: Pool) -> None:
    """What cannot be inserted does not move the schedule on either."""
    await put(pool)
    (due,) = await schedules.due(pool)
    with pytest.raises(asyncpg.CheckViolationError):
        await schedules.fire(
            pool, due.schedule, due.now, job_ids=[uuid4(), uuid4()], queue="requests", store="local", priority=99
        )
    assert [one.schedule.next_at for one in await schedules.due(pool)] == [due.schedule.next_at]


async def test_one_that_cannot_be_fired_does_not_hold_up_those_after_it(pool: Pool) -> None:
    await pool.fetch("ALTER TABLE jobs ADD CONSTRAINT none_of_it CHECK (name <> 'bad.csv')")
    await put(pool, "bad", due_s=60, request_name="bad.csv")
    await put(pool, "good")
    loop = loop_of(pool)
    assert (await loop.once(), await loop.once()) == (1, 0)
    assert [due.schedule.name for due in await schedules.due(pool)] == ["bad"]
    await pool.fetch("ALTER TABLE jobs DROP CONSTRAINT none_of_it")
    assert await loop.once() == 1


async def test_one_that_waits_for_a_lock_does_not_hold_up_those_after_it(pool: Pool, database_url: str) -> None:
    await put(pool, "locked", due_s=60)
    await put(pool, "good")
    rival = await asyncpg.connect(database_url)
    async with rival.transaction():
        await rival.execute("SELECT FROM schedules WHERE name = 'locked' FOR UPDATE")
        assert await loop_of(pool).once() == 1
    await rival.close()
    assert [due.schedule.name for due in await schedules.due(pool)] == ["locked"]


async def test_a_rule_that_is_not_known_here_is_left_to_others(pool: Pool) -> None:
    await put(pool, "far", timezone="Mars/Olympus")
    await put(pool, "near")
    loop = loop_of(pool)
    assert (await loop.once(), await loop.once()) == (1, 0)
    assert [due.schedule.name for due in await schedules.due(pool)] == ["far"]

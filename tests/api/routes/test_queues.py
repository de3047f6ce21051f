"""How the queues stand, and how fast jobs come and end."""

import asyncpg
import pytest

from shared.store import devices, queues
from shared.store.pool import Pool
from tests.api.conftest import RunningApi, problem
from tests.api.jobs import add_change, add_job

PATH = "/api/v1/queues"


@pytest.fixture(autouse=True)
async def trucks(pool: Pool) -> None:
    await devices.ensure(pool, "truck-7", "truck")


async def test_each_queue_says_what_waits_what_waits_for_its_time_and_what_runs(
    api: RunningApi, sql: asyncpg.Connection
) -> None:
    for status in ("queued", "queued", "retry", "retry", "running", "done", "dead"):
        await add_job(sql, status=status)
    await sql.execute("UPDATE jobs SET run_at = clock_timestamp() - interval '1 minute'")
    await sql.execute(
        "UPDATE jobs SET run_at = clock_timestamp() + interval '1 hour' WHERE job_id = "
        "(SELECT job_id FROM jobs WHERE current_status = 'retry' LIMIT 1)"
    )
    [requests] = (await api.operator.get(PATH)).json()["queues"]
    assert (requests["queue"], requests["waiting"], requests["delayed"], requests["running"]) == ("requests", 3, 1, 1)
    assert 60 <= requests["oldest_s"] < 600


async def test_rates_count_the_changes_of_the_last_seconds_only(
    api: RunningApi, pool: Pool, sql: asyncpg.Connection
) -> None:
    job = await add_job(sql, status="done")  # long ago, as its history says
    assert await queues.states(pool) == []
    await sql.executemany(
        "INSERT INTO job_status (job_id, status) VALUES ($1, $2)", [(job, "done")] * 20 + [(job, "retry")] * 5
    )
    await add_change(sql, job, "dead", after_us=0)
    [requests] = (await api.operator.get(PATH)).json()["queues"]
    assert requests["per_s"] == {"queued": 0, "running": 0, "done": 2, "retry": 0.5, "dead": 0, "cancelled": 0}
    assert requests["waiting"] == 0


async def test_many_changes_shorten_the_time_that_rates_are_taken_from(
    pool: Pool, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await add_job(sql, status="done")
    monkeypatch.setattr(queues, "CHANGES_MAX", 10)
    await sql.execute(
        "INSERT INTO job_status (job_id, status, ts) SELECT $1, 'done', clock_timestamp() - make_interval(secs => 1) "
        "FROM generate_series(1, 50)",
        job,
    )
    [requests] = await queues.states(pool)
    assert 0.5 < requests.per_s["done"] <= 10  # ten in the second that they reach back


async def test_only_operators_look(api: RunningApi) -> None:
    problem(await api.device("truck-7").get(PATH), 403, "forbidden")


async def test_no_queue_is_hidden_behind_one_that_holds_very_much(
    pool: Pool, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "COUNTED_MAX", 3)
    for status in ["queued"] * 6 + ["running"] * 2:
        await add_job(sql, status=status)
    for number, queue in enumerate(("ai", "zoo")):
        job = await add_job(sql, status=("queued", "running")[number])
        await sql.execute("UPDATE jobs SET queue = $2 WHERE job_id = $1", job, queue)
    found = {one.queue: (one.waiting, one.running) for one in await queues.states(pool)}
    assert found == {"ai": (1, 0), "requests": (3, 2), "zoo": (0, 1)}

"""What the lists of jobs read, on 100,000 jobs that are unlike an even spread, with the planner as it comes."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from api.job_list import JobKey, JobQuestion, key_of, plan
from shared.store import job_list
from shared.store.job_list import Walk
from shared.store.pool import Pool, open_pool
from shared.store.queries import statements
from tests.shared.store import job_crowd
from tests.shared.store.explained import explained, literal

SQL = statements("job_list")
LIMIT = 100
MIDDLE = job_crowd.BEGIN + timedelta(seconds=12.5)

# Every index, every second filter, every range, rare and common values: with the index that must answer it.
QUESTIONS = [
    (JobQuestion(), "jobs_created"),
    (JobQuestion(created_from=MIDDLE), "jobs_created"),
    (JobQuestion(created_to=MIDDLE), "jobs_created"),
    *[(JobQuestion(status=status), "jobs_status") for status in ("queued", "running", "done", "dead", "cancelled")],
    (JobQuestion(status="done", created_from=MIDDLE), "jobs_status"),
    (JobQuestion(status="dead", created_to=MIDDLE), "jobs_status"),
    (JobQuestion(status="dead", kind="photo"), "jobs_status"),
    (JobQuestion(status="queued", kind="model"), "jobs_status"),
    *[(JobQuestion(kind=kind), "jobs_kind") for kind in ("photo", "table", "model", "unheard-of")],
    (JobQuestion(kind="photo", created_from=MIDDLE, created_to=MIDDLE + timedelta(seconds=1)), "jobs_kind"),
    (JobQuestion(kind="photo", status="done"), "jobs_kind"),
    (JobQuestion(kind="model", status="done"), "jobs_kind"),
    *[(JobQuestion(device_id=device), "jobs_device") for device in ("truck-0", "truck-7", "nobody")],
    (JobQuestion(device_id="truck-0", created_to=MIDDLE), "jobs_device"),
    (JobQuestion(device_id="truck-0", status="done"), "jobs_device"),
    (JobQuestion(device_id="truck-0", kind="model"), "jobs_device"),
    (JobQuestion(device_id="truck-7", status="dead"), "jobs_device"),
    (JobQuestion(only_device="truck-0", status="dead", kind="photo"), "jobs_device"),
    *[(JobQuestion(sort="name", name_prefix=prefix), "jobs_name") for prefix in (None, "load-4", "photo.jpg", "zzz")],
]  # fmt: skip


@pytest.fixture(scope="module")
def crowded_url(_databases: Any) -> Iterator[str]:
    """A database that the tests here share, since they only read."""
    name, url = _databases.make()
    yield url
    _databases.drop(name)


@pytest.fixture
async def sql(crowded_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(crowded_url)
    try:
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM jobs)"):
            await job_crowd.fill(connection)
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def pool(crowded_url: str, sql: asyncpg.Connection) -> AsyncIterator[Pool]:
    opened = await open_pool(crowded_url, name="test", max_size=2)
    yield opened
    await opened.close()


def arguments_of(walk: Walk) -> list[object]:
    return [*walk.key, LIMIT + 1, *walk.checks]


async def at_depth(sql: asyncpg.Connection, question: JobQuestion, offset: int) -> JobKey | None:
    """The key of a row far down the list of the question's own order and index, or None when there is none so far."""
    column = "name" if question.sort == "name" else "created_at"
    way = "DESC" if question.descending else "ASC"
    given = [("current_status", question.status), ("kind", question.kind), ("device_id", question.device_id)]
    where = " AND ".join(f"{name} = {literal(value)}" for name, value in given if value is not None) or "true"
    row = await sql.fetchrow(
        f"SELECT {column}, job_id FROM jobs WHERE {where} ORDER BY {column} {way}, job_id {way} OFFSET {offset} LIMIT 1"
    )
    return (row[0], UUID(str(row[1]))) if row is not None else None


async def test_every_list_reads_one_index_in_order_and_no_more_rows_than_it_may(sql: asyncpg.Connection) -> None:
    wrong: list[object] = []
    for question, index in [(replace(q, descending=d), i) for q, i in QUESTIONS for d in (True, False)]:
        keys = [None, *[await at_depth(sql, question, depth) for depth in (1000, 70_000)]]
        for after in dict.fromkeys(keys):
            walk = plan(question, after)
            allowed = job_list.WALK_MAX if walk.checks else LIMIT + 1
            # What a walk within the index found is read by its key: four pages down that index and one of the table.
            found = LIMIT + 1 if walk.checks else 0
            for times in (0, 7):
                read = await explained(sql, SQL, walk.statement, arguments_of(walk), times)
                sorts = {kind for kind in read.nodes if "Sort" in kind or "Bitmap" in kind}
                pages = 80 + 5 * found if walk.checks else 20 + 1.1 * read.rows
                indexes = {index, "jobs_pkey"} if walk.checks else {index}
                if read.indexes != indexes or read.rows > allowed + found or sorts or read.pages > pages:
                    wrong.append((question, after, times, walk.statement, read))
    assert not wrong, "\n".join(map(str, wrong))


async def test_a_job_and_its_history_are_read_by_their_keys(sql: asyncpg.Connection) -> None:
    job_id = await sql.fetchval("SELECT job_id FROM jobs WHERE size = 11 ORDER BY created_at OFFSET 5000 LIMIT 1")
    for times in (0, 7):
        read = await explained(sql, SQL, "job", [job_id], times)
        assert read.indexes == {"jobs_pkey", "responses_job_id_key"}
        assert read.pages <= 10
        read = await explained(sql, SQL, "history", [job_id, job_crowd.BEGIN + timedelta(days=1), 0, LIMIT], times)
        assert read.indexes == {"job_status_history"}
        assert (read.rows, read.pages <= 15) == (2, True)


async def test_pages_bring_each_job_once_and_in_order_whatever_was_asked(pool: Pool, sql: asyncpg.Connection) -> None:
    for question in (
        JobQuestion(device_id="truck-0", kind="model"),
        JobQuestion(device_id="truck-0", status="dead", descending=False),
        JobQuestion(status="cancelled", kind="photo"),
        JobQuestion(created_from=MIDDLE, created_to=MIDDLE + timedelta(milliseconds=100)),
        JobQuestion(sort="name", name_prefix="load-49", descending=False),
    ):
        seen, calls, after = list[Any](), 0, None
        while True:
            found = await job_list.page(pool, plan(question, after), limit=37)
            assert len(found.rows) <= 37
            assert calls < 100
            seen += found.rows
            calls += 1
            if found.last is None:
                break
            after = key_of(question, found.last)
        expected = await sql.fetch(
            "SELECT job_id FROM jobs WHERE ($1::text IS NULL OR current_status = $1)"
            " AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR device_id = $3)"
            " AND created_at >= $4 AND created_at < $5"
            " AND starts_with(name, $6)",
            question.status, question.kind, question.device_id, question.created_from or job_crowd.BEGIN,
            question.created_to or job_crowd.BEGIN + timedelta(days=1), question.name_prefix or "",
        )  # fmt: skip
        assert {row.job_id for row in seen} == {row["job_id"] for row in expected}
        keys = [key_of(question, row) for row in seen]
        assert keys == sorted(keys, reverse=question.descending)
        assert len(keys) == len(expected) > 0
        assert calls <= 2 + len(keys) // 37 + 60_000 // job_list.WALK_MAX

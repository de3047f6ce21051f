"""What the lists of inspections read, on 100,000 that are unlike an even spread, with the planner as it comes."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from api.inspection_list import InspectionKey, InspectionQuestion, key_of, plan
from shared.store import inspections
from shared.store.inspections import Walk
from shared.store.pool import Pool, open_pool
from shared.store.queries import statements
from tests.shared.store import inspection_crowd
from tests.shared.store.explained import explained, literal
from tests.shared.store.inspection_crowd import COMMON, RARE

SQL = statements("inspections")
LIMIT = 100
MIDDLE = inspection_crowd.BEGIN + timedelta(seconds=12.5)
ALL = ("draft", "submitted", "approved", "rejected")

# Every list, rare and common values, with and without a status and a range: with the index that must answer it.
QUESTIONS = [
    (InspectionQuestion(), "inspections_created"),
    (InspectionQuestion(created_from=MIDDLE), "inspections_created"),
    (InspectionQuestion(created_to=MIDDLE), "inspections_created"),
    (InspectionQuestion(sort="submitted_at"), "inspections_submitted"),
    (InspectionQuestion(sort="submitted_at", submitted_from=MIDDLE), "inspections_submitted"),
    (InspectionQuestion(sort="submitted_at", submitted_to=MIDDLE), "inspections_submitted"),
    *[(InspectionQuestion(inspector_id=who), "inspections_inspector") for who in ("truck-0", "truck-7", "nobody")],
    *[(InspectionQuestion(inspector_id="truck-0", status=s), "inspections_inspector") for s in ALL],  # type: ignore[arg-type]
    (InspectionQuestion(only_inspector="truck-0", created_to=MIDDLE), "inspections_inspector"),
    (InspectionQuestion(only_inspector="truck-7", status="rejected"), "inspections_inspector"),
    *[(InspectionQuestion(template_id=which), "inspections_template") for which in (COMMON, RARE, UUID(int=3))],
    *[(InspectionQuestion(template_id=COMMON, status=s), "inspections_template") for s in ALL],  # type: ignore[arg-type]
    (InspectionQuestion(template_id=COMMON, created_from=MIDDLE), "inspections_template"),
    *[(InspectionQuestion(status=s), "inspections_status") for s in ALL],  # type: ignore[arg-type]
    *[(InspectionQuestion(is_deleted=deleted), "inspections_status") for deleted in (True, False)],
    (InspectionQuestion(is_deleted=True, status="approved"), "inspections_status"),
    (InspectionQuestion(is_deleted=False, status="rejected", created_to=MIDDLE), "inspections_status"),
]


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
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM inspections)"):
            await inspection_crowd.fill(connection)
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def pool(crowded_url: str, sql: asyncpg.Connection) -> AsyncIterator[Pool]:
    opened = await open_pool(crowded_url, name="test", max_size=2)
    yield opened
    await opened.close()


def where(question: InspectionQuestion) -> str:
    given = [
        ("inspector_id", question.inspector_id or question.only_inspector),
        ("template_id", question.template_id),
        ("is_deleted", question.is_deleted),
        ("status", question.status),
    ]
    return " AND ".join(f"{name} = {literal(value)}" for name, value in given if value is not None) or "true"


async def at_depth(sql: asyncpg.Connection, question: InspectionQuestion, offset: int) -> InspectionKey | None:
    """The key of a row far down the list, or None when there is none so far."""
    way = "DESC" if question.descending else "ASC"
    row = await sql.fetchrow(
        f"SELECT {question.sort}, inspection_id FROM inspections"
        f" WHERE {where(question)} AND {question.sort} IS NOT NULL ORDER BY 1 {way}, 2 {way} OFFSET {offset} LIMIT 1"
    )
    return (row[0], UUID(str(row[1]))) if row is not None else None


def arguments_of(walk: Walk) -> list[object]:
    return [*walk.arguments, LIMIT + 1]


def walks_of(walk: Walk) -> int:
    """How many short walks are merged."""
    return len(walk.arguments[-1]) if isinstance(walk.arguments[-1], list) else 1


async def test_every_list_reads_one_index_in_order_and_no_more_rows_than_it_may(sql: asyncpg.Connection) -> None:
    wrong: list[object] = []
    for question, index in [(replace(q, descending=d), i) for q, i in QUESTIONS for d in (True, False)]:
        for after in dict.fromkeys([None, *[await at_depth(sql, question, depth) for depth in (1000, 70_000)]]):
            walk = plan(question, after)
            walks = walks_of(walk)
            for times in (0, 7):
                read = await explained(sql, SQL, walk.statement, arguments_of(walk), times)
                # Only what was read by walks to be merged is sorted; how much they read says that they came in order.
                is_merged = isinstance(walk.arguments[-1], list)
                out_of_order = {kind for kind in read.nodes if "Bitmap" in kind or (not is_merged and "Sort" in kind)}
                too_many = read.rows > walks * (LIMIT + 1) or read.pages > 20 * walks + 1.1 * max(read.rows, 1)
                if read.indexes != {index} or out_of_order or too_many:
                    wrong.append((question, after, times, walk.statement, read))
    assert not wrong, "\n".join(map(str, wrong))


async def test_one_inspection_is_read_by_its_key(sql: asyncpg.Connection) -> None:
    inspection_id = await sql.fetchval("SELECT inspection_id FROM inspections ORDER BY created_at OFFSET 5000 LIMIT 1")
    for times in (0, 7):
        read = await explained(sql, SQL, "get", [inspection_id], times)
        assert (read.indexes, read.rows, read.pages <= 10) == ({"inspections_pkey"}, 1, True)


async def test_pages_bring_each_inspection_once_and_in_order(pool: Pool, sql: asyncpg.Connection) -> None:
    for question in (
        InspectionQuestion(template_id=RARE),
        InspectionQuestion(is_deleted=True, descending=False),
        InspectionQuestion(only_inspector="truck-7"),
        InspectionQuestion(status="rejected"),
        InspectionQuestion(created_from=MIDDLE, created_to=MIDDLE + timedelta(milliseconds=100)),
        InspectionQuestion(
            sort="submitted_at", submitted_from=MIDDLE, submitted_to=MIDDLE + timedelta(milliseconds=100)
        ),
    ):
        seen, after = list[Any](), None
        while found := await inspections.page(pool, plan(question, after), limit=37):
            seen += found
            after = key_of(question, found[-1])
            assert len(seen) < 10_000
        low = question.created_from or question.submitted_from or inspection_crowd.BEGIN
        high = question.created_to or question.submitted_to or inspection_crowd.BEGIN + timedelta(days=1)
        expected = await sql.fetch(
            f"SELECT inspection_id FROM inspections WHERE {where(question)} AND {question.sort} >= $1"
            f" AND {question.sort} < $2", low, high,
        )  # fmt: skip
        assert {row.inspection_id for row in seen} == {row["inspection_id"] for row in expected}
        keys = [key_of(question, row) for row in seen]
        assert keys == sorted(keys, reverse=question.descending)
        assert len(keys) == len(expected) > 0

"""What a claim reads: of a queue in which one device has nearly everything, as much as of one that is nearly empty."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import asyncpg
import pytest

from shared.store.queries import statements
from shared.store.turns import Turns

SQL = statements("jobs")
# Of one device; others have a few, later ones, or one of another priority.
FLOOD: Final = int(os.environ.get("FLEETWIRE_TEST_FLOOD", "15000"))
_FILL: Final = """
INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version, current_status, run_at,
                  priority)
SELECT gen_random_uuid(), $3, 'table', $1 || n % $4, 'local', 'Requests/x', 'x.csv', 10, repeat('0', 64), $5,
       clock_timestamp() + $6 * interval '1 second' + n * interval '1 microsecond', $7
FROM generate_series(1, $2::integer) n
"""


@pytest.fixture(scope="module")
def flooded_url(_databases: Any) -> Iterator[str]:
    name, url = _databases.make()
    yield url
    _databases.drop(name)


@pytest.fixture
async def sql(flooded_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(flooded_url)
    await connection.execute("SET statement_timeout = 0; SET transaction_timeout = 0")
    try:
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM jobs)"):
            await _fill(connection)
        yield connection
    finally:
        await connection.close()


async def _fill(connection: asyncpg.Connection) -> None:
    await connection.execute("SET session_replication_role = replica")
    for rows in (
        ("flood-", FLOOD, "requests", 1, "queued", -3600, 0),
        ("few-", 300, "requests", 100, "queued", -60, 0),
        ("later-", 2000, "requests", 50, "retry", 3600, 0),
        ("low-", 40, "requests", 20, "queued", -7200, -3),
        ("alone-", 3000, "ai", 3000, "queued", -60, 2),
        ("busy-", 3000, "requests", 3, "queued", -9000, 5),
        ("busy-", 30, "requests", 3, "running", -9000, 5),
        ("gone-", FLOOD // 2, "requests", 500, "done", -9000, 0),
    ):
        await connection.execute(_FILL, *rows)
    await connection.execute(
        "INSERT INTO devices (device_id, class, epoch) SELECT DISTINCT device_id, 'truck', 1 FROM jobs"
    )
    await connection.execute(
        "UPDATE jobs SET lease_until = clock_timestamp() + interval '1 hour' WHERE current_status = 'running'"
    )
    await connection.execute("SET session_replication_role = origin")
    await connection.execute("VACUUM ANALYZE jobs, devices")


def walk_of(queue: str, limit: int, device_limit: int, cursor: str) -> str:
    return f"'{queue}', {limit}, {device_limit}, ARRAY[0]::smallint[], ARRAY['{cursor}'], 0, {Turns().steps(limit)}"


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_a_walk_takes_one_step_for_each_device_however_many_jobs_it_has(
    sql: asyncpg.Connection, mode: str
) -> None:
    await sql.execute(f"SET plan_cache_mode = {mode}")
    await sql.execute(f"DEALLOCATE ALL; PREPARE walk AS {SQL['walk']}")
    for queue, limit, device_limit, cursor in (
        ("requests", 8, 10, ""), ("requests", 50, 10, "flood-0"), ("requests", 50, 10, "zzz"),
        ("ai", 50, 6, "alone-2500"), ("ai", 500, 0, ""), ("nothing", 50, 6, ""),
    ):  # fmt: skip
        read = await _read(sql, f"walk ({walk_of(queue, limit, device_limit, cursor)})")
        assert read["indexes"] <= {"jobs_turns", "jobs_running"}, read
        assert not {"Sort on jobs", "Seq Scan", "Bitmap Heap Scan"} & read["nodes"], read
        # Per step one row of the walk, and the running ones of those that are due, up to the bound.
        assert read["rows"] <= (limit + 170) * (1 + device_limit), read
        assert read["pages"] <= 40 + 14 * (limit + 170), read


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_a_claim_reads_what_it_takes(sql: asyncpg.Connection, mode: str) -> None:
    await sql.execute(f"SET plan_cache_mode = {mode}")
    await sql.execute(f"DEALLOCATE ALL; PREPARE claim AS {SQL['claim']}")
    for devices in (["flood-0"], ["few-1", "few-2", "flood-0"], [f"few-{n}" for n in range(50)], []):
        given = ", ".join(f"'{device}'" for device in devices)
        transaction = sql.transaction()
        await transaction.start()
        read = await _read(sql, f"claim ('requests', 'w', 50, 60.0, 3600.0, 6, 0, ARRAY[{given}]::text[], 1)")
        await transaction.rollback()
        assert read["indexes"] <= {"jobs_turns", "jobs_running", "jobs_leased", "jobs_pkey", "responses_job_id_key"}, (
            read
        )
        assert read["rows"] <= 400, read


async def _read(sql: asyncpg.Connection, call: str) -> dict[str, Any]:
    top = json.loads(await sql.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {call}"))[0]
    indexes: set[str] = set()
    nodes: set[str] = set()
    rows = 0

    def look(node: dict[str, Any]) -> None:
        nonlocal rows
        nodes.add(node["Node Type"])
        if "Index Name" in node:
            indexes.add(node["Index Name"])
            rows += round((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        for child in node.get("Plans", ()):
            look(child)

    look(top["Plan"])
    pages = top["Plan"]["Shared Hit Blocks"] + top["Plan"]["Shared Read Blocks"]
    print(call[:60], round(top["Execution Time"], 2), "ms", rows, pages)
    return {"indexes": indexes, "nodes": nodes, "rows": rows, "pages": pages}


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_how_the_queues_stand_is_read_up_to_the_bound(sql: asyncpg.Connection, mode: str) -> None:
    await sql.execute(f"SET plan_cache_mode = {mode}")
    await sql.execute(f"DEALLOCATE ALL; PREPARE depth AS {SQL['depth']}")
    read = await _read(sql, "depth ('requests', 1000)")
    assert (read["indexes"], read["rows"]) == ({"jobs_oldest"}, 1000), read
    await sql.execute(f"PREPARE state AS {statements('queues')['state']}")
    read = await _read(sql, "state (1000)")
    assert read["indexes"] <= {"jobs_oldest", "jobs_turns", "jobs_running"}, read
    # Two queues, three counts; and a step for each name.
    assert read["rows"] <= 6 * 1000 + 10, read
    assert "Seq Scan" not in read["nodes"], read

"""Jobs as rows, as watcher and worker leave them."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from tests.api.responses import BEGIN

_ADD = """
INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version, current_status, created_at,
                  finished_at)
VALUES ($1, 'requests', $2, $3, 'local', 'Requests/x', $4, 10, repeat('0', 64), $5, $6::timestamptz,
        CASE WHEN $5 IN ('done', 'dead', 'cancelled') THEN $6::timestamptz + interval '1 second' END)
"""


async def add_job(sql: asyncpg.Connection, device_id: str = "truck-7", *, after_us: int = 0, **fields: Any) -> UUID:
    """A job made `after_us` microseconds after BEGIN, with the first line of its history."""
    job_id = uuid4()
    at: datetime = BEGIN + timedelta(microseconds=after_us)
    kind, name, status = fields.get("kind", "table"), fields.get("name", "load.csv"), fields.get("status", "queued")
    await sql.execute(_ADD, job_id, kind, device_id, name, status, at)
    await add_change(sql, job_id, "queued", after_us=after_us)
    return job_id


async def add_change(
    sql: asyncpg.Connection, job_id: UUID, status: str, *, after_us: int, detail: str | None = None
) -> None:
    """A line of a job's history."""
    await sql.execute(
        "INSERT INTO job_status (job_id, ts, status, detail) VALUES ($1, $2, $3, $4)",
        job_id, BEGIN + timedelta(microseconds=after_us), status, detail,
    )  # fmt: skip

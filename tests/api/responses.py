"""Finished responses as rows, as a worker leaves them."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg

BEGIN = datetime(2026, 11, 21, 8, 30, 0, 123456, tzinfo=UTC)


async def add_response(
    sql: asyncpg.Connection, device_id: str, *, files: int = 0, after_us: int = 0, outcome: str = "ready"
) -> tuple[str, list[str]]:
    """A response finished `after_us` microseconds after BEGIN; its id and those of its files."""
    response_id = uuid4()
    await sql.execute(
        "INSERT INTO responses (response_id, device_id, request_name, store, folder, outcome, reason, completed_at)"
        " VALUES ($1, $2, 'load.csv', 'local', $3, $4, $5, $6)",
        response_id,
        device_id,
        f"Responses/{device_id}/load.{response_id}",
        outcome,
        None if outcome == "ready" else "unreadable",
        BEGIN + timedelta(microseconds=after_us),
    )
    file_ids = []
    for number in range(files):
        file_id = uuid4()
        file_ids.append(str(file_id))
        await sql.execute(
            "INSERT INTO response_files"
            " (file_id, response_id, device_id, store, path, name, size, sha256, content_type)"
            " VALUES ($1, $2, $3, 'local', $4, $5, 10, $6, 'text/csv')",
            file_id,
            response_id,
            device_id,
            f"Responses/{device_id}/load.{response_id}/file-{number}.csv",
            f"file-{number}.csv",
            "ab" * 32,
        )
    return str(response_id), file_ids

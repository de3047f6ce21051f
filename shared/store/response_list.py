"""Reading finished responses: the list a device fetches after a reset, and one file by its id."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from shared.store.pool import Pool
from shared.store.queries import statements

__all__ = ["FileRow", "ResponseRow", "file", "page"]

_SQL = statements("response_list")


class ResponseRow(NamedTuple):
    """A finished response; `files` is a JSON array of its files, as text, `answer` a JSON object where it has none."""

    response_id: UUID
    job_id: UUID | None
    request_name: str | None
    outcome: str
    reason: str | None
    event_id: str | None
    completed_at: datetime
    files: str
    answer: str | None = None


class FileRow(NamedTuple):
    """One file of a finished response, and where its store keeps it."""

    file_id: UUID
    device_id: str
    store: str
    path: str
    name: str
    size: int
    sha256: str
    content_type: str
    object_id: str | None = None


async def page(
    pool: Pool, device_id: str, *, before: tuple[datetime, UUID] | None, limit: int
) -> Sequence[ResponseRow]:
    """Responses of a device, newest first, that come after the row keyed `before`."""
    at, response_id = before if before is not None else (None, None)
    rows = await pool.fetch(_SQL["page"], device_id, at, response_id, limit)
    return [ResponseRow(*row) for row in rows]


async def file(pool: Pool, file_id: UUID) -> FileRow | None:
    """The file, or None when no finished response has it."""
    rows = await pool.fetch(_SQL["file"], file_id)
    return FileRow(*rows[0]) if rows else None

"""Reading inspections: one, and lists by the indexes that there are. Operations change them (`store/operations`)."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from shared.inspections import Inspection, Status
from shared.store.pool import Pool, Reader
from shared.store.queries import statements

__all__ = ["ListedInspection", "Walk", "get", "page"]

_SQL = statements("inspections")


class Walk(NamedTuple):
    """A statement's name, and its arguments but for the limit: the last one."""

    statement: str
    arguments: tuple[object, ...]


class ListedInspection(NamedTuple):
    """An inspection as lists show it, without its answers."""

    inspection_id: UUID
    inspector_id: str
    template_id: UUID
    template_version: int
    status: Status
    title: str
    version: int
    is_deleted: bool
    created_at: datetime
    updated_at: datetime
    submitted_at: datetime | None
    decided_at: datetime | None
    decided_by: str | None


async def get(pool: Pool, inspection_id: UUID) -> Inspection | None:
    """The inspection, deleted or not; None when there was never one."""
    rows = await pool.fetch(_SQL["get"], inspection_id)
    return Inspection(*rows[0]) if rows else None


async def page(reader: Reader, walk: Walk, *, limit: int) -> Sequence[ListedInspection]:
    """The next rows of a walk."""
    return [ListedInspection(*row) for row in await reader.fetch(_SQL[walk.statement], *walk.arguments, limit)]

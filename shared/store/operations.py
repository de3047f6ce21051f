"""Operations as rows: their keys, and the inspections that they change, in one transaction of few statements.

Promises: a key has one effect, whoever repeats it and however often, because it is claimed before anything is looked
at and kept with the result in the transaction of the effect. Only what is final is kept; the rest may be tried again.
Locks are taken keys first, then the principal's day, templates, inspections, each kind in order.
"""

from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from shared.inspections import Inspection
from shared.store.pool import Connection, Pool
from shared.store.queries import statements

__all__ = [
    "KEPT",
    "TRANSACTION_STATEMENTS",
    "Claimed",
    "Kept",
    "Key",
    "Known",
    "claim",
    "finish",
    "insert_inspections",
    "known",
    "lock_inspections",
    "lock_templates",
    "prune",
    "update_inspections",
]

_SQL = statements("operations")

KEPT: Final = timedelta(days=30)

TRANSACTION_STATEMENTS: Final = tuple(
    _SQL[name]
    for name in (
        "claim",
        "known",
        "lock_templates",
        "lock_inspections",
        "insert_inspections",
        "update_inspections",
        "finish",
    )
)
"""What a batch runs, for every connection to know before a transaction holds locks."""


class Key(NamedTuple):
    """A key to be claimed: what it is for, and the hash by which it is known again."""

    op_id: str
    operation_type: str
    entity_id: UUID
    body_hash: bytes


class Known(NamedTuple):
    """What stands under a key. `result` is None while another transaction has only claimed it."""

    status: str
    body_hash: bytes
    result: str | None


class Claimed(NamedTuple):
    """The keys that are ours now, how many its principal has used on this day, and the time by the database."""

    op_ids: frozenset[str]
    day: date
    used: int
    now: datetime


class Kept(NamedTuple):
    """A result that is kept under its key."""

    op_id: str
    status: str
    result: str


async def claim(
    connection: Connection, principal: str, subject: str, keys: Sequence[Key], *, lock_wait_s: float
) -> Claimed | None:
    """Claim the keys that nobody has; None when there is none. What is not claimed is known.

    From here on the transaction waits for a lock for `lock_wait_s` at most.
    """
    wait = f"{round(lock_wait_s * 1000)}ms"
    rows = await connection.fetch(_SQL["claim"], principal, subject, *_columns(keys, 4), wait)
    if not rows:
        return None
    _, day, used, now = rows[0]
    return Claimed(frozenset(row[0] for row in rows), day, used, now)


async def known(connection: Connection, principal: str, op_ids: Collection[str]) -> dict[str, Known]:
    """What stands under these keys."""
    rows = await connection.fetch(_SQL["known"], principal, list(op_ids))
    return {row[0]: Known(*row[1:]) for row in rows}


async def lock_templates(connection: Connection, template_ids: Collection[UUID]) -> dict[UUID, int]:
    """Their newest versions. They cannot go away before the transaction ends."""
    rows = await connection.fetch(_SQL["lock_templates"], list(template_ids))
    return {row[0]: row[1] for row in rows}


async def lock_inspections(connection: Connection, inspection_ids: Collection[UUID]) -> dict[UUID, Inspection]:
    """Those that exist, for us alone."""
    rows = await connection.fetch(_SQL["lock_inspections"], list(inspection_ids))
    return {row[0]: Inspection(*row) for row in rows}


async def insert_inspections(connection: Connection, new: Sequence[Inspection]) -> int:
    """How many could be made; fewer than asked for when a rival has made one of them."""
    return len(await connection.fetch(_SQL["insert_inspections"], *_columns(new, len(Inspection._fields))))


_CHANGES: Final = (
    "inspection_id",
    "status",
    "title",
    "answers",
    "note",
    "version",
    "is_deleted",
    "updated_at",
    "submitted_at",
    "decided_at",
    "decided_by",
)
_pick = tuple(Inspection._fields.index(name) for name in _CHANGES)


async def update_inspections(connection: Connection, changed: Sequence[Inspection]) -> None:
    """Write what may change of inspections that are locked."""
    rows = [tuple(one[place] for place in _pick) for one in changed]
    await connection.execute(_SQL["update_inspections"], *_columns(rows, len(_CHANGES)))


async def finish(
    connection: Connection, principal: str, day: date, *, final: Sequence[Kept], open_: Sequence[str]
) -> None:
    """Keep what is final, give up the claims that stay open."""
    await connection.execute(_SQL["finish"], principal, *_columns(final, 3), list(open_), day)


async def prune(pool: Pool, kept: timedelta = KEPT, *, rows: int = 5000) -> int:
    """Delete keys whose time is over, and days long past, in short statements. Returns how many keys."""
    deleted = 0
    while count := (await pool.fetch(_SQL["prune_operations"], kept, rows))[0][0]:
        deleted += count
    while (await pool.fetch(_SQL["prune_days"], rows))[0][0]:
        pass
    return deleted


def _columns(rows: Sequence[Sequence[object]], width: int) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]

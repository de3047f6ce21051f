"""Uploads in parts that are under way: what the store needs to go on with one, kept where the next process finds it.

A row is there before the store hears of the upload and goes when it ended. Whoever holds it beats; once a holder is
silent, the next one of the same content and place takes the row and goes on. The token keeps a holder who was silent
and comes back from writing over what the next one keeps; that both bring parts for a while does no harm.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from shared.cloud.hashes import Digest
from shared.store.pool import Connection, Pool
from shared.store.queries import statements

__all__ = [
    "Held",
    "Left",
    "Quarantined",
    "beat",
    "ended",
    "give_back",
    "hold",
    "left",
    "quarantine",
    "quarantined",
    "save",
]

_SQL = statements("cloud_uploads")


class Held(NamedTuple):
    """A row that the caller holds. `session` is what an earlier holder had begun; times are wall-clock seconds."""

    upload_id: UUID
    token: int
    session: str | None
    expires_at: float | None


class Left(NamedTuple):
    """An upload that nobody goes on with, held by the caller until it is given up."""

    upload_id: UUID
    token: int
    store: str
    path: str
    size: int
    session: str | None
    expires_at: float | None


class Quarantined(NamedTuple):
    """What arrived wrong twice."""

    upload_id: UUID
    store: str
    path: str
    size: int
    sha256: str
    detail: str | None
    changed_at: datetime


async def hold(pool: Pool, upload_id: UUID, store: str, path: str, content: Digest, *, lease_s: float) -> Held:
    """The row of this content and place whose holder is silent, else a new one with this id."""
    where = (store, path, content.size, content.sha256)

    async def work(connection: Connection) -> Held:
        if (row := await connection.fetchrow(_SQL["take"], *where, lease_s)) is not None:
            return Held(*row)
        return Held(upload_id, await connection.fetchval(_SQL["add"], upload_id, *where, lease_s), None, None)

    return await pool.run(work)


async def save(pool: Pool, held: Held, session: str | None, expires_at: float | None, *, lease_s: float) -> None:
    """This is under way at the store now; None: nothing is any more, it begins anew."""
    await pool.fetch(_SQL["save"], held.upload_id, held.token, session, expires_at, lease_s, repeatable=True)


async def beat(pool: Pool, held: Held, *, lease_s: float) -> None:
    """Its holder lives."""
    await pool.fetch(_SQL["beat"], held.upload_id, held.token, lease_s, repeatable=True)


async def give_back(pool: Pool, held: Held) -> None:
    """For the next to go on with at once, unless it ended."""
    await pool.fetch(_SQL["give_back"], held.upload_id, held.token, repeatable=True)


async def ended(pool: Pool, held: Held | Left) -> None:
    """There is nothing to go on with."""
    await pool.fetch(_SQL["ended"], held.upload_id, held.token, repeatable=True)


async def quarantine(pool: Pool, held: Held, detail: str) -> None:
    """It stays, for a person."""
    await pool.fetch(_SQL["quarantine"], held.upload_id, held.token, detail, repeatable=True)


async def left(pool: Pool, stores: Sequence[str], *, older_than_s: float, lease_s: float, limit: int) -> list[Left]:
    """Uploads to these stores with which nobody went on for so long, the caller's to give up."""
    return [Left(*row) for row in await pool.fetch(_SQL["left"], list(stores), older_than_s, lease_s, limit)]


async def quarantined(pool: Pool, store: str, *, limit: int = 100) -> list[Quarantined]:
    """What waits for a person, of one store."""
    return [Quarantined(*row) for row in await pool.fetch(_SQL["quarantined"], store, limit)]

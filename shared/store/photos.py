"""Photos: reserved before they are uploaded, adopted when their store says that it holds them, else removed again.

`reserve → (upload at the store) → adopt`, or `reserve → expire → (removal at the store) → forget`. Each arrow is one
short transaction and may be repeated; adopt and expire exclude each other by the status, so nothing that was confirmed
is ever removed. The key at the store belongs to one reservation for good: a removal that comes late finds only its own.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from shared.store.pool import Connection, Pool, Reader
from shared.store.queries import statements

__all__ = [
    "TRANSACTION_STATEMENTS",
    "Full",
    "NewPhoto",
    "PhotoRow",
    "adopt",
    "expire",
    "expired",
    "forget",
    "get",
    "inspector_of",
    "page",
    "put_off",
    "reserve",
]

_SQL = statements("photos")

TRANSACTION_STATEMENTS: Final = tuple(_SQL[name] for name in ("lock_principal", "renew", "reserve", "by_id"))
"""What a reservation runs, for every connection to know before it holds a lock."""


class NewPhoto(NamedTuple):
    """A photo to be reserved."""

    photo_id: UUID
    principal: str
    inspection_id: UUID | None
    store: str
    object_key: str
    name: str
    content_type: str
    size: int
    sha256: str
    md5: str | None


class PhotoRow(NamedTuple):
    """A photo. `inspector_id` is of its inspection, where that is read."""

    photo_id: UUID
    principal: str
    inspection_id: UUID | None
    store: str
    object_key: str
    name: str
    content_type: str
    size: int
    sha256: str
    md5: str | None
    status: str
    created_at: datetime
    expires_at: datetime
    confirmed_at: datetime | None
    inspector_id: str | None

    def is_of(self, new: NewPhoto) -> bool:
        """Whether this is what was reserved for such a request; key and store are those of the first."""
        asked = (new.principal, new.inspection_id, new.name, new.content_type, new.size, new.sha256, new.md5)
        return asked == (
            self.principal,
            self.inspection_id,
            self.name,
            self.content_type,
            self.size,
            self.sha256,
            self.md5,
        )


class Full(NamedTuple):
    """The principal has as many pending photos as it may; one of them ends in so many seconds."""

    seconds: float


async def reserve(pool: Pool, new: NewPhoto, *, pending_max: int, pending_s: float) -> tuple[PhotoRow, bool] | Full:
    """The photo with this id, and whether it was made now. One that was there may be anybody's: compare it.

    A pending one of the same principal gets its whole time again.
    """

    async def work(connection: Connection) -> tuple[PhotoRow, bool] | None:
        await connection.execute(_SQL["lock_principal"], new.principal)
        await connection.execute(_SQL["renew"], new.photo_id, new.principal, pending_s)
        made = False
        found = await connection.fetchrow(_SQL["by_id"], new.photo_id)
        if found is None:
            made = bool(await connection.fetch(_SQL["reserve"], *new, pending_s, pending_max))
            found = await connection.fetchrow(_SQL["by_id"], new.photo_id)
        return None if found is None else (PhotoRow(*found), made)

    result = await pool.run(work, repeatable=True)
    if result is None:
        seconds = (await pool.fetch(_SQL["first_expiry"], new.principal))[0][0]
        return Full(max(0.0, seconds or 0.0))
    return result


async def get(pool: Pool, photo_id: UUID) -> PhotoRow | None:
    """The photo, or None."""
    rows = await pool.fetch(_SQL["by_id"], photo_id)
    return PhotoRow(*rows[0]) if rows else None


async def inspector_of(pool: Pool, inspection_id: UUID) -> str | None:
    """Whose inspection it is; None when there is none, or not any more."""
    rows = await pool.fetch(_SQL["inspector"], inspection_id)
    return rows[0][0] if rows else None


async def adopt(pool: Pool, photo_id: UUID, object_key: str) -> PhotoRow | None:
    """The photo as it is now: stored, if it was pending or stored under this key; None if there is none of this key."""
    await pool.fetch(_SQL["adopt"], photo_id, object_key, repeatable=True)
    found = await get(pool, photo_id)
    return found if found is not None and found.object_key == object_key else None


async def page(
    reader: Reader, inspection_id: UUID, *, before: tuple[datetime, UUID] | None, limit: int
) -> Sequence[PhotoRow]:
    """Stored photos of an inspection, newest first, that come after the row keyed `before`."""
    at, photo_id = before if before is not None else (None, None)
    return [PhotoRow(*row) for row in await reader.fetch(_SQL["page"], inspection_id, at, photo_id, limit)]


async def expire(pool: Pool, *, limit: int) -> int:
    """End the time of pending photos that are late, at most `limit`. Returns how many."""
    return len(await pool.fetch(_SQL["expire"], limit, repeatable=True))


async def expired(pool: Pool, *, limit: int) -> Sequence[PhotoRow]:
    """Photos whose stores are to be tidied, longest due first."""
    return [PhotoRow(*row) for row in await pool.fetch(_SQL["expired"], limit)]


async def forget(pool: Pool, gone: Sequence[PhotoRow]) -> int:
    """Delete expired photos that are gone at their stores. Returns how many there were."""
    keys = [row.store for row in gone], [row.object_key for row in gone]
    return len(await pool.fetch(_SQL["forget"], *keys, repeatable=True)) if gone else 0


async def put_off(pool: Pool, left: Sequence[PhotoRow], *, seconds: float) -> None:
    """Try these again later."""
    if left:
        await pool.fetch(_SQL["put_off"], [row.photo_id for row in left], seconds, repeatable=True)

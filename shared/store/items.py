"""The ledger of what a feed holds: one row for each file, for as long as the file exists.

That a change is announced once rests on this table and on nothing else: a row is compared and replaced in the
transaction that makes the job or the event, under the term of the feed's lease. So a scan that sees everything again
announces nothing, whatever the log's retention has taken, and a file that is removed and put again is new.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple
from uuid import UUID

from shared.store.pool import Connection, Pool
from shared.store.queries import statements

__all__ = [
    "Arrival",
    "ExternalResponse",
    "Facts",
    "Item",
    "LedgerRow",
    "arrivals",
    "facts",
    "feeds_with_arrivals",
    "ledger",
    "one",
    "record_responses",
    "remove",
    "reserved_folders",
    "upsert",
    "waiting_count",
    "waiting_devices",
]

_SQL = statements("items")

ItemState = Literal["announced", "baseline", "reserved", "waiting"]
Area = Literal["request", "response"]


class LedgerRow(NamedTuple):
    """An item as it was recorded last. Without `mtime_ns`, only reading the content shows whether it changed."""

    item_id: str
    inode: int | None
    size: int
    mtime_ns: int | None
    content_version: str
    state: ItemState


class Facts(NamedTuple):
    """What a transaction knows about one path; the first five are None for a path that was never recorded."""

    content_version: str | None
    state: ItemState | None
    inode: int | None
    size: int | None
    mtime_ns: int | None
    device_known: bool
    reserved: bool


class Item(NamedTuple):
    """A row to write."""

    item_id: str
    device_id: str
    area: Area
    state: ItemState
    content_version: str
    size: int
    inode: int | None
    mtime_ns: int | None


class Arrival(NamedTuple):
    """An item that waited for its device, which exists now."""

    item_id: str
    device_id: str
    area: Area
    content_version: str
    size: int
    inode: int | None
    mtime_ns: int | None


class ExternalResponse(NamedTuple):
    """A response file that no job of ours wrote."""

    response_id: UUID
    file_id: UUID
    device_id: str
    folder: str
    path: str
    name: str
    size: int
    sha256: str
    content_type: str
    event_id: str
    object_id: str | None = None


async def ledger(pool: Pool, feed_id: str, *, above: str, upto: str, limit: int) -> list[LedgerRow]:
    """What is recorded in a range of paths, in order of path, by code point."""
    return [LedgerRow(*row) for row in await pool.fetch(_SQL["ledger"], feed_id, above, upto, limit)]


async def facts(connection: Connection, store: str, asked: Sequence[tuple[str, str, str, str | None]]) -> list[Facts]:
    """For each (feed, path, device id, outermost folder below the device's) what a page must know, in this order."""
    columns = [list(column) for column in zip(*asked, strict=True)]
    return [Facts(*row) for row in await connection.fetch(_SQL["facts"], *columns, store)]


async def one(pool: Pool, feed_id: str, item_id: str) -> LedgerRow | None:
    """What is recorded of one path."""
    rows = await pool.fetch(_SQL["one"], feed_id, item_id)
    return LedgerRow(*rows[0]) if rows else None


async def reserved_folders(pool: Pool, feed_id: str, store: str, folders: Sequence[str]) -> frozenset[str]:
    """Those of the folders that hold the response of a job."""
    rows = await pool.fetch(_SQL["reserved"], feed_id, store, list(folders))
    return frozenset(row["folder"] for row in rows)


async def upsert(connection: Connection, items: Sequence[tuple[str, Item]]) -> None:
    """Write rows of feeds, at most one per feed and path."""
    columns = [list(column) for column in zip(*((feed_id, *item) for feed_id, item in items), strict=True)]
    await connection.execute(_SQL["upsert"], *columns)


async def remove(connection: Connection, items: Sequence[tuple[str, str]]) -> None:
    """Forget what is gone from the store: (feed, path) each."""
    feed_ids, item_ids = (list(column) for column in zip(*items, strict=True))
    await connection.execute(_SQL["remove"], feed_ids, item_ids)


async def feeds_with_arrivals(pool: Pool, feed_ids: Sequence[str]) -> list[str]:
    """Feeds that have something for `arrivals`."""
    return [row["feed_id"] for row in await pool.fetch(_SQL["feeds_with_arrivals"], list(feed_ids))]


async def arrivals(connection: Connection, feed_id: str, limit: int) -> list[Arrival]:
    """Items of the feed whose device has come into being."""
    return [Arrival(*row) for row in await connection.fetch(_SQL["arrivals"], feed_id, limit)]


async def waiting_devices(pool: Pool, limit: int) -> list[tuple[str, int]]:
    """Devices that do not exist, with the number of files that wait for each."""
    return [(row["device_id"], row["files"]) for row in await pool.fetch(_SQL["waiting_devices"], limit)]


async def waiting_count(pool: Pool, feed_ids: Sequence[str]) -> int:
    """How many files of these feeds wait for their device."""
    return int((await pool.fetch(_SQL["waiting_count"], list(feed_ids)))[0]["count"])


async def record_responses(connection: Connection, store: str, responses: Sequence[ExternalResponse]) -> None:
    """Make the rows of responses and their files, complete; the caller appends the events in the same transaction."""
    columns = [list(column) for column in zip(*responses, strict=True)]
    await connection.execute(_SQL["record_responses"], *columns, store)

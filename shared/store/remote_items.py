"""The ledger of a feed whose provider knows items by ids: files with the folders they lie in.

A provider tells of a folder that moved, and not of what lies in it. So folders are kept by id with their parents, all
of them and not only those that are watched; a path is where the way up leads. Files are kept only below the watched
areas; one that was told before its folder waits, unplaced. All rows are written by the feed's owner alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

from shared.store.items import Area, ItemState
from shared.store.pool import Connection, Pool
from shared.store.queries import statements

__all__ = [
    "TRANSACTION_STATEMENTS",
    "Folder",
    "Found",
    "Known",
    "RemoteItem",
    "Unplaced",
    "Where",
    "arrivals",
    "drop_folders",
    "drop_unplaced",
    "facts",
    "feeds_with_arrivals",
    "folder_paths",
    "forget_folder",
    "is_reserved",
    "leave",
    "leave_below",
    "left",
    "mark",
    "misplaced",
    "park",
    "parked",
    "placed",
    "put",
    "put_folders",
    "put_unplaced",
    "remove",
    "settled",
    "sweep",
    "sweep_folders",
    "told_again",
    "unplaced",
    "unsettled",
]

_SQL = statements("remote_items")

TRANSACTION_STATEMENTS = tuple(
    _SQL[name]
    for name in (
        "put_folders",
        "drop_folders",
        "placed",
        "facts",
        "put",
        "mark",
        "remove",
        "put_unplaced",
        "drop_unplaced",
    )
)
"""What a page may run, for every connection to know beforehand."""


class Folder(NamedTuple):
    """A folder as its provider tells it."""

    item_id: str
    parent_id: str | None
    name: str
    is_root: bool


class Where(NamedTuple):
    """Where a folder is: `path` below the root; or `outside`; or, when neither, not known yet."""

    path: str | None
    outside: bool


class Known(NamedTuple):
    """What is known of a file; the first eight are None for one that is not in the ledger."""

    version: str | None
    state: ItemState | None
    path: str | None
    area: Area | None
    device_id: str | None
    size: int | None
    sha256: str | None
    parent_id: str | None
    leaving: bool
    device_known: bool
    reserved: bool


class RemoteItem(NamedTuple):
    """A row to write. `retry_s`: the content could not be read and is to be tried again then.

    `generation` is that in which the provider told of it, 0 when it is written for another reason.
    """

    item_id: str
    path: str
    device_id: str
    area: Area
    state: ItemState
    version: str
    size: int
    parent_id: str | None
    sha256: str | None
    generation: int
    retry_s: float | None = None


class Unplaced(NamedTuple):
    """A file that was told before its folder. `stand_in` as in `shared.cloud.provider.Object`."""

    item_id: str
    parent_id: str
    name: str
    version: str
    size: int
    sha256: str | None
    stand_in: str | None = None
    generation: int = 0


class Found(NamedTuple):
    """A file that is to be judged anew, at `path`, which is None when it is not below the root. `area` and `device_id`
    are what the ledger has, if it is there."""

    item_id: str
    path: str | None
    parent_id: str | None
    version: str
    size: int
    sha256: str | None
    area: Area | None = None
    device_id: str | None = None
    generation: int = 0
    stand_in: str | None = None


async def put_folders(
    connection: Connection, feed_id: str, folders: Sequence[Folder], generation: int, *, unsettled: int
) -> bool:
    """Write folders, each once; whether any of them is left to be settled. A new one gets `unsettled`."""
    ids, parents, names, roots = (list(column) for column in zip(*folders, strict=True))
    rows = await connection.fetch(_SQL["put_folders"], feed_id, ids, parents, names, roots, generation, unsettled)
    return any(row["unsettled"] for row in rows)


async def drop_folders(connection: Connection, feed_id: str, item_ids: Sequence[str]) -> bool:
    """Say that those of these that are folders are gone; whether any was."""
    return bool(await connection.fetch(_SQL["drop_folders"], feed_id, list(item_ids)))


async def placed(connection: Connection, feed_id: str, folder_ids: Sequence[str]) -> dict[str, Where]:
    """Where folders are."""
    rows = await connection.fetch(_SQL["placed"], feed_id, list(folder_ids))
    return {row["asked"]: Where(row["path"], row["outside"]) for row in rows}


async def facts(
    connection: Connection, feed_id: str, store: str, asked: Sequence[tuple[str, str | None, str | None]]
) -> list[Known]:
    """For each (item id, device id, outermost folder below the device's) what the page must know, in this order."""
    ids, devices, folders = (list(column) for column in zip(*asked, strict=True))
    return [Known(*row) for row in await connection.fetch(_SQL["facts"], feed_id, ids, devices, folders, store)]


async def is_reserved(connection: Connection, store: str, folder: str) -> bool:
    """Whether a folder holds the response of a job."""
    return bool((await connection.fetch(_SQL["reserved"], store, folder))[0]["reserved"])


async def put(connection: Connection, feed_id: str, rows: Sequence[RemoteItem]) -> None:
    """Write rows, at most one per item."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    await connection.execute(_SQL["put"], feed_id, *columns)


async def mark(connection: Connection, feed_id: str, item_ids: Sequence[str], generation: int) -> None:
    """Say that the run saw them."""
    await connection.execute(_SQL["mark"], feed_id, list(item_ids), generation)


async def remove(connection: Connection, feed_id: str, item_ids: Sequence[str]) -> int:
    """Forget files; returns how many were in the ledger."""
    return len(await connection.fetch(_SQL["remove"], feed_id, list(item_ids)))


async def remove_between(
    connection: Connection, feed_id: str, span: tuple[str, str | None], there: Sequence[str], limit: int
) -> int:
    """Forget what is known between two ids (None: to the end) and is not there; at most `limit`. Returns how many."""
    return len(await connection.fetch(_SQL["remove_between"], feed_id, *span, list(there), limit))


async def put_unplaced(connection: Connection, feed_id: str, rows: Sequence[Unplaced], generation: int) -> None:
    """Keep files until their folder is told."""
    columns = [list(column) for column in zip(*(row[:7] for row in rows), strict=True)]
    await connection.execute(_SQL["put_unplaced"], feed_id, *columns, generation)


async def unplaced(connection: Connection, feed_id: str, above: str, limit: int) -> list[Unplaced]:
    """Files whose folder was not known when they were told, in order of id."""
    return [Unplaced(*row) for row in await connection.fetch(_SQL["unplaced"], feed_id, above, limit)]


async def drop_unplaced(connection: Connection, feed_id: str, item_ids: Sequence[str]) -> None:
    """They are placed now, or not ours."""
    await connection.execute(_SQL["drop_unplaced"], feed_id, list(item_ids))


async def unsettled(connection: Connection, feed_id: str) -> tuple[str, int] | None:
    """One folder that is left to be settled, and whether it moved (2) or is gone (3)."""
    rows = await connection.fetch(_SQL["unsettled"], feed_id)
    return (rows[0]["item_id"], rows[0]["unsettled"]) if rows else None


async def parked(connection: Connection, feed_id: str, above: str, limit: int) -> list[str]:
    """Folders that wait for where they lie to be told, in order of id."""
    return [row["item_id"] for row in await connection.fetch(_SQL["parked"], feed_id, above, limit)]


async def park(connection: Connection, feed_id: str, folder_id: str) -> None:
    """Leave a folder until where it lies is told."""
    await connection.execute(_SQL["park"], feed_id, folder_id)


async def leave_below(connection: Connection, feed_id: str, folder_id: str, limit: int) -> int:
    """Say of at most `limit` files below a folder that they are leaving; returns of how many."""
    return len(await connection.fetch(_SQL["leave_below"], feed_id, folder_id, limit))


async def leave(connection: Connection, feed_id: str, item_ids: Sequence[str]) -> None:
    """Say of these files that they are leaving, unless the provider tells of them again."""
    await connection.execute(_SQL["leave"], feed_id, list(item_ids))


async def told_again(connection: Connection, feed_id: str) -> bool:
    """The provider has told everything once more; whether any were said to leave before that."""
    return bool(await connection.fetch(_SQL["told_again"], feed_id))


async def left(connection: Connection, feed_id: str) -> int:
    """Forget the files that were leaving before the provider told everything once more; returns how many."""
    return len(await connection.fetch(_SQL["left"], feed_id))


async def forget_folder(connection: Connection, feed_id: str, folder_id: str) -> None:
    """Forget a folder, and not those below it: they may have been moved out of it."""
    await connection.execute(_SQL["forget_folder"], feed_id, folder_id)


async def misplaced(connection: Connection, feed_id: str, folder_id: str, path: str | None, limit: int) -> list[Found]:
    """Files below a folder, which is at `path` now, that are recorded elsewhere than they are."""
    return [Found(*row) for row in await connection.fetch(_SQL["misplaced"], feed_id, folder_id, path, limit)]


async def folder_paths(pool: Pool, feed_id: str, folder_id: str, path: str) -> dict[str, str]:
    """Ids of the folders in and below one that is at `path`, by their paths."""
    return {row["path"]: row["item_id"] for row in await pool.fetch(_SQL["folder_paths"], feed_id, folder_id, path)}


async def settled(connection: Connection, feed_id: str, folder_id: str) -> None:
    """Nothing is left to be done about a folder."""
    await connection.execute(_SQL["settled"], feed_id, folder_id)


async def sweep(
    connection: Connection, feed_id: str, above: str, generation: int, limit: int
) -> tuple[str | None, int]:
    """Forget what a run did not see among the next `limit` items: (how far that was, how many went)."""
    (row,) = await connection.fetch(_SQL["sweep"], feed_id, above, generation, limit)
    return row["reach"], row["removed"]


async def sweep_folders(connection: Connection, feed_id: str, generation: int) -> None:
    """Forget folders that a run did not see, and files that even it could not place."""
    await connection.execute(_SQL["sweep_folders"], feed_id, generation)


async def arrivals(connection: Connection, feed_id: str, limit: int) -> list[Found]:
    """Files that wait and need not wait any longer."""
    return [Found(*row) for row in await connection.fetch(_SQL["arrivals"], feed_id, limit)]


async def put_off(connection: Connection, feed_id: str, item_ids: Sequence[str], seconds: float) -> None:
    """Files that wait are not to be taken up before then."""
    await connection.execute(_SQL["put_off"], feed_id, list(item_ids), seconds)


async def feeds_with_arrivals(pool: Pool, feed_ids: Sequence[str]) -> list[str]:
    """Feeds that have something for `arrivals`."""
    return [row["feed_id"] for row in await pool.fetch(_SQL["feeds_with_arrivals"], list(feed_ids))]

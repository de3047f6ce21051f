"""Feeds and the watchers that share them.

A feed's row is written only in a transaction that was fenced with the feed's lease (`leases.fence`). Rows of
`watchers` only say who is there; what a watcher may do is decided by its leases.
"""

from collections.abc import Sequence
from typing import NamedTuple

from shared.store.pool import Connection, Pool
from shared.store.queries import statements

__all__ = [
    "Feed",
    "FeedState",
    "Watcher",
    "changed",
    "disown",
    "ensure",
    "ever_scanned",
    "free",
    "hook_secrets",
    "join_watchers",
    "leave_watchers",
    "scanned",
    "state",
    "watchers",
]

_SQL = statements("feeds")


class Feed(NamedTuple):
    """One change feed: `partition` is None where a cursor covers a whole drive."""

    feed_id: str
    provider: str
    root: str
    partition: int | None


class FeedState(NamedTuple):
    """How far a feed is. Until it is `baselined`, responses that are found were there before us."""

    feed_id: str
    cursor: str | None
    baselined: bool
    generation: int


class Watcher(NamedTuple):
    """A watcher that has not said goodbye; `live` when it was heard of lately."""

    name: str
    instance: str
    live: bool


async def ensure(pool: Pool, feeds: Sequence[Feed]) -> None:
    """Make the rows that are missing."""
    columns = [list(column) for column in zip(*feeds, strict=True)]
    await pool.fetch(_SQL["ensure"], *columns)


async def state(pool: Pool, feed_id: str) -> FeedState | None:
    """The feed's row."""
    rows = await pool.fetch(_SQL["state"], feed_id)
    return FeedState(*rows[0]) if rows else None


async def ever_scanned(pool: Pool, feed_ids: Sequence[str]) -> bool:
    """Whether any of the feeds was compared with its store before."""
    return bool((await pool.fetch(_SQL["ever_scanned"], list(feed_ids)))[0]["ever"])


async def changed(connection: Connection, feed_ids: Sequence[str]) -> None:
    """Say that pages of the feeds changed something."""
    await connection.execute(_SQL["changed"], list(feed_ids))


async def scanned(connection: Connection, feed_ids: Sequence[str]) -> None:
    """Say that all of each feed was compared with the store."""
    await connection.execute(_SQL["scanned"], list(feed_ids))


async def hook_secrets(pool: Pool, feed_ids: Sequence[str]) -> dict[str, str]:
    """The secrets that come with every call for these feeds, as far as any was given out (see `cloud.hook_secret`)."""
    return {row["feed_id"]: row["hook_secret"] for row in await pool.fetch(_SQL["hook_secrets"], list(feed_ids))}


async def free(pool: Pool, feed_ids: Sequence[str]) -> dict[str, float | None]:
    """Those whose lease nobody holds, in order, with the seconds since it ended; None where it was given back."""
    return {row["name"]: row["silent_s"] for row in await pool.fetch(_SQL["free"], list(feed_ids))}


async def disown(pool: Pool, feed_ids: Sequence[str], owner: str) -> list[str]:
    """End the leases that an earlier run of `owner` left; returns them."""
    return [row["name"] for row in await pool.fetch(_SQL["disown"], list(feed_ids), owner)]


async def join_watchers(pool: Pool, name: str, instance: str) -> None:
    """Become a member. An earlier run of the same name is replaced, and notices."""
    await pool.fetch(_SQL["join_watchers"], name, instance)


async def watchers(pool: Pool, name: str, instance: str, *, beat_s: float, silence_s: float) -> list[Watcher]:
    """All members, ourselves included unless our row was taken away. Keeps our row fresh on the way."""
    rows = await pool.fetch(_SQL["watchers"], name, instance, beat_s, silence_s)
    return [Watcher(*row) for row in rows]


async def leave_watchers(pool: Pool, name: str, instance: str) -> None:
    """Say goodbye, so that the others need not wait for our silence."""
    await pool.fetch(_SQL["leave_watchers"], name, instance)

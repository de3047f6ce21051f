"""The rows of feeds whose provider keeps the log of changes: where they are, and what they were promised.

Written under the term (`leases.fence`), but for the wish for a run over everything, which anybody may have.
"""

from collections.abc import Sequence
from typing import NamedTuple

from shared.store.phases import Phase
from shared.store.pool import Connection, Pool
from shared.store.queries import statements

__all__ = [
    "TRANSACTION_STATEMENTS",
    "Progress",
    "RemoteState",
    "ask_full",
    "begin_full",
    "full_asked",
    "of_store",
    "paged",
    "progress",
    "save_subscriptions",
    "state",
    "subscriptions",
    "swept",
]

_SQL = statements("remote_feeds")

TRANSACTION_STATEMENTS = tuple(_SQL[name] for name in ("begin_full", "paged", "swept", "save_subscriptions"))
"""What a page may run, for every connection to know beforehand."""


class RemoteState(NamedTuple):
    """Where a feed is. `more`: the provider had more to tell; `unsettled`: folders or files are left to be settled."""

    cursor: str | None
    phase: Phase
    more: bool
    generation: int
    baselined: bool
    unsettled: bool
    scanned_age_s: float
    full_asked: bool
    full_pages: int
    full_items: int


class Progress(NamedTuple):
    """How far a run over everything is, for who watches it."""

    feed_id: str
    phase: Phase
    reason: str | None
    pages: int
    items: int
    running_s: float | None
    polled_s: float | None
    generation: int


async def state(pool: Pool, feed_id: str) -> RemoteState | None:
    """The feed's row."""
    rows = await pool.fetch(_SQL["state"], feed_id)
    return RemoteState(*rows[0]) if rows else None


async def full_asked(pool: Pool, feed_ids: Sequence[str]) -> list[str]:
    """Those for which a run over everything is wanted that did not begin yet."""
    return [row["feed_id"] for row in await pool.fetch(_SQL["full_asked"], list(feed_ids))]


async def of_store(pool: Pool, store: str) -> list[str]:
    """The feeds of a store, once a watcher has begun with it."""
    return [row["feed_id"] for row in await pool.fetch(_SQL["of_store"], store)]


async def ask_full(pool: Pool, feed_ids: Sequence[str]) -> list[str]:
    """Want a run over everything; their owners begin it within seconds. Returns those that exist."""
    return [row["feed_id"] for row in await pool.fetch(_SQL["ask_full"], list(feed_ids))]


async def progress(pool: Pool, feed_ids: Sequence[str]) -> list[Progress]:
    """How far these feeds are."""
    return [Progress(*row) for row in await pool.fetch(_SQL["progress"], list(feed_ids))]


async def begin_full(connection: Connection, feed_id: str, generation: int, reason: str) -> None:
    """A run over everything begins, whose rows are marked with `generation`."""
    await connection.execute(_SQL["begin_full"], feed_id, generation, reason)


async def paged(
    connection: Connection,
    feed_id: str,
    cursor: str | None,
    phase: Phase,
    *,
    more: bool,
    changed: bool,
    told: int | None,
) -> None:
    """A page was recorded. `told`: how many items it told, when it is one of a run over everything."""
    await connection.execute(_SQL["paged"], feed_id, cursor, phase, more, changed, told is not None, told or 0)


async def swept(connection: Connection, feed_id: str) -> None:
    """The run is over."""
    await connection.execute(_SQL["swept"], feed_id)


async def subscriptions(pool: Pool, feed_id: str) -> tuple[str | None, str | None]:
    """(what the provider promised, as JSON; the secret of its calls)."""
    rows = await pool.fetch(_SQL["subscriptions"], feed_id)
    return (rows[0]["subscriptions"], rows[0]["hook_secret"]) if rows else (None, None)


async def save_subscriptions(connection: Connection, feed_id: str, body: str, secret: str | None) -> None:
    """Keep it. A secret that the row has already stays."""
    await connection.execute(_SQL["save_subscriptions"], feed_id, body, secret)

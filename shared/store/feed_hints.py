"""Hints that a feed has something to look at: what a provider's call leaves in Postgres, and what a watcher reads.

A hint only makes the next look come sooner. It is set outside of the feed's lease, by whoever was called, so it says
nothing but when; the bus carries the same hint faster and may lose it, and a watcher that reads `hinted` about every
second misses none.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from shared.store.pool import Pool
from shared.store.queries import statements

__all__ = ["Hint", "Hinted", "hint", "hinted", "of_partitions", "prune_channels"]

_SQL = statements("feed_hints")


class Hint(NamedTuple):
    """A feed may have changed. `channel` and `number` are of a provider that numbers its calls.

    `doubted`: the provider says that the subscription itself ended, or soon will.
    """

    feed_id: str
    channel: str | None = None
    number: int | None = None
    doubted: bool = False


class Hinted(NamedTuple):
    """When a feed was last told of, and when its subscription was last in doubt (0: never).

    Microseconds of the database's clock, to be compared for being the same and for nothing else.
    """

    feed_id: str
    hinted_us: int
    doubted_us: int


async def of_partitions(pool: Pool, provider: str, partitions: Collection[int]) -> list[str]:
    """The feeds that a provider's store was split into, for these partitions."""
    return [row["feed_id"] for row in await pool.fetch(_SQL["of_partitions"], provider, sorted(partitions))]


async def hint(pool: Pool, hints: Sequence[Hint]) -> dict[str, int]:
    """Leave hints, durably. Returns the feeds to be woken and their moment: not those of which all was known."""
    if not hints:
        return {}
    columns = [list(column) for column in zip(*hints, strict=True)]
    return {row["feed_id"]: row["hinted_us"] for row in await pool.fetch(_SQL["hint"], *columns)}


async def hinted(pool: Pool, feed_ids: Collection[str]) -> list[Hinted]:
    """What of these feeds was ever told of."""
    return [Hinted(*row) for row in await pool.fetch(_SQL["hinted"], list(feed_ids))]


async def prune_channels(pool: Pool) -> int:
    """Forget the numbers of channels that are long gone; returns how many."""
    return len(await pool.fetch(_SQL["prune_channels"]))

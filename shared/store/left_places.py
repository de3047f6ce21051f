"""Places that responses left because their store failed. Rows stay, so that what comes there late is not announced."""

from typing import NamedTuple

from shared.store.pool import Pool
from shared.store.queries import statements

__all__ = ["LeftPlace", "due", "swept"]

_SQL = statements("left_places")


class LeftPlace(NamedTuple):
    """A folder in a store."""

    store: str
    folder: str


async def due(pool: Pool, *, older_than_s: float, limit: int) -> list[LeftPlace]:
    """Places where nothing is written any more and something may lie."""
    return [LeftPlace(*row) for row in await pool.fetch(_SQL["due"], older_than_s, limit)]


async def swept(pool: Pool, place: LeftPlace) -> None:
    """Remember that nothing lies there any more."""
    await pool.fetch(_SQL["swept"], *place)

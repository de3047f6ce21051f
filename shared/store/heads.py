"""Which of many logs have moved: the cheap question that those who wait ask together, before anybody reads a page."""

from collections.abc import Sequence
from typing import NamedTuple

from shared.store.pool import Pool
from shared.store.queries import statements

__all__ = ["Seen", "moved"]

_SQL = statements("heads")


class Seen(NamedTuple):
    """The last thing somebody knows of a device's log."""

    device_id: str
    epoch: int
    head: int


async def moved(pool: Pool, seen: Sequence[Seen]) -> set[str]:
    """Devices of which something else is true by now. A device may be there more than once."""
    if not seen:
        return set()
    device_ids, epochs, heads = zip(*seen, strict=True)
    return {row["device_id"] for row in await pool.fetch(_SQL["moved"], list(device_ids), list(epochs), list(heads))}

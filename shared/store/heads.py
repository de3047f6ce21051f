"""Cheap questions about many devices at once: which logs have moved, and where each device is connected."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shared.store.pool import Pool
from shared.store.queries import statements

__all__ = ["Place", "Seen", "moved", "places"]

_SQL = statements("heads")


class Seen(NamedTuple):
    """The last thing somebody knows of a device's log."""

    device_id: str
    epoch: int
    head: int


class Place(NamedTuple):
    """The class of a device, and the hub that holds it, None when none does."""

    device_class: str
    hub: str | None


async def moved(pool: Pool, seen: Sequence[Seen]) -> set[str]:
    """Devices of which something else is true by now. A device may be there more than once."""
    if not seen:
        return set()
    device_ids, epochs, heads = zip(*seen, strict=True)
    return {row["device_id"] for row in await pool.fetch(_SQL["moved"], list(device_ids), list(epochs), list(heads))}


async def places(pool: Pool, device_ids: Sequence[str]) -> Mapping[str, Place]:
    """By device id; a device that does not exist is absent."""
    rows = await pool.fetch(_SQL["places"], list(device_ids))
    return {row["device_id"]: Place(row["class"], row["hub"]) for row in rows}

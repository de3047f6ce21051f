"""Which hubs there are: a row each, kept alive by a heartbeat, read by whoever assigns or moves devices."""

from typing import Final, NamedTuple

from shared.store.pool import Pool
from shared.store.queries import statements

__all__ = ["SILENCE_S", "HubRow", "heartbeat", "leave", "live"]

_SQL = statements("hubs")

SILENCE_S: Final = 15.0


class HubRow(NamedTuple):
    """One hub: `instance` tells two runs of one name apart, `url` is its public ws:// address without path.

    `draining`: nobody should be sent there now, whatever the reason. `leaving`: it is going for good, and its devices
    are being sent away. `ops_url` is its operations port, None for a hub that does not say.
    """

    name: str
    instance: str
    url: str
    connections: int
    capacity: int
    draining: bool
    ops_url: str | None = None
    leaving: bool = False


async def heartbeat(pool: Pool, hub: HubRow, *, silence_s: float = SILENCE_S) -> list[HubRow]:
    """Say that the hub lives, with its present load. Returns all that live, this one included, by name."""
    return [HubRow(*row) for row in await pool.fetch(_SQL["heartbeat"], *hub, silence_s)]


async def leave(pool: Pool, name: str, instance: str) -> None:
    """End the membership, unless a newer run of the same name has taken it over."""
    await pool.fetch(_SQL["leave"], name, instance)


async def live(pool: Pool, *, silence_s: float = SILENCE_S) -> list[HubRow]:
    """Hubs heard within `silence_s`, draining ones included, by name."""
    return [HubRow(*row) for row in await pool.fetch(_SQL["live"], silence_s)]

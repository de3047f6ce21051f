"""Devices as rows: made once, by a command, an operator or their first valid token."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from shared.store.pool import Connection, Pool
from shared.store.queries import statements

__all__ = ["DEFAULT_CLASS", "DeviceState", "ensure", "ensure_all", "get", "put"]

_SQL = statements("devices")

DEFAULT_CLASS: Final = "truck"


class DeviceState(NamedTuple):
    """A device, its log and its newest connection. `hub` is where it is connected, None when it is not."""

    device_id: str
    device_class: str
    epoch: int
    head: int
    floor: int
    created_at: datetime
    acked: int
    acked_at: datetime | None
    conn_term: int
    hub: str | None
    connected_at: datetime | None
    disconnected_at: datetime | None
    hub_alive: bool


async def ensure(pool: Pool, device_id: str, device_class: str) -> bool:
    """Make the device unless it exists, whatever class it then has. Returns whether it was made."""
    return await ensure_all(pool, {device_id: device_class}) == 1


async def ensure_all(pool: Pool, classes: Mapping[str, str]) -> int:
    """Make those of the devices, each with its class, that do not exist. Returns how many were made."""
    rows = await pool.fetch(_SQL["ensure"], list(classes), list(classes.values()))
    return int(rows[0]["made"])


async def put(pool: Pool, device_id: str, device_class: str) -> bool:
    """Make the device, or give it this class. Returns whether it was made."""

    async def work(connection: Connection) -> bool:
        made = await connection.fetchval(_SQL["ensure"], [device_id], [device_class])
        await connection.execute(_SQL["set_class"], device_id, device_class)
        return bool(made)

    return await pool.run(work)


async def get(pool: Pool, device_id: str) -> DeviceState | None:
    """The device, or None when there is none of this id."""
    rows = await pool.fetch(_SQL["get"], device_id)
    return DeviceState(*rows[0]) if rows else None

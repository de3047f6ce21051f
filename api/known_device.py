"""A device that shows a valid token exists from then on: what to do when a read finds no row of it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from api.problems import Problem
from api.resource import Call
from shared.store import devices
from shared.store.pool import Pool

__all__ = ["of_known_device"]

T = TypeVar("T")


async def of_known_device(pool: Pool, call: Call, read: Callable[[], Awaitable[T | None]]) -> T:
    """What `read` finds; if nothing, and the device itself asks, made and read again. Raises Problem (404).

    The row is made only when it was missed, so the usual request costs no statement more.
    """
    found = await read()
    if found is None and call.is_by_device:
        await devices.ensure(pool, call.device_id, call.claims.device_class or devices.DEFAULT_CLASS)
        found = await read()
    if found is None:
        raise Problem("not-found", "there is no such device")
    return found

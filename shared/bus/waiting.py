"""A wait for an event that ends in time."""

import asyncio

__all__ = ["happened"]


async def happened(event: asyncio.Event, seconds: float | None) -> bool:
    """Whether the event is set within `seconds` (None: however long it takes)."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True

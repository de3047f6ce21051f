"""The live hubs, read at most every so often however many devices ask.

When a hub dies, all its devices ask at once; they share one read. What is kept here is the same for everybody, and no
older than the heartbeats it is made of.
"""

import asyncio
from collections.abc import Sequence

from shared.clock import monotonic
from shared.store import hubs
from shared.store.hubs import HubRow
from shared.store.pool import Pool

__all__ = ["HubView"]


class HubView:
    """`live()` gives hubs as they were at most `max_age_s` ago."""

    def __init__(self, pool: Pool, *, max_age_s: float, silence_s: float) -> None:
        self._pool = pool
        self._max_age_s = max_age_s
        self._silence_s = silence_s
        self._rows: Sequence[HubRow] = ()
        self._fresh_until = float("-inf")
        self._reading = asyncio.Lock()

    async def live(self) -> Sequence[HubRow]:
        """Raises StoreUnavailable: hubs that may be gone are not handed out."""
        if monotonic() < self._fresh_until:
            return self._rows
        async with self._reading:
            if monotonic() >= self._fresh_until:
                asked_at = monotonic()
                self._rows = await hubs.live(self._pool, silence_s=self._silence_s)
                self._fresh_until = asked_at + self._max_age_s
            return self._rows

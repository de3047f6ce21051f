"""The live hubs, read at most every so often however many devices ask.

When a hub dies, all its devices ask at once; they share one read, and when Postgres does not answer, its one failure.
What is kept here is the same for everybody, and no older than the heartbeats it is made of.
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
        self._reading: asyncio.Task[None] | None = None

    async def live(self) -> Sequence[HubRow]:
        """Raises StoreUnavailable: hubs that may be gone are not handed out."""
        came_at = monotonic()
        while came_at >= self._fresh_until:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read(), name="read hubs")
                # Nobody may be left to hear of it when it fails.
                self._reading.add_done_callback(lambda done: done.cancelled() or done.exception())
            # One that began before this request came may be too old for it, but not if it fails.
            await asyncio.shield(self._reading)
        return self._rows

    async def _read(self) -> None:
        asked_at = monotonic()
        try:
            self._rows = await hubs.live(self._pool, silence_s=self._silence_s)
            self._fresh_until = asked_at + self._max_age_s
        finally:
            self._reading = None

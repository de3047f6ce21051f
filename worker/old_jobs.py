"""Forgets jobs that ended long ago, some at a time: one of the things that the retention loop does."""

from typing import Final, Literal

from shared.store import job_retention
from shared.store.pool import Pool

__all__ = ["BATCHES", "OldJobs"]

# Of one look, which comes about once a minute: more than a fleet's workers end in it, or the table grows without end.
BATCHES: Final = 200


class OldJobs:
    """Jobs that are done or cancelled stay for `ended_h` hours, dead ones for `dead_h`."""

    def __init__(self, pool: Pool, *, ended_h: int, dead_h: int) -> None:
        self._pool = pool
        self._hours: dict[Literal["done", "cancelled", "dead"], int] = {
            "done": ended_h,
            "cancelled": ended_h,
            "dead": dead_h,
        }

    async def sweep(self) -> int:
        """Forget some of each. Returns how many; the rest waits for the next look."""
        forgotten = 0
        for status, hours in self._hours.items():
            for _ in range(BATCHES):
                count = await job_retention.prune(self._pool, status, hours=hours, limit=job_retention.BATCH)
                forgotten += count
                if count < job_retention.BATCH:
                    break
        return forgotten

"""How long jobs stay after their end: those that went well for a while, dead ones longer, so that somebody may look.

Their responses and events stay as long as those do, and their folders stay reserved: nothing of a job that is forgotten
is announced anew.
"""

from typing import Final, Literal

from shared.store.pool import Pool
from shared.store.queries import statements

__all__ = ["BATCH", "prune"]

BATCH: Final = 500

_SQL = statements("job_retention")


async def prune(pool: Pool, status: Literal["done", "cancelled", "dead"], *, hours: int, limit: int) -> int:
    """Forget some of those that ended so long ago. Returns how many."""
    return len(await pool.fetch(_SQL["prune"], status, hours, limit))

"""Which API processes live: each keeps a row alive, so that all know how many share the limits."""

from shared.store.pool import Pool
from shared.store.queries import statements

__all__ = ["heartbeat", "leave"]

_SQL = statements("api_instances")


async def heartbeat(pool: Pool, name: str, *, silence_s: float) -> int:
    """Say that this one lives. How many do, this one included."""
    rows = await pool.fetch(_SQL["heartbeat"], name, silence_s, repeatable=True)
    return int(rows[0][0])


async def leave(pool: Pool, name: str) -> None:
    """It counts no more."""
    await pool.fetch(_SQL["leave"], name, repeatable=True)

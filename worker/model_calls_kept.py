"""Settles the model calls of workers that are gone, and forgets old ones with their answers."""

from typing import Final

from shared.store import model_usage
from shared.store.pool import Pool

__all__ = ["ModelCallsKept"]

_LOST_S: Final = 2 * 3600.0  # longer than any handler may take
_KEEP_S: Final = 31 * 86_400.0


class ModelCallsKept:
    """`sweep()` now and again."""

    def __init__(self, pool: Pool, *, lost_s: float = _LOST_S, keep_s: float = _KEEP_S) -> None:
        self._pool = pool
        self._lost_s = lost_s
        self._keep_s = keep_s

    async def sweep(self) -> int:
        """A bounded number of them; returns how many."""
        return await model_usage.sweep(self._pool, lost_s=self._lost_s, keep_s=self._keep_s)

"""The workers of one queue on one machine, and how many jobs wait for them.

The depth is asked of Postgres, as workers do for the metric that a cluster's autoscaler reads: here nobody else
collects it. An answer that does not come is no zero.
"""

import asyncio
from typing import Final

from infra.onebox.process_set import ProcessSet
from infra.scaling.worker_policy import WorkerDecision, WorkerScaler
from shared.store import jobs
from shared.store.errors import StoreError
from shared.store.pool import Pool, open_pool

__all__ = ["Depths", "WorkerPolicy"]

# Jobs at work go on for 10 s (FLEETWIRE_WORKER_DRAIN_S), what is left is given back.
REMOVE_DEADLINE_S: Final = 20.0
_ANSWER_S: Final = 2.0


class Depths:
    """Asks Postgres over one connection, which is opened when it is needed and opened again when it was lost."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()  # several queues ask at once

    async def waiting(self, queue: str) -> int | None:
        """Jobs that could run now; None when Postgres does not answer soon."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                async with self._opening:
                    if self._pool is None:
                        self._pool = await open_pool(self._url, name="autoscale", min_size=0, max_size=1)
                return (await jobs.depth(self._pool, queue)).waiting
        except (StoreError, TimeoutError, OSError):
            return None

    async def close(self) -> None:
        """End the connection."""
        if self._pool is not None:
            await self._pool.close(timeout_s=1.0)


class WorkerPolicy:
    """Decides on one queue by its depth."""

    ready = "is ready and takes jobs"

    def __init__(self, workers: ProcessSet, scaler: WorkerScaler, depths: Depths) -> None:
        self._workers = workers
        self._scaler = scaler
        self._depths = depths

    async def decide(self, now: float) -> WorkerDecision:
        """Read and decide."""
        self._workers.keep_told()
        return self._scaler.decide(await self._depths.waiting(self._scaler.queue), self._workers.staying, now)

    def changed(self, count: int, now: float) -> None:
        """So many came, or went when negative."""
        self._scaler.changed(count, now)

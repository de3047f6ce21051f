"""Removes photos that were reserved and never confirmed: first from the promise, then from the store, then the row.

Every API process has this loop; a lease lets one work at a time. Two at once would do no harm: a photo that was
confirmed is not expired, a key at a store is never given twice, and what is gone is gone. A store that cannot do it now
is asked again later and holds nobody else up. Batches are bounded, so a flood of abandoned photos takes several rounds.
"""

import asyncio
from random import Random
from typing import Final

import structlog

from api.routes.photos import asset_of
from shared.cloud.errors import CloudError
from shared.cloud.upload_stores import UploadStores
from shared.store import leases, photos
from shared.store.errors import StoreError
from shared.store.photos import PhotoRow
from shared.store.pool import Pool
from shared.telemetry.metrics import API_PHOTOS

__all__ = ["LEASE", "PhotoSweep"]

LEASE: Final = "photos"
_LEASE_S: Final = 120.0
_BATCH: Final = 200
_AT_ONCE: Final = 8
_LATER_S: Final = 600.0
# Well below the lease: what is left then comes with the next round.
_ROUND_S: Final = 60.0

_log = structlog.get_logger(__name__)


class PhotoSweep:
    """`run()` looks about every `period_s` until cancelled."""

    def __init__(
        self, pool: Pool, stores: UploadStores, *, owner: str, period_s: float, rand: Random, later_s: float = _LATER_S
    ) -> None:
        self._pool = pool
        self._stores = stores
        self._owner = owner
        self._period_s = period_s
        self._rand = rand
        self._later_s = later_s

    def __repr__(self) -> str:
        return f"PhotoSweep({self._stores!r}, every {self._period_s:g} s)"

    async def run(self) -> None:
        """Now and again. Postgres being away only means later."""
        while True:
            await asyncio.sleep(self._period_s * self._rand.uniform(0.5, 1.5))
            try:
                await self.once()
            except StoreError as error:
                _log.warning("removal of photos put off", detail=str(error))

    async def once(self) -> int:
        """One batch, unless another process is at it. Returns how many photos are forgotten."""
        async with leases.alone(self._pool, LEASE, self._owner, ttl_s=_LEASE_S) as is_ours:
            if not is_ours:
                return 0
            expired = await photos.expire(self._pool, limit=_BATCH)
            forgotten = await self._tidy()
        API_PHOTOS.labels("expired").inc(expired)
        API_PHOTOS.labels("removed").inc(forgotten)
        if expired or forgotten:
            _log.info("photos never confirmed", expired=expired, removed=forgotten)
        return forgotten

    async def _tidy(self) -> int:
        due = await photos.expired(self._pool, limit=_BATCH)
        places = asyncio.Semaphore(_AT_ONCE)
        gone: list[PhotoRow] = []

        async def remove(row: PhotoRow) -> None:
            async with places:
                if await self._is_removed(row):
                    gone.append(row)

        tasks = [asyncio.create_task(remove(row)) for row in due]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=_ROUND_S)
        finally:
            for task in tasks:
                task.cancel()
        removed = {row.photo_id for row in gone}
        await photos.put_off(self._pool, [row for row in due if row.photo_id not in removed], seconds=self._later_s)
        return await photos.forget(self._pool, gone)

    async def _is_removed(self, row: PhotoRow) -> bool:
        store = self._stores.get(row.store)
        if store is None:
            _log.warning("photo cannot be removed: its store is not set up", store=row.store)
            return False
        try:
            await store.remove(asset_of(row))
        except CloudError as error:
            _log.warning("photo cannot be removed now", store=row.store, detail=str(error))
            return False
        return True

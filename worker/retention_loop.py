"""Keeps tables within their retention: old events, old keys and spent tickets go, in short transactions; and stores
within theirs: what a response left in one that failed, and uploads that nobody goes on with.

Every worker has this loop; a lease lets one of them work at a time. Two at once would do no harm, since each
transaction judges for itself what may go; it would only be done twice.
"""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Final, Protocol

import structlog

from shared.store import feed_hints, leases, log, operations, request_keys, revocations
from shared.store.errors import StoreError
from shared.store.log import Retention
from shared.store.pool import Pool
from shared.telemetry.metrics import RETENTION_EVENTS, RETENTION_KEYS

__all__ = ["LEASE", "RetentionLoop", "Sweeps"]

LEASE: Final = "retention"
_LEASE_S: Final = 300.0

_log = structlog.get_logger(__name__)


class Sweeps(Protocol):
    """What knows of things in stores that have to go."""

    async def sweep(self) -> int:
        """Remove some of them; returns how many."""
        ...


class RetentionLoop:
    """`run()` looks through the log about every `period_s` until cancelled."""

    def __init__(
        self, pool: Pool, retention: Retention, left: Sequence[Sweeps], *, owner: str, period_s: float, rand: Random
    ) -> None:
        self._pool = pool
        self._retention = retention
        self._left = left
        self._owner = owner
        self._period_s = period_s
        self._rand = rand

    def __repr__(self) -> str:
        return f"RetentionLoop({self._retention}, every {self._period_s:g} s)"

    async def run(self) -> None:
        """Trim and prune, now and again. Postgres being away only means later."""
        while True:
            await asyncio.sleep(self._period_s * self._rand.uniform(0.5, 1.5))
            try:
                await self.once()
            except StoreError as error:
                _log.warning("retention put off", detail=str(error))

    async def once(self) -> int:
        """Trim and prune unless another worker does. Returns the events deleted."""
        async with leases.alone(self._pool, LEASE, self._owner, ttl_s=_LEASE_S) as is_ours:
            if not is_ours:
                return 0
            events = await log.trim(self._pool, self._retention)
            keys = await log.prune(self._pool, self._retention) + await revocations.prune(self._pool)
            keys += await operations.prune(self._pool) + await request_keys.prune(self._pool)
            keys += await feed_hints.prune_channels(self._pool)
            files = sum([await left.sweep() for left in self._left])
        RETENTION_EVENTS.inc(events)
        RETENTION_KEYS.inc(keys)
        if events or keys or files:
            _log.info("retention", events=events, keys=keys, files=files)
        return events

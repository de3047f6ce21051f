"""The sweep: one statement over all connected devices, which finds whatever the bus did not say.

It is the relay of last resort and the reason why nothing else must be: new events, acks by REST, newer connections
and raised epochs all show as a difference between a row and what the hub knows. Every 2 s as a rule; four times a
second while the bus is in doubt; at once after a break.
"""

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from hub.store_watch import StoreWatch
from shared.store import cursors
from shared.store.cursors import Known, Swept
from shared.store.errors import StoreError
from shared.store.pool import Pool
from shared.telemetry.metrics import HUB_SWEEP_SECONDS

__all__ = ["Sweepable", "Sweeper"]


class Sweepable(Protocol):
    """A connection as the sweep sees it."""

    @property
    def device_id(self) -> str: ...
    @property
    def known(self) -> Known: ...
    def on_swept(self, swept: Swept, known: Known) -> None: ...


class Sweeper:
    """`run()` is the loop, `soon()` makes it sweep now."""

    def __init__(
        self,
        pool: Pool,
        watch: StoreWatch,
        *,
        connections: Callable[[], Sequence[Sweepable]],
        in_doubt: Callable[[], bool],
        interval_s: float,
        doubt_interval_s: float,
        rand: Random,
        batch_max: int = 5000,
    ) -> None:
        self._pool = pool
        self._watch = watch
        self._connections = connections
        self._in_doubt = in_doubt
        self._interval_s = interval_s
        self._doubt_interval_s = doubt_interval_s
        self._rand = rand
        self._batch_max = batch_max
        self._wake = asyncio.Event()
        self.swept = 0

    def soon(self) -> None:
        """Sweep as soon as the running one is over: something may have been missed until now."""
        self._wake.set()

    async def run(self) -> None:
        """Sweep until cancelled."""
        backoff = self._watch.backoff()
        # The first one jittered, so that hubs started together do not sweep together.
        await self._pause(self._interval_s * self._rand.random())
        while True:
            try:
                with HUB_SWEEP_SECONDS.time():
                    await self.sweep()
                backoff.reset()
            except StoreError:
                await asyncio.sleep(backoff.next())
                continue
            await self._pause(self._doubt_interval_s if self._in_doubt() else self._interval_s)

    async def sweep(self) -> None:
        """Compare every connection with its rows, once."""
        self._wake.clear()
        connections = list(self._connections())
        for first in range(0, len(connections), self._batch_max):
            by_device = {one.device_id: (one, one.known) for one in connections[first : first + self._batch_max]}
            async with self._watch.asking():
                rows = await cursors.sweep(self._pool, [known for _, known in by_device.values()])
            for row in rows:
                connection, known = by_device[row.device_id]
                connection.on_swept(row, known)
        self.swept += 1

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

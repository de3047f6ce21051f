"""The sweep: one statement over all connected devices, which finds whatever the bus did not say.

It is the relay of last resort and the reason why nothing else must be: new events, acks by REST, newer connections
and raised epochs all show as a difference between a row and what the hub knows. Every 2 s as a rule; four times a
second for the devices whose part of the bus is in doubt; at once after a break.
"""

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from hub.store_watch import StoreWatch
from shared.clock import monotonic
from shared.hash_slots import slot_of
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
        doubtful: Callable[[], Callable[[int], bool] | None],
        interval_s: float,
        doubt_interval_s: float,
        rand: Random,
        batch_max: int = 5000,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`doubtful()` says which slots the bus may be silent about now, None for no slot."""
        self._pool = pool
        self._watch = watch
        self._connections = connections
        self._doubtful = doubtful
        self._clock = clock
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
        all_due = self._clock()
        while True:
            doubtful = self._doubtful()
            is_full = doubtful is None or self._wake.is_set() or self._clock() >= all_due
            try:
                with HUB_SWEEP_SECONDS.time():
                    await self.sweep(None if is_full else doubtful)
                backoff.reset()
            except StoreError:
                if is_full:
                    self.soon()  # what was asked for is still to be done, not only for those in doubt by now
                await asyncio.sleep(backoff.next())
                continue
            if is_full:
                all_due = self._clock() + self._interval_s
            in_doubt = self._doubtful() is not None
            await self._pause(self._doubt_interval_s if in_doubt else max(0.0, all_due - self._clock()))

    async def sweep(self, only: Callable[[int], bool] | None = None) -> None:
        """Compare connections with their rows, once: all, or those of the slots that `only` is true of."""
        self._wake.clear()
        connections = [one for one in self._connections() if only is None or only(slot_of(one.device_id))]
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

"""This hub's row in `hubs`: by it the API assigns devices, and other hubs know that it lives.

A heartbeat every few seconds; sooner, but at most once a second, when connections came or went, so that a full hub is
seen to be full. The same statement reads the other rows. A hub that was stopped and wakes up simply says so again: the
row never made it the owner of anything.
"""

import asyncio
from collections.abc import Callable, Sequence
from random import Random

import structlog

from hub.store_watch import StoreWatch
from shared.store import hubs
from shared.store.errors import StoreError
from shared.store.hubs import HubRow
from shared.store.pool import Pool

__all__ = ["Membership"]

_log = structlog.get_logger(__name__)


class Membership:
    """`run()` keeps the row, `leave()` deletes it."""

    def __init__(
        self,
        pool: Pool,
        watch: StoreWatch,
        *,
        row: Callable[[], HubRow],
        on_rows: Callable[[Sequence[HubRow]], None],
        heartbeat_s: float,
        settle_s: float,
        silence_s: float,
        rand: Random,
    ) -> None:
        """`row()` says how things are now; `on_rows()` is told of all hubs that live, this one included."""
        self._pool = pool
        self._watch = watch
        self._row = row
        self._on_rows = on_rows
        self._heartbeat_s = heartbeat_s
        self._settle_s = settle_s
        self._silence_s = silence_s
        self._rand = rand
        self._changed = asyncio.Event()
        self._left = False
        self._is_leaving = False
        # Two statements over the row at once could bring it back after it was deleted.
        self._one_at_a_time = asyncio.Lock()

    def changed(self) -> None:
        """Connections came or went, or draining began."""
        self._changed.set()

    async def say(self) -> None:
        """Write the row now. Raises StoreError."""
        self._changed.clear()
        async with self._one_at_a_time:
            if self._left:
                return
            async with self._watch.asking():
                rows = await hubs.heartbeat(self._pool, self._row(), silence_s=self._silence_s)
        self._on_rows(rows)

    async def begin_leaving(self) -> None:
        """Write the row now, if Postgres takes it, and from now on more often: others may be leaving as well."""
        self._is_leaving = True
        try:
            await self.say()
        except StoreError:
            self._changed.set()

    async def run(self) -> None:
        """Keep the row until cancelled."""
        backoff = self._watch.backoff()
        while True:
            try:
                await self.say()
                backoff.reset()
            except StoreError:
                await asyncio.sleep(backoff.next())
                continue
            await asyncio.sleep(self._settle_s)
            if self._is_leaving:
                continue
            try:
                # Jittered downward only: the silence that ends a membership is three whole heartbeats.
                async with asyncio.timeout(self._heartbeat_s * self._rand.uniform(0.8, 1.0) - self._settle_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def leave(self) -> None:
        """Delete the row, unless a newer run of this name has it."""
        self._left = True
        row = self._row()
        try:
            async with self._one_at_a_time, self._watch.asking():
                await hubs.leave(self._pool, row.name, row.instance)
        except StoreError as error:
            _log.warning("could not leave the membership; silence will end it", reason=str(error))

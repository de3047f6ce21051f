"""Reads of the log for sessions, gathered: those of a few milliseconds, of a wave more, share one statement.

Every session has at most one read outstanding, so what waits here is bounded by the connections. A statement brings
at most 8 MiB, shared out evenly among the devices it is for; whose first event does not fit in waits for the next one.
While Postgres is away the reads wait and are tried again.
"""

import asyncio
from typing import Final, Protocol

from hub.actions import ReadLog
from hub.gathering import Gathering
from hub.session import LogPage
from hub.store_watch import StoreWatch
from shared.clock import monotonic
from shared.store import log
from shared.store.errors import StoreError
from shared.store.log import PageRequest
from shared.store.pool import Pool
from shared.telemetry.metrics import HUB_LOG_READ_SECONDS

__all__ = ["LogReader", "Reading"]

DEVICES_MAX: Final = 512


class Reading(Protocol):
    """A connection that asked for a page."""

    @property
    def device_id(self) -> str: ...
    @property
    def is_done(self) -> bool: ...
    def on_page(self, page: LogPage) -> None: ...
    def on_read_failed(self) -> None: ...


class LogReader:
    """`ask()` queues a read; `run()` is one of the loops that answer them."""

    def __init__(self, pool: Pool, watch: StoreWatch, *, pause_s: float) -> None:
        self._pool = pool
        self._watch = watch
        self._gathering = Gathering(pause_s)
        self._waiting: dict[Reading, ReadLog] = {}
        self._work = asyncio.Event()

    def __repr__(self) -> str:
        return f"LogReader({len(self._waiting)} wait)"

    def ask(self, reading: Reading, read: ReadLog) -> None:
        """Answer by `on_page`, soon."""
        self._waiting[reading] = read
        self._work.set()

    async def run(self) -> None:
        """Answer until cancelled. Several of these may run side by side."""
        backoff = self._watch.backoff()
        while True:
            await self._work.wait()
            await asyncio.sleep(self._gathering.delay(monotonic()))
            batch = self._take()
            if not batch:
                continue
            self._gathering.took(len(batch), monotonic())
            try:
                with HUB_LOG_READ_SECONDS.time():
                    await self._read(batch)
                backoff.reset()
            except StoreError:
                for reading, read in batch.values():
                    if not reading.is_done:
                        self.ask(reading, read)
                await asyncio.sleep(backoff.next())

    def _take(self) -> dict[str, tuple[Reading, ReadLog]]:
        batch: dict[str, tuple[Reading, ReadLog]] = {}
        for reading in list(self._waiting):
            if reading.is_done:
                del self._waiting[reading]
            elif reading.device_id not in batch:
                # Two connections of one device: the second waits for the next statement.
                batch[reading.device_id] = reading, self._waiting.pop(reading)
                if len(batch) >= DEVICES_MAX:
                    break
        if not self._waiting:
            self._work.clear()
        return batch

    async def _read(self, batch: dict[str, tuple[Reading, ReadLog]]) -> None:
        requests = [PageRequest(device_id, *read) for device_id, (_, read) in batch.items()]
        async with self._watch.asking():
            pages = await log.read_pages(self._pool, requests)
        for device_id, (reading, read) in batch.items():
            if reading.is_done:
                continue
            page = pages.get(device_id)
            if page is None:
                reading.on_read_failed()
            elif page.deferred:
                self.ask(reading, read)
            else:
                reading.on_page(page)

"""Acks on their way to Postgres: the highest of each device, written together.

An ack that is lost costs a repetition to the device and nothing else, yet none is lost while Postgres is away: one
entry per device is kept until it is written, in at most so many devices. Written at the latest after `pause_s`, at
once when a device has gone, and finally at shutdown.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from hub.store_watch import StoreWatch
from shared.store import cursors
from shared.store.cursors import Ack, AckResult, Departure
from shared.store.errors import StoreError
from shared.store.pool import Pool
from shared.telemetry.metrics import HUB_ACKS_DROPPED, HUB_ACKS_WRITE_SECONDS, HUB_ACKS_WRITTEN

__all__ = ["AckBook", "AckWriter"]

_log = structlog.get_logger(__name__)


class AckBook:
    """The highest ack of each device that is not written yet.

    Plain calls only, so nothing comes between two of its lines.
    """

    def __init__(self, devices_max: int) -> None:
        self._devices_max = devices_max
        self._acks: dict[str, tuple[int, int]] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._acks)

    def note(self, device_id: str, epoch: int, seq: int) -> None:
        """Remember an ack. When there is no room for another device, the oldest one's is given up."""
        known = self._acks.get(device_id)
        if known is None:
            if len(self._acks) >= self._devices_max:
                del self._acks[next(iter(self._acks))]
                self.dropped += 1
                HUB_ACKS_DROPPED.inc()
        elif known >= (epoch, seq):
            return
        self._acks[device_id] = (epoch, seq)

    def take(self, count: int) -> list[Ack]:
        """Remove up to `count` acks, oldest first."""
        devices = list(self._acks)[:count]
        return [Ack(device_id, *self._acks.pop(device_id)) for device_id in devices]

    def put_back(self, acks: Sequence[Ack]) -> None:
        """They could not be written; newer ones that came meanwhile stay."""
        for device_id, epoch, seq in acks:
            self.note(device_id, epoch, seq)


class AckWriter:
    """Writes what is noted in `book` within `pause_s`. `run()` is its loop; `flush()` writes what is left, once."""

    def __init__(
        self,
        pool: Pool,
        watch: StoreWatch,
        *,
        on_refused: Callable[[Ack, AckResult], None],
        pause_s: float,
        devices_max: int,
        batch_max: int = 2000,
    ) -> None:
        self.book = AckBook(devices_max)
        self._pool = pool
        self._watch = watch
        self._on_refused = on_refused
        self._pause_s = pause_s
        self._batch_max = batch_max
        self._gone: dict[str, Departure] = {}
        self._devices_max = devices_max
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"AckWriter({len(self.book)} acks, {len(self._gone)} departures wait)"

    def departed(self, device_id: str, conn_term: int, *, excused: bool = False) -> None:
        """The connection has gone: write its ack at once, then that it has gone.

        `excused`: by the hub's own doing, so that the next one is no flap.
        """
        self._note_gone(Departure(device_id, conn_term, int(excused)))
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        backoff = self._watch.backoff()
        while True:
            await self._wait()
            try:
                await self._write_some()
                while len(self.book) >= self._batch_max or self._gone:
                    # What is left after a full batch cannot wait; what came meanwhile is gathered until next time.
                    await self._write_some()
                backoff.reset()
            except StoreError:
                await asyncio.sleep(backoff.next())

    async def flush(self, deadline_s: float) -> bool:
        """Write what is left within `deadline_s`, what is just being written included. Returns whether all of it is."""
        try:
            async with asyncio.timeout(deadline_s):
                while self._unwritten:
                    await self._write_some()
        except (StoreError, TimeoutError) as error:
            _log.warning("acks left unwritten", devices=len(self.book), reason=str(error) or "deadline")
        return not self._unwritten

    @property
    def _unwritten(self) -> bool:
        return self._writing.locked() or bool(self.book) or bool(self._gone)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._pause_s):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _write_some(self) -> None:
        async with self._writing:
            await self._write_acks()
            await self._write_gone()

    async def _write_acks(self) -> None:
        acks = self.book.take(self._batch_max)
        if not acks:
            return
        try:
            async with self._watch.asking():
                with HUB_ACKS_WRITE_SECONDS.time():
                    refused = await cursors.record_acks(self._pool, acks, refused_only=True)
        except BaseException:
            self.book.put_back(acks)
            raise
        HUB_ACKS_WRITTEN.inc(len(acks) - len(refused))
        by_device = {ack.device_id: ack for ack in acks} if refused else {}
        for result in refused:
            self._on_refused(by_device[result.device_id], result)

    async def _write_gone(self) -> None:
        gone = [self._gone.pop(device_id) for device_id in list(self._gone)[: self._batch_max]]
        if not gone:
            return
        try:
            async with self._watch.asking():
                await cursors.mark_disconnected(self._pool, gone)
        except BaseException:
            for departure in gone:
                self._note_gone(departure)
            raise

    def _note_gone(self, departure: Departure) -> None:
        """Several connections of a device become one entry: the newest term, and how many of them are excused."""
        device_id, conn_term, excused = departure
        known = self._gone.get(device_id)
        if known is not None:
            conn_term, excused = max(conn_term, known.conn_term), excused + known.excused
        elif len(self._gone) >= self._devices_max:
            del self._gone[next(iter(self._gone))]
        self._gone[device_id] = Departure(device_id, conn_term, excused)

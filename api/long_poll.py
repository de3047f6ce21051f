"""All long-polls of the process wait here, on one gathered read per period, holding no connection.

Each period asks once which of the waiting devices' logs have moved and reads pages only for those, a bounded number
at a time. A wait ends with a page, or with None: its time is over, the process leaves, or the same device has newer
waits. Nothing here decides what a page means; the one who waited does.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import structlog

from shared.protocol.position import Position
from shared.store import heads, log
from shared.store.errors import StoreError
from shared.store.heads import Seen
from shared.store.log import Page, PageRequest
from shared.store.pool import Pool
from shared.telemetry.metrics import API_LONG_POLLS

__all__ = ["LongPolls", "Waiter"]

PER_DEVICE_MAX: Final = 4
READ_DEVICES_MAX: Final = 128  # at 64 KiB a page, what one gathered read may hold

_PAUSE_S: Final = 1.0

_log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class Waiter:
    """One waiting request: it has seen everything up to `after`, which was the head."""

    device_id: str
    after: Position
    max_rows: int
    max_bytes: int
    page: "asyncio.Future[Page | None]" = field(repr=False)

    def finish(self, page: Page | None) -> None:
        """End the wait, unless it has ended."""
        if not self.page.done():
            self.page.set_result(page)


class LongPolls:
    """Join with `join()`, await `waiter.page`, and always `leave()`. `run()` is the reading loop."""

    def __init__(self, pool: Pool, *, period_s: float, waiting_max: int) -> None:
        self._pool = pool
        self._period_s = period_s
        self._waiting_max = waiting_max
        self._by_device: dict[str, list[Waiter]] = {}
        self._some = asyncio.Event()
        self._closed = False
        self.waiting = 0

    def __repr__(self) -> str:
        return f"LongPolls({self.waiting} waiting for {len(self._by_device)} devices)"

    def join(self, device_id: str, after: Position, *, max_rows: int, max_bytes: int) -> Waiter | None:
        """A new wait, or None when there are too many. Of one device's waits too many, the oldest ends."""
        if self.waiting >= self._waiting_max:
            return None
        waiter = Waiter(device_id, after, max_rows, max_bytes, asyncio.get_running_loop().create_future())
        if self._closed:
            waiter.finish(None)
            return waiter
        mine = self._by_device.setdefault(device_id, [])
        if len(mine) >= PER_DEVICE_MAX:
            oldest = mine[0]
            oldest.finish(None)
            self.leave(oldest)
            mine = self._by_device.setdefault(device_id, [])
        mine.append(waiter)
        self._count(+1)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """The wait is over, however it ended. Safe to call twice."""
        mine = self._by_device.get(waiter.device_id, [])
        if waiter not in mine:
            return
        mine.remove(waiter)
        if not mine:
            del self._by_device[waiter.device_id]
        self._count(-1)

    def close(self) -> None:
        """End all waits, and every one that begins from now on, with None."""
        self._closed = True
        for waiter in list(self._all()):
            waiter.finish(None)

    async def run(self) -> None:
        """Read for those who wait, until cancelled. Postgres being away ends no wait."""
        while True:
            await self._some.wait()
            await asyncio.sleep(self._period_s)
            try:
                await self._read_once()
            except StoreError as error:
                _log.warning("gathered read of long-polls failed", waiting=self.waiting, detail=str(error))
            except Exception:  # noqa: BLE001 - logged with its trace
                # Thousands wait on this loop: what is wrong with one read must not end it, nor fill the log.
                _log.exception("gathered read of long-polls failed", waiting=self.waiting)
                await asyncio.sleep(_PAUSE_S)

    async def _read_once(self) -> None:
        seen = {Seen(waiter.device_id, waiter.after.epoch, waiter.after.seq) for waiter in self._all()}
        moved = sorted(await heads.moved(self._pool, list(seen)))
        for devices in _chunks(moved, READ_DEVICES_MAX):
            # A device's waits may have seen different things; one read takes one request of each device.
            for requests in _rounds(waiter for device in devices for waiter in self._by_device.get(device, ())):
                pages = await log.read_pages(self._pool, [_request(waiter) for waiter in requests])
                for waiter in requests:
                    page = pages.get(waiter.device_id)
                    if page is not None and _says_something(page, waiter.after):
                        waiter.finish(page)

    def _all(self) -> Iterator[Waiter]:
        return (waiter for mine in self._by_device.values() for waiter in mine)

    def _count(self, change: int) -> None:
        self.waiting += change
        API_LONG_POLLS.set(self.waiting)
        if self.waiting:
            self._some.set()
        else:
            self._some.clear()


def _says_something(page: Page, after: Position) -> bool:
    return bool(page.events) or page.epoch != after.epoch or page.floor > after.seq


def _request(waiter: Waiter) -> PageRequest:
    return PageRequest(waiter.device_id, waiter.after.seq, waiter.max_rows, waiter.max_bytes)


def _chunks(names: list[str], size: int) -> Iterator[list[str]]:
    rest = iter(names)
    while chunk := list(islice(rest, size)):
        yield chunk


def _rounds(waiters: Iterable[Waiter]) -> list[list[Waiter]]:
    """Waiters split so that no round holds a device twice."""
    rounds: list[dict[str, Waiter]] = []
    for waiter in waiters:
        fitting = next((one for one in rounds if waiter.device_id not in one), None)
        if fitting is None:
            rounds.append({waiter.device_id: waiter})
        else:
            fitting[waiter.device_id] = waiter
    return [list(one.values()) for one in rounds]

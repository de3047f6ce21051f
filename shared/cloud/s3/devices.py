"""The devices' folders as S3 lists them: one listing for all partitions of a process that ask at about the same time.

Whoever asks gets a listing that began after it asked, so what was put before a hint is always seen. Those who ask while
one is under way share the next; between the beginnings of two lie at least `round_s`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from shared import clock
from shared.cloud.s3.keys import Keys
from shared.cloud.s3.listing import Listing

__all__ = ["AREAS", "Devices"]

AREAS: Final = ("Requests", "Responses")


class Devices:
    """Of one root."""

    def __init__(
        self,
        listing: Listing,
        keys: Keys,
        *,
        round_s: float,
        time: Callable[[], float] = clock.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._listing = listing
        self._keys = keys
        self._round_s = round_s
        self._time = time
        self._sleep = sleep
        self._began_at = float("-inf")
        self._running: asyncio.Task[Mapping[str, tuple[str, ...]]] | None = None
        self._next: asyncio.Task[Mapping[str, tuple[str, ...]]] | None = None
        self.rounds = 0

    async def folders(self) -> Mapping[str, tuple[str, ...]]:
        """By area, the names of the folders in it, in the order of keys."""
        if self._next is None:
            self._next = asyncio.create_task(self._round(self._running))
            self._next.add_done_callback(_heard)
        return await asyncio.shield(self._next)

    async def close(self) -> None:
        """Ask no more."""
        tasks = [task for task in (self._running, self._next) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _round(
        self, before: "asyncio.Task[Mapping[str, tuple[str, ...]]] | None"
    ) -> Mapping[str, tuple[str, ...]]:
        if before is not None:
            await asyncio.wait([before])
        await self._sleep(max(0.0, self._began_at + self._round_s - self._time()))
        # From here on it is too late to join: what is asked for from now on may not be in it any more.
        self._running, self._next = self._next, None
        self._began_at = self._time()
        self.rounds += 1
        listed = await asyncio.gather(*(self._area(area) for area in AREAS))
        return dict(zip(AREAS, listed, strict=True))

    async def _area(self, area: str) -> tuple[str, ...]:
        prefix = self._keys.folder((area,))
        return tuple(
            [
                folder[len(prefix) :].rstrip("/")
                async for page in self._listing.pages(prefix, delimiter="/")
                for folder in page.folders
                if folder.startswith(prefix)
            ]
        )


def _heard(task: "asyncio.Task[Mapping[str, tuple[str, ...]]]") -> None:
    """An error that nobody waited for to the end is no surprise of the loop's."""
    if not task.cancelled():
        task.exception()

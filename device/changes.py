"""One signal that something changed, for all tasks of a client.

Each waits for its own moment, and asks again after every change.
"""

import asyncio
from collections.abc import Callable

from shared.clock import monotonic

__all__ = ["Changes"]


class Changes:
    """`tell` is called after every change, for whoever is no task."""

    def __init__(self, tell: Callable[[], None], *, tick_max_s: float) -> None:
        self._tell = tell
        self._tick_max_s = tick_max_s
        self._next: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def notify(self) -> None:
        """Something changed: wake whoever waits for it."""
        if not self._next.done():
            self._next.set_result(None)
        self._next = asyncio.get_running_loop().create_future()
        self._tell()

    async def wait(self, timeout_s: float | None = None) -> None:
        """Return at the next change, or when the time is over. Who waits for what may never come sets a deadline."""
        await asyncio.wait(
            [self._next], timeout=timeout_s
        )  # by `wait`: a task that is cancelled leaves it to the others

    async def until(self, due: Callable[[], float | None]) -> None:
        """Return when `due()` is reached; it is asked again after every change, and after suspend, which stops
        timers.
        """
        while True:
            at, now = due(), monotonic()
            if at is not None and at <= now:
                return
            # Without a time only a change counts; with one, no timer is trusted for long.
            await self.wait(None if at is None or at == float("inf") else min(at - now, self._tick_max_s))

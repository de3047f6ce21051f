"""The transfers under way: how many there may be, how long each may take, and how they end when the process leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from files.problems import Problem
from shared.telemetry.metrics import FILES_TRANSFERS


class Transfers:
    """Admits at most `limit` at a time. Nobody waits for a place: one more is told to come back."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.leaving = False

    def __repr__(self) -> str:
        return f"Transfers({len(self._running)} of {self._limit}{', leaving' if self.leaving else ''})"

    def __len__(self) -> int:
        return len(self._running)

    @asynccontextmanager
    async def admit(self, seconds: float) -> AsyncIterator[None]:
        """A place for at most `seconds`. Raises Problem when there is none, or when the time is over."""
        if self.leaving:
            raise Problem("unavailable", "the gateway is being restarted; try again", reason="leaving")
        if len(self._running) >= self._limit:
            raise Problem("unavailable", "too many transfers at a time; try again", reason="busy")
        try:
            async with asyncio.timeout(seconds) as deadline:
                self._running.add(deadline)
                self._idle.clear()
                FILES_TRANSFERS.set(len(self._running))
                try:
                    yield
                finally:
                    self._running.discard(deadline)
                    FILES_TRANSFERS.set(len(self._running))
                    if not self._running:
                        self._idle.set()
        except TimeoutError:
            if self.leaving:
                raise Problem("unavailable", "the gateway is being restarted; try again", reason="leaving") from None
            raise Problem("request-timeout", f"the transfer took longer than {seconds:g} s") from None

    async def leave(self, grace_s: float) -> None:
        """Admit nothing more; let what runs end for `grace_s`, then end it. Returns when nothing runs any more."""
        self.leaving = True
        if await self._emptied(grace_s):
            return
        now = asyncio.get_running_loop().time()
        for deadline in self._running:
            if not deadline.expired():
                deadline.reschedule(now)
        await self._emptied(2.0)

    async def _emptied(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

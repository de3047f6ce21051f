"""Turns at something that only so many may use at once, given round those who wait, by key.

Of the jobs that a worker holds, those of one device may all be waiting for a process when another device's job comes.
That one does not stand behind them: the first that has nothing at work is next, else each key in turn. Who has nothing
at work is before who has, until that one's work ends: so nobody waits for ever.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["FairTurns"]


class FairTurns:
    """`turn(key)` waits for a turn and gives it back. Who waits is bounded by whoever calls."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._at_work: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def __repr__(self) -> str:
        waiting = {key: len(those) for key, those in self._waiting.items()}
        return f"FairTurns({self._free} free, at work {dict(self._at_work)}, waiting {waiting})"

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """One of the turns, as long as the block runs."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(key)
        self._at_work[key] += 1
        try:
            yield
        finally:
            self._at_work[key] -= 1
            if not self._at_work[key]:
                del self._at_work[key]
            self._give_on()

    async def _wait(self, key: str) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if key not in self._waiting:
            self._waiting[key] = deque()
        self._waiting[key].append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._give_on()  # it was given the turn and does not take it
            else:
                self._forget(key, mine)
            raise

    def _forget(self, key: str, one: "asyncio.Future[None]") -> None:
        those = self._waiting.get(key)
        if those is not None and one in those:
            those.remove(one)
            if not those:
                del self._waiting[key]

    def _give_on(self) -> None:
        while self._waiting:
            key = next((key for key in self._waiting if key not in self._at_work), next(iter(self._waiting)))
            those = self._waiting.pop(key)
            one = those.popleft()
            if those:
                self._waiting[key] = those
            if not one.done():
                one.set_result(None)
                return
        self._free += 1

"""How many bytes of parts a process holds at a time, whoever uploads and however many.

First come, first served. What is larger than the whole budget is let in when nothing else is held: it waits longest and
is never refused.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["ByteBudget"]


class ByteBudget:
    """At most `limit` bytes taken at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def __repr__(self) -> str:
        return f"ByteBudget({self._taken} of {self._limit} bytes, {len(self._waiting)} waiting)"

    async def take(self, size: int) -> None:
        """Wait until this many bytes may be held. `give_back` the same number."""
        if not self._waiting and self._fits(size):
            self._taken += size
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            # It may have been let in, in the very turn in which it was cancelled.
            if turn.done() and not turn.cancelled():
                self._taken -= size
            self._let_in()
            raise

    def give_back(self, size: int) -> None:
        """Bytes that are not held any more."""
        self._taken -= size
        self._let_in()

    @asynccontextmanager
    async def held(self, size: int) -> AsyncIterator[None]:
        """`take` and `give_back` around a block."""
        await self.take(size)
        try:
            yield
        finally:
            self.give_back(size)

    def _fits(self, size: int) -> bool:
        return self._taken == 0 or self._taken + size <= self._limit

    def _let_in(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.cancelled():
                if not self._fits(size):
                    return
                self._taken += size
                turn.set_result(None)
            self._waiting.popleft()

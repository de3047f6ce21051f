"""Connections that wait a moment for what the bus may still bring: all wait equally long, so one timer serves the
first of them.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from shared.clock import monotonic

__all__ = ["HoldQueue"]


class _Holding(Protocol):
    def on_hold_over(self) -> None: ...


class HoldQueue:
    """`add()` calls `on_hold_over()` after the hold time."""

    def __init__(self, hold_s: float, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = monotonic) -> None:
        self._hold_s = hold_s
        self._loop = loop
        self._clock = clock
        self._queue: deque[tuple[float, _Holding]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, holding: _Holding) -> None:
        """Each connection holds at most once at a time, which bounds this queue."""
        self._queue.append((self._clock() + self._hold_s, holding))
        if len(self._queue) == 1:
            self._loop.call_later(self._hold_s, self._fire)

    def _fire(self) -> None:
        queue, now = self._queue, self._clock()
        try:
            while queue and queue[0][0] <= now + 0.001:
                queue.popleft()[1].on_hold_over()
        finally:
            # Also when one of them fails: the others still wait for this timer.
            if queue:
                self._loop.call_later(max(0.0, queue[0][0] - now), self._fire)

"""A line of limited rate and some delay, and the bounded buffer before it.

The line is shared by everything that goes the same way, as a radio link is. What it cannot carry yet waits in a buffer
of so many bytes; a full buffer takes nothing more, so the sender's kernel feels it. A small buffer gives real
back-pressure, a large one is the modem that takes a megabyte and delivers it a minute later.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from shared.clock import monotonic

__all__ = ["SlowLink", "Transit"]

_SEGMENT: Final = 1400
_CHUNK: Final = 64 * 1024


class _Lane:
    """One way of the line: a byte passes only after all that came before it."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0

    def passes_at(self, size: int, now: float) -> float:
        """When the last of `size` bytes that arrive now has passed."""
        if self._bytes_per_s is None:
            return now
        self._free_at = max(now, self._free_at) + size / self._bytes_per_s
        return self._free_at


@dataclass(frozen=True, slots=True)
class _Shape:
    bytes_per_s: float | None
    delay_s: float
    buffer_bytes: int


class SlowLink:
    """`bytes_per_s` each way (None: as fast as it goes), `delay_s` each way, `buffer_bytes` before it, each way and
    connection."""

    def __init__(
        self, *, bytes_per_s: float | None = None, delay_s: float = 0.0, buffer_bytes: int = 16 * 1024
    ) -> None:
        self.shape = _Shape(bytes_per_s, delay_s, buffer_bytes)
        self._down = _Lane(bytes_per_s)
        self._up = _Lane(bytes_per_s)

    @property
    def chunk(self) -> int:
        """How much is read at once: a slow line takes segments, so that one connection does not hold it for long."""
        return _CHUNK if self.shape.bytes_per_s is None else min(_SEGMENT, self.shape.buffer_bytes)

    def transit(self, *, down: bool) -> "Transit":
        """The way through for one connection."""
        return Transit(self._down if down else self._up, self.shape)


class Transit:
    """One connection's bytes on the line, one way, in order."""

    def __init__(self, lane: _Lane, shape: _Shape) -> None:
        self._lane = lane
        self._shape = shape
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._ended = False
        self._changed = asyncio.Condition()

    async def put(self, data: bytes) -> None:
        """Give bytes to the line; waits while the buffer is full."""
        async with self._changed:
            while self._bytes >= self._shape.buffer_bytes:
                await self._changed.wait()
            due = self._lane.passes_at(len(data), monotonic()) + self._shape.delay_s
            self._waiting.append((due, data))
            self._bytes += len(data)
            self._changed.notify_all()

    async def end(self) -> None:
        """Nothing comes any more."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def take(self) -> bytes:
        """What comes out next, when it comes out; empty at the end."""
        async with self._changed:
            while not self._waiting:
                if self._ended:
                    return b""
                await self._changed.wait()
            due, data = self._waiting[0]
        await asyncio.sleep(max(0.0, due - monotonic()))
        async with self._changed:
            self._waiting.popleft()
            self._bytes -= len(data)
            self._changed.notify_all()
        return data

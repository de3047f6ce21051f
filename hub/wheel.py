"""One timer for all connections: items in buckets of time, taken out when their bucket is due.

Scheduling is an append, and a loop that ticks four times a second serves any number of sockets. An item is not taken
back; its owner finds that it is no longer wanted. What is large is scheduled by an `Appointment`, so that it is not
kept until it would have been due. Times are the caller's, so tests own them.
"""

from math import ceil
from typing import Generic, TypeVar

__all__ = ["Appointment", "Wheel"]

T = TypeVar("T")


class Appointment(Generic[T]):
    """What a wheel keeps of its item. The item cancels when it ends."""

    __slots__ = ("item",)

    def __init__(self, item: T) -> None:
        self.item: T | None = item

    def __repr__(self) -> str:
        return f"Appointment({self.item!r})"

    def cancel(self) -> None:
        """It need not be given back any more."""
        self.item = None


class Wheel(Generic[T]):
    """Items by due time, at `resolution_s`: never early, late by at most that."""

    def __init__(self, now: float, *, resolution_s: float = 0.25) -> None:
        self.now = now
        self._resolution_s = resolution_s
        self._buckets: dict[int, list[T]] = {}
        self._done = ceil(now / resolution_s) - 1

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def __repr__(self) -> str:
        return f"Wheel({len(self)} items in {len(self._buckets)} buckets)"

    def schedule(self, item: T, due: float) -> None:
        """Give the item back by `advance` once `due` has come."""
        tick = ceil(due / self._resolution_s)
        if tick <= self._done:
            tick = self._done + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = [item]
        else:
            bucket.append(item)

    def advance(self, now: float) -> list[T]:
        """Everything that is due, oldest first."""
        self.now = now
        last = int(now / self._resolution_s)
        if last - self._done > len(self._buckets):
            ticks = sorted(tick for tick in self._buckets if tick <= last)
        else:
            ticks = [tick for tick in range(self._done + 1, last + 1) if tick in self._buckets]
        self._done = max(self._done, last)
        return [item for tick in ticks for item in self._buckets.pop(tick)]

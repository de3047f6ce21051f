"""How long those wait who stand in a queue, and whether that has become a habit. Pure; time is the caller's.

A queue that empties now and then absorbs bursts and is good. One in which everybody waits longer than `target_s`, for
longer than `interval_s`, only makes all of them late: then something must be sent away (the idea of CoDel, RFC 8289).
Who waits still counts with the time that it has waited so far, so a queue that does not move at all is seen, too.
"""

from enum import IntEnum
from typing import Final

__all__ = ["Pressure", "QueueWatch"]

_MUCH_INTERVALS: Final = 3


class Pressure(IntEnum):
    """What should be sent away."""

    NONE = 0
    SOME = 1  # what can be lost most cheaply
    MUCH = 2  # everything that can be lost


class QueueWatch:
    """`joined()` and `left()` for each who waits; `pressure()` at any time. A target of 0: never any."""

    def __init__(self, *, target_s: float = 0.2, interval_s: float = 0.5) -> None:
        self._target_s = target_s
        self._interval_s = interval_s
        self._waiting: dict[int, float] = {}
        self._tickets = 0
        self._above_since: float | None = None

    def __repr__(self) -> str:
        return f"QueueWatch({len(self._waiting)} waiting, above {self._target_s:g} s since {self._above_since})"

    def joined(self, now: float) -> int:
        """Somebody waits from now on. A ticket for `left`."""
        self._tickets += 1
        self._waiting[self._tickets] = now
        return self._tickets

    def left(self, ticket: int, now: float) -> None:
        """It waits no longer, be it served or tired."""
        since = self._waiting.pop(ticket)
        if now - since < self._target_s:
            self._above_since = None
        elif self._above_since is None:
            self._above_since = now

    def pressure(self, now: float) -> Pressure:
        """What holds now."""
        if not self._target_s or not self._waiting:
            self._above_since = None
            return Pressure.NONE
        longest = now - next(iter(self._waiting.values()))  # who came first
        if self._above_since is None and longest >= self._target_s:
            self._above_since = now - (longest - self._target_s)
        if self._above_since is None or now - self._above_since < self._interval_s:
            return Pressure.NONE
        if now - self._above_since < _MUCH_INTERVALS * self._interval_s:
            return Pressure.SOME
        return Pressure.MUCH

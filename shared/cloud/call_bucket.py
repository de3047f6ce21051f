"""How often a provider may be asked [pure]: a bucket of units kept as one number, the moment at which it is full again.

A call reserves its turn: it is told how long to wait and then goes, so that callers come one after the other at the
pace of the limit. Being told to come back later is the same number: the bucket is empty until then. The same arithmetic
is in lua/call_bucket.lua, for what processes share.

Of a limit of 1,200 a minute the bucket holds 200 and is filled by 1,000 a minute: in no minute are there more than
1,200, whenever it begins.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["PAUSE_MAX_S", "CallBucket", "CallLimit"]

_BURST_PART: Final = 6
PAUSE_MAX_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class CallLimit:
    """`per_minute` units in any minute."""

    per_minute: float

    @property
    def burst(self) -> float:
        """Units at once after a quiet time."""
        return self.per_minute / _BURST_PART

    @property
    def unit_s(self) -> float:
        """Seconds in which one unit comes."""
        return 60.0 / (self.per_minute - self.burst)

    @property
    def size_s(self) -> float:
        """Seconds in which an empty bucket gets full."""
        return self.burst * self.unit_s

    def share(self, processes: int) -> "CallLimit":
        """What one of so many processes may do alone."""
        return CallLimit(self.per_minute / processes)


class CallBucket:
    """Starts full. Times are seconds of one clock that does not go back."""

    __slots__ = ("_full", "limit")

    def __init__(self, limit: CallLimit) -> None:
        self.limit = limit
        self._full = float("-inf")

    def __repr__(self) -> str:
        return f"CallBucket({self.limit.per_minute:g} a minute)"

    def reserve(self, now: float, cost: float, *, wait_max_s: float) -> tuple[bool, float]:
        """Whether a turn was taken, and the seconds until it comes; one that is too far off is not taken."""
        limit = self.limit
        cost = min(cost, limit.burst)
        full = max(now, min(self._full, now + limit.size_s + PAUSE_MAX_S)) + cost * limit.unit_s
        wait_s = max(0.0, full - limit.size_s - now)
        if wait_s > wait_max_s:
            return False, wait_s
        self._full = full
        return True, wait_s

    def pause(self, now: float, seconds: float) -> None:
        """Nothing for so long, and then at the pace of the limit."""
        self._full = max(self._full, now + min(seconds, PAUSE_MAX_S) + self.limit.size_s)

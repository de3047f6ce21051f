"""Whether a copy may be read from: closed it may, open it may not, half-open one read tries.

A probe that finds it late, away or no copy opens at once; good probes for `cool_s` make it half-open; the first read
that succeeds then closes it. Whoever reads asks `admit()` first and says with `on_read()` how it went. Lateness is
measured against a trail of where the primary stood when: the age of the oldest place that the copy lacks, by one clock
alone. Time is an argument.
"""

from collections import deque
from enum import Enum
from typing import Final, NamedTuple

__all__ = ["LagBreaker", "State", "Trail"]

_TRAIL_MAX: Final = 128


class State(Enum):
    """Of a breaker."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class LagBreaker:
    """Open until the first good probes."""

    def __init__(self, *, lag_max_s: float, cool_s: float, now: float) -> None:
        self._lag_max_s = lag_max_s
        self._cool_s = cool_s
        self._bad_at = now
        self._trying = False
        self.state = State.OPEN

    def __repr__(self) -> str:
        return f"LagBreaker({self.state.value})"

    def on_probe(self, lag_s: float | None, now: float) -> None:
        """What a probe found; None: the copy did not answer, or is no copy of this primary."""
        if lag_s is None or lag_s > self._lag_max_s:
            self._open(now)
        elif self.state is State.OPEN and now - self._bad_at >= self._cool_s:
            self.state, self._trying = State.HALF_OPEN, False

    def admit(self) -> bool:
        """Whether a read may go there now."""
        if self.state is State.HALF_OPEN and not self._trying:
            self._trying = True
            return True
        return self.state is State.CLOSED

    def on_read(self, went_well: bool | None, now: float) -> None:
        """How an admitted read ended; None: it says nothing about the copy."""
        if went_well is False:
            self._open(now)
        elif self.state is State.HALF_OPEN:
            self._trying = False
            if went_well:
                self.state = State.CLOSED

    def _open(self, now: float) -> None:
        self._bad_at = now
        self.state = State.OPEN


class _Place(NamedTuple):
    at: float
    lsn: int


class Trail:
    """Where the primary stood lately."""

    def __init__(self) -> None:
        self._places: deque[_Place] = deque(maxlen=_TRAIL_MAX)

    def __repr__(self) -> str:
        return f"Trail({len(self._places)} places)"

    def add(self, lsn: int, now: float) -> None:
        """The primary stood there."""
        if not self._places or lsn != self._places[-1].lsn:
            self._places.append(_Place(now, lsn))

    def clear(self) -> None:
        """Another primary: its places do not compare with those of the one before."""
        self._places.clear()

    def lag_s(self, replayed: int, now: float) -> float | None:
        """The age of the oldest place that is not replayed; 0 when all are, None when nothing is known."""
        if not self._places:
            return None
        missing = next((place for place in self._places if place.lsn > replayed), None)
        return 0.0 if missing is None else max(0.0, now - missing.at)

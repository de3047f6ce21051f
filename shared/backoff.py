"""How long to wait before trying again: exponential with full jitter, the first try included.

Full jitter (a uniform draw from zero to the bound) is what keeps a thousand devices that lost the same hub from coming
back in the same second; a fixed first delay would undo it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

__all__ = ["Backoff", "full_jitter"]


def full_jitter(attempt: int, rand: "Random", *, base: float = 0.5, cap: float = 20.0) -> float:
    """Seconds before try number `attempt` (from 0): uniform in [0, min(cap, base * 2**attempt)]."""
    return rand.uniform(0.0, min(cap, base * 2.0 ** min(attempt, 32)))


class Backoff:
    """Successive waits of one caller: `next()` draws the next, `reset()` after a success starts over."""

    def __init__(self, rand: "Random", *, base: float = 0.5, cap: float = 20.0) -> None:
        self._rand = rand
        self._base = base
        self._cap = cap
        self.attempt = 0

    def next(self) -> float:
        """Seconds to wait before the next try."""
        delay = full_jitter(self.attempt, self._rand, base=self._base, cap=self._cap)
        self.attempt += 1
        return delay

    def reset(self) -> None:
        """The last try worked."""
        self.attempt = 0

    def __repr__(self) -> str:
        return f"Backoff(attempt={self.attempt}, base={self._base}, cap={self._cap})"

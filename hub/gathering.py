"""How long questions to Postgres are left to gather before one statement asks them all. Pure.

The first waits a few milliseconds for others. While they come by the hundred each second, as after a power cut, the
pause doubles up to a tenth of a second: each statement then carries more of them, and a storm costs Postgres dozens of
statements instead of hundreds. What such a wave can bring in a second is bounded by the hub's core, so nobody waits
longer for it in the end. A batch that came slowly halves the pause, and one that came alone never waits for it.
"""

from math import inf
from typing import Final

__all__ = ["Gathering"]

LONGEST_S: Final = 0.1
WAVE_PER_S: Final = 100.0


class Gathering:
    """`delay()` says how long to wait before the next batch is taken, `took()` hears how large it was."""

    def __init__(self, shortest_s: float, longest_s: float = LONGEST_S) -> None:
        self._shortest_s = shortest_s
        self._longest_s = max(shortest_s, longest_s)
        self._pause_s = shortest_s
        self._taken_at = -inf

    def __repr__(self) -> str:
        return f"Gathering(every {self._pause_s * 1000:g} ms)"

    def delay(self, now: float) -> float:
        """From the first question of a batch on: never shorter than a few milliseconds, however long it was quiet."""
        return min(max(self._shortest_s, self._taken_at + self._pause_s - now), self._pause_s)

    def took(self, count: int, now: float) -> None:
        """A batch was taken."""
        wave = count >= max(2, WAVE_PER_S * (now - self._taken_at))
        self._pause_s = min(2 * self._pause_s, self._longest_s) if wave else max(self._pause_s / 2, self._shortest_s)
        self._taken_at = now

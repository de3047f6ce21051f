"""Quantiles of a stream in bounded memory, with an error that is known and not hoped for. [pure]

Values are kept in levels of `capacity`; a value at level h stands for 2**h of them. A full level is sorted and every
other value moves up one level, beginning with the first and the second by turns. Each such move can shift a rank by
at most 2**h, so the sum of those shifts, divided by the count, bounds the error of every rank, and it is reported
with the answer. Nothing is random: the same stream gives the same summary, byte for byte. Until the first level is
full the answers are exact. (The scheme is Munro and Paterson's, 1980, with Manku, Rajagopalan and Lindsay's account
of its error, 1998.)
"""

from array import array
from collections.abc import Sequence

__all__ = ["QuantileSketch"]


class QuantileSketch:
    """Add numbers (finite), then ask for quantiles. Memory: capacity × 8 bytes × log2(count / capacity)."""

    __slots__ = ("_capacity", "_levels", "_odd", "_shift", "count")

    def __init__(self, capacity: int = 1024) -> None:
        if capacity < 8 or capacity % 2:
            raise ValueError("capacity must be an even number from 8")
        self._capacity = capacity
        self._levels: list[array[float]] = [array("d")]
        self._odd: list[bool] = [False]
        self._shift = 0
        self.count = 0

    def __repr__(self) -> str:
        levels = [len(level) for level in self._levels]
        return f"QuantileSketch(count={self.count}, levels={levels}, rank_error={self.rank_error:.4f})"

    def add(self, value: float) -> None:
        """Take one number in."""
        self.count += 1
        level = self._levels[0]
        level.append(value)
        if len(level) >= self._capacity:
            self._compact(0)

    @property
    def rank_error(self) -> float:
        """The most by which the rank of an answer differs from the rank asked for, as a fraction of the count."""
        coarsest = (1 << len(self._levels) - 1) - 1  # an answer of weight w covers w ranks
        return min(1.0, (self._shift + coarsest) / self.count) if self.count else 0.0

    def quantiles(self, fractions: Sequence[float]) -> list[float]:
        """For each fraction (0 to 1, rising) a value of the stream whose rank is within `rank_error` of it."""
        if not self.count:
            raise ValueError("no value was added")
        weighted = sorted((value, 1 << height) for height, level in enumerate(self._levels) for value in level)
        total = sum(weight for _, weight in weighted)
        answers: list[float] = []
        passed, at = 0, 0
        for fraction in fractions:
            # The smallest value with at least this share of the stream at or below it.
            wanted = fraction * total
            while at < len(weighted) - 1 and passed + weighted[at][1] < wanted:
                passed += weighted[at][1]
                at += 1
            answers.append(weighted[at][0])
        return answers

    def _compact(self, height: int) -> None:
        level = sorted(self._levels[height])
        if height + 1 == len(self._levels):
            self._levels.append(array("d"))
            self._odd.append(False)
        above = self._levels[height + 1]
        above.extend(level[1::2] if self._odd[height] else level[0::2])
        self._odd[height] = not self._odd[height]
        self._levels[height] = array("d")
        self._shift += 1 << height
        if len(above) >= self._capacity:
            self._compact(height + 1)

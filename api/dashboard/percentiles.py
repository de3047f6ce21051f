"""Percentiles of the last minute, from histograms that are counted since each process began [pure].

A hub tells how many events took at most so long, since its start. The difference between what it said a minute ago and
now is the minute's; those of all hubs add up. Within a bucket values are taken to lie evenly, as everybody does.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

__all__ = ["MinuteOfStages", "Told", "quantile"]

WINDOW_S: Final = 60.0


class Told(NamedTuple):
    """What one run of a hub says: the upper bounds of all buckets but the last, and each stage's counts up to them."""

    bounds: Sequence[float]
    stages: Mapping[str, Sequence[int]]


class MinuteOfStages:
    """`add` what each run of a hub says; `quantiles` gives each stage's, of what came within the window."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._told: dict[str, deque[tuple[float, Told]]] = {}

    def __repr__(self) -> str:
        return f"MinuteOfStages({len(self._told)} runs)"

    def add(self, run: str, told: Told, now: float) -> None:
        """The counts of one run as they are now."""
        kept = self._told.setdefault(run, deque())
        kept.append((now, told))
        # One older than the window stays: it is what the rest is compared with.
        while len(kept) > 1 and kept[1][0] <= now - self._window_s:
            kept.popleft()

    def keep(self, runs: frozenset[str]) -> None:
        """Forget the others."""
        self._told = {run: told for run, told in self._told.items() if run in runs}

    def quantiles(self, at: Sequence[float]) -> dict[str, tuple[int, list[float | None]]]:
        """For each stage: how many were timed, and the seconds within which these parts of them were done."""
        sums: dict[str, list[int]] = {}
        bounds: Sequence[float] = ()
        for kept in self._told.values():
            if len(kept) < 2 or not (first := kept[0][1]).bounds:
                continue
            last = kept[-1][1]
            bounds = last.bounds
            for stage, counts in last.stages.items():
                before = first.stages.get(stage, [0] * len(counts))
                grown = [max(0, now - then) for now, then in zip(counts, before, strict=False)]
                held = sums.setdefault(stage, [0] * len(grown))
                sums[stage] = [one + other for one, other in zip(held, grown, strict=False)]
        return {
            stage: (counts[-1] if counts else 0, [quantile(bounds, counts, part) for part in at])
            for stage, counts in sums.items()
        }


def quantile(bounds: Sequence[float], counts: Sequence[int], part: float) -> float | None:
    """The value that this part of all is not above; None of nothing. `counts` are cumulative and end with all."""
    if not counts or counts[-1] <= 0:
        return None
    rank = part * counts[-1]
    for number, count in enumerate(counts):
        if count >= rank:
            if number >= len(bounds):
                return bounds[-1] if bounds else None
            low = bounds[number - 1] if number else 0.0
            below = counts[number - 1] if number else 0
            return low + (bounds[number] - low) * ((rank - below) / max(count - below, 1))
    raise AssertionError("the last count is all")

"""Where a new object goes: by weight among the stores that are well, else to the next ones [pure].

Weights are shares of new objects; what a store that is not well would get is shared out among the others by theirs. A
weight of 0 takes a store only when no other is left. A choice is no record: that is the row of what was placed, and
what lies somewhere stays there.
"""

from collections.abc import Collection, Sequence

from shared.cloud.breaker import Breaker, BreakerRules, State

__all__ = ["Placement"]


class Placement:
    """Of one process. `now` is monotonic seconds, `roll` is uniform in [0, 1)."""

    def __init__(
        self,
        weights: Sequence[tuple[str, float]],
        *,
        rules: BreakerRules = BreakerRules(),  # noqa: B008 - a frozen value
        spread: float = 0.5,
    ) -> None:
        if not weights or min(weight for _, weight in weights) < 0 or not sum(weight for _, weight in weights) > 0:
            raise ValueError("a store needs a weight above 0")
        self._weights = dict(weights)
        self._breakers = {store: Breaker(rules, spread=spread) for store in self._weights}

    def __repr__(self) -> str:
        return f"Placement({self._breakers!r})"

    def choose(self, *, roll: float, now: float, without: Collection[str] = ()) -> str | None:
        """A store among those that are well, leaving some out; None when none is. Its outcome is to be told."""
        well = {
            store: weight
            for store, weight in self._weights.items()
            if store not in without and self._breakers[store].admits(now)
        }
        chosen = _drawn(well, roll)
        if chosen is not None:
            self._breakers[chosen].sent(now)
        return chosen

    def succeeded(self, store: str, *, seconds: float, now: float) -> None:
        """The store did what it was asked, in this time."""
        if (breaker := self._breakers.get(store)) is not None:
            breaker.succeeded(now, seconds)

    def failed(self, store: str, *, now: float, retry_after_s: float | None = None) -> None:
        """The store did not; or said when to come back."""
        if (breaker := self._breakers.get(store)) is not None:
            breaker.failed(now, retry_after_s)

    def states(self, now: float) -> dict[str, State]:
        """How each store is, for who looks."""
        return {store: breaker.state(now) for store, breaker in self._breakers.items()}


def _drawn(weights: dict[str, float], roll: float) -> str | None:
    total = sum(weights.values())
    if total <= 0:
        return next(iter(weights), None)
    left = roll * total
    for store, weight in weights.items():
        if left < weight:
            return store
        left -= weight
    # What rounding left over belongs to the last that has any.
    return next(store for store in reversed(weights) if weights[store] > 0)

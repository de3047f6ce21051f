"""Which store a response goes to, and which one instead when that does not take it.

A response is placed when its job is first claimed and stays there: later attempts find what earlier ones wrote. Only a
store that fails while it is written to loses it to the next one. What calls there came to is told to the placement,
which sends new responses elsewhere while a store is down.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from random import Random
from typing import Protocol

from shared.clock import monotonic
from shared.cloud.errors import Misconfigured, RateLimited, StoreBusy, StoreUnavailable

__all__ = ["Homes", "Placing"]


class Placing(Protocol):
    """What is needed of a placement; `now` is monotonic, `roll` in [0, 1)."""

    def choose(self, *, roll: float, now: float, without: Collection[str] = ()) -> str | None:
        """A store by its weight among those that are well, leaving some out; None when nothing is left."""
        ...

    def succeeded(self, store: str, *, seconds: float, now: float) -> None:
        """The store did what it was asked, in this time."""
        ...

    def failed(self, store: str, *, now: float, retry_after_s: float | None = None) -> None:
        """The store did not."""
        ...

    def states(self, now: float) -> Mapping[str, str]:
        """How each store is, for who looks."""
        ...


class Homes:
    """The stores of responses, as far as this worker knows how they are."""

    def __init__(self, placing: Placing, *, first: str, rand: Random) -> None:
        """`first` is taken when none of them seems well: somebody has to try."""
        self._placing = placing
        self._first = first
        self._rand = rand

    def __repr__(self) -> str:
        return f"Homes({self._placing!r})"

    def choose(self) -> str:
        """Where a new response goes."""
        return self._placing.choose(roll=self._rand.random(), now=monotonic()) or self._first

    def instead_of(self, tried: Collection[str]) -> str | None:
        """Where a response goes that none of these took; None when there is nowhere else."""
        return self._placing.choose(roll=self._rand.random(), now=monotonic(), without=tried)

    def states(self) -> Mapping[str, str]:
        """How each store is, for the operations port."""
        return self._placing.states(monotonic())

    @contextlib.contextmanager
    def watched(self, store: str) -> Iterator[None]:
        """Around one piece of work at a store: how it ends says how the store is."""
        began = monotonic()
        try:
            yield
        except StoreBusy:  # our own threads, not the store
            raise
        except (StoreUnavailable, Misconfigured) as error:
            # One whose credentials ran out takes as little as one that is down.
            retry_after_s = error.retry_after_s if isinstance(error, RateLimited) else None
            self._placing.failed(store, now=monotonic(), retry_after_s=retry_after_s)
            raise
        now = monotonic()
        self._placing.succeeded(store, seconds=now - began, now=now)

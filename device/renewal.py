"""When the credential of the live socket is renewed: some time before it ends, so that the socket need not. Pure.

The time before the end is drawn anew for each, or a fleet whose tokens were made together would ask together. A try
that brings nothing (the source is away, has nothing newer, the hub refuses what it brought) is followed by another one
after a backoff, while the old credential goes on. A credential that is over by our clock, on a socket that the hub
has just welcomed, says that our clock is wrong: then the hub's close (4200) is what renews.
"""

from typing import TYPE_CHECKING

from shared.backoff import Backoff

if TYPE_CHECKING:
    from random import Random

__all__ = ["Renewal"]

_PART_OF_LIFE = 0.25  # a short-lived token is renewed in the last quarter of what is left


class Renewal:
    """`now` is the monotonic clock, `wall` the one that tokens speak of."""

    def __init__(self, rand: "Random", *, before_s: float, retry_base_s: float, retry_cap_s: float) -> None:
        self._rand = rand
        self._before_s = before_s
        self._retry_s = retry_base_s
        self._backoff = Backoff(rand, base=retry_base_s, cap=retry_cap_s)
        self._margin_s = 0.0
        self._not_before = float("-inf")
        self.expires_at: float | None = None

    def on_credential(self, expires_at: float | None, wall: float) -> None:
        """The live socket holds a credential that ends then."""
        self._backoff.reset()
        self._not_before = float("-inf")
        left = 0.0 if expires_at is None else expires_at - wall
        self.expires_at = expires_at if left > 0 else None
        self._margin_s = min(self._before_s, left * _PART_OF_LIFE) * self._rand.uniform(0.75, 1.25)

    def on_failed(self, now: float) -> None:
        """A try brought nothing, or is not answered yet."""
        self._not_before = now + self._retry_s + self._backoff.next()

    def due(self, now: float, wall: float) -> float | None:
        """When to ask for a newer one, by the monotonic clock; None when that cannot be known."""
        if self.expires_at is None:
            return None
        return max(now + self.expires_at - self._margin_s - wall, self._not_before)

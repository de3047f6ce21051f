"""Every call of a process waits when S3 said that it was asked too much.

S3 counts by what keys begin with and divides what is busy by itself, so there is no budget to share with other
processes: each hears it, and each waits, a little longer every time until it is left in peace.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any, Final

from shared import clock
from shared.cloud.errors import RateLimited
from shared.telemetry.metrics import CLOUD_BUDGET_WAIT_SECONDS

__all__ = ["Pause"]

_FIRST_S: Final = 0.5
_MOST_S: Final = 20.0
_CALM_S: Final = 30.0


class Pause:
    """A `Gate` for http.py. A wait longer than `wait_max_s` is refused at once."""

    def __init__(
        self,
        store: str,
        *,
        wait_max_s: float = 30.0,
        rand: Random | None = None,
        time: Callable[[], float] = clock.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._wait_max_s = wait_max_s
        self._rand = rand or Random()  # noqa: S311 - jitter
        self._time = time
        self._sleep = sleep
        self._next_s = _FIRST_S
        self._until = float("-inf")

    def __repr__(self) -> str:
        return f"Pause({self._store}, {self.left_s:.1f} s)"

    @property
    def left_s(self) -> float:
        """How long it lasts."""
        return max(0.0, self._until - self._time())

    async def admit(self, cost: float) -> None:
        """See http.Gate."""
        if self.left_s <= 0:
            return
        if self.left_s > self._wait_max_s:
            raise RateLimited(f"{self._store}: asked too much", retry_after_s=self.left_s)
        began = self._time()
        while self.left_s > 0:
            # Not all in the same moment.
            await self._sleep(self.left_s + self._rand.uniform(0.0, 0.2))
        CLOUD_BUDGET_WAIT_SECONDS.labels(self._store).observe(self._time() - began)

    async def heard(self, status: int, headers: Mapping[str, str], retry_after_s: float | None) -> None:
        """See http.Gate."""
        now = self._time()
        if status != 429:
            if now > self._until + _CALM_S:
                self._next_s = _FIRST_S
            return
        if now < self._until and retry_after_s is None:
            # One of many that were under way when the first was refused.
            return
        self._until = max(self._until, now + (self._next_s if retry_after_s is None else retry_after_s))
        self._next_s = min(self._next_s * 2.0, _MOST_S)

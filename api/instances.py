"""How many API processes live, this one included: a heartbeat in Postgres, and the number that it answers.

The number is only needed while Redis is away, so it may be some seconds old; while Postgres is away, the last
one holds.
"""

import asyncio
from random import Random

import structlog

from shared.store import api_instances
from shared.store.errors import StoreError
from shared.store.pool import Pool
from shared.telemetry.metrics import API_INSTANCES

__all__ = ["Instances"]

_SILENCE_PERIODS = 3.5
_LEAVE_S = 1.0

_log = structlog.get_logger(__name__)


class Instances:
    """`run()` is the heartbeat; `live` is the number; `leave()` ends the membership."""

    def __init__(self, pool: Pool, *, name: str, period_s: float, rand: Random) -> None:
        self._pool = pool
        self._name = name
        self._period_s = period_s
        self._rand = rand
        self.live = 1

    def __repr__(self) -> str:
        return f"Instances({self._name}, {self.live} live)"

    async def run(self) -> None:
        """Say so again and again until cancelled."""
        while True:
            try:
                self.live = max(
                    1,
                    await api_instances.heartbeat(self._pool, self._name, silence_s=self._period_s * _SILENCE_PERIODS),
                )
                API_INSTANCES.set(self.live)
            except StoreError as error:
                _log.debug("heartbeat failed", detail=str(error))
            await asyncio.sleep(self._period_s * self._rand.uniform(0.8, 1.2))

    async def leave(self) -> None:
        """The others share among themselves. A row that stays behind ends by silence."""
        try:
            async with asyncio.timeout(_LEAVE_S):
                await api_instances.leave(self._pool, self._name)
        except (StoreError, TimeoutError):
            pass

"""Whether the database answers: waited for at the start, looked at now and then afterwards.

The API starts before Postgres is there and outlives its restarts. While it cannot read, it is not ready, and what
still comes is answered with 503.
"""

import asyncio
from random import Random
from typing import Final

import structlog

from api.settings import Settings
from shared.backoff import Backoff
from shared.lifecycle import Stop
from shared.store import hubs, operations, photos
from shared.store.errors import StoreError
from shared.store.log import APPEND_STATEMENTS
from shared.store.pool import Pool

__all__ = ["PREPARED", "StoreProbe", "open_pool_when_there"]

PREPARED: Final = (*APPEND_STATEMENTS, *operations.TRANSACTION_STATEMENTS, *photos.TRANSACTION_STATEMENTS)
"""What each connection knows before its first transaction."""

_log = structlog.get_logger(__name__)


class StoreProbe:
    """`problems` are why the process is not ready; none, and it is."""

    def __init__(self) -> None:
        self.problems: list[str] = ["starting"]
        self._leaving = False

    def saw(self, problem: str | None) -> None:
        """The database answered (None), or did not. What is said at leaving stays."""
        if not self._leaving:
            self.problems = [] if problem is None else [problem]

    def leave(self) -> None:
        """Not ready from now on."""
        self._leaving = True
        self.problems = ["leaving"]

    async def run(self, pool: Pool, period_s: float, rand: Random) -> None:
        """Look every `period_s`, jittered, until cancelled."""
        while True:
            try:
                await hubs.live(pool)
                self.saw(None)
            except StoreError as error:
                if not self.problems:
                    _log.warning("store does not answer", detail=str(error))
                self.saw("the database does not answer")
            await asyncio.sleep(period_s * rand.uniform(0.8, 1.2))


async def open_pool_when_there(settings: Settings, stop: Stop, probe: StoreProbe, rand: Random) -> Pool | None:
    """The pool, however long the database takes to come. None when the process was asked to stop meanwhile."""
    backoff = Backoff(rand, base=0.2, cap=3.0)
    while not stop.requested:
        try:
            pool = await settings.open_pool("api", prepared=PREPARED)
        except StoreError as error:
            _log.warning("waiting for the database", detail=str(error))
            probe.saw("the database is not there yet")
            await stop.wait_for(backoff.next())
        else:
            return pool
    return None

"""Fires schedules that are due. Every worker looks, all the time; that each firing happens once is Postgres' doing.

So none has to be alive but one, and a worker that dies leaves nothing behind. One that cannot be fired here, for its
rule or for what Postgres says to its jobs, is left to others and said once, and holds up none after it.
"""

import asyncio
from collections.abc import Callable
from random import Random

import structlog

from shared.clock import wall
from shared.job_kinds import JobKinds
from shared.protocol.ids import time_ordered_uuid
from shared.store import schedules
from shared.store.errors import StoreBusy, StoreError
from shared.store.pool import Pool
from shared.store.schedules import Due
from shared.telemetry.metrics import WORKER_SCHEDULED

__all__ = ["ScheduleLoop"]

_log = structlog.get_logger(__name__)


class ScheduleLoop:
    """`run()` looks about every `period_s` until cancelled; `fired` is called after a commit."""

    def __init__(
        self,
        pool: Pool,
        kinds: JobKinds,
        *,
        store: str,
        fired: Callable[[], None],
        rand: Random,
        period_s: float = 1.0,
    ) -> None:
        self._pool = pool
        self._kinds = kinds
        self._store = store
        self._fired = fired
        self._rand = rand
        self._period_s = period_s
        self._refused: set[str] = set()

    def __repr__(self) -> str:
        return f"ScheduleLoop(every {self._period_s:g} s)"

    async def run(self) -> None:
        """Fire what is due, now and again. Postgres being away only means later."""
        while True:
            await asyncio.sleep(self._period_s * self._rand.uniform(0.8, 1.2))
            try:
                await self.once()
            except StoreError as error:
                _log.warning("schedules put off", detail=str(error))

    async def once(self) -> int:
        """Fire what is due now. Returns how many firings were this worker's."""
        count = 0
        for one in await schedules.due(self._pool):
            name = one.schedule.name
            try:
                count += await self._fire(one)
            except StoreError as error:
                if not isinstance(error, StoreBusy):
                    raise  # then none can be fired
                self._refuse(name, error)
            except Exception as error:  # noqa: BLE001 - of one schedule: the others and the worker go on
                self._refuse(name, error)
            else:
                self._refused.discard(name)
        return count

    def _refuse(self, name: str, error: Exception) -> None:
        if name not in self._refused and len(self._refused) < schedules.SCHEDULES_MAX:
            self._refused.add(name)
            _log.error("schedule cannot be fired here", schedule=name, problem=f"{type(error).__name__}: {error}"[:300])

    async def _fire(self, due: Due) -> bool:
        one = due.schedule
        next_at = one.rule.next_after(due.now, one.next_at)
        made = await schedules.fire(
            self._pool,
            one,
            next_at,
            job_ids=[time_ordered_uuid(wall(), self._rand) for _ in one.device_ids],
            queue=self._kinds.queue_of(one.kind),
            store=self._store,
            priority=self._kinds.priority_of(one.kind) if one.priority is None else one.priority,
        )
        if made is None:
            return False
        WORKER_SCHEDULED.inc(made)
        late_s = round((due.now - one.next_at).total_seconds(), 3)
        _log.info("schedule fired", schedule=one.name, jobs=made, late_s=late_s, next_at=next_at.isoformat())
        self._fired()
        return True

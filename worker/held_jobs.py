"""The jobs this worker holds, and the heartbeat that keeps them, all in one statement.

A worker trusts a lease for two thirds of its length, counted from the moment before the last renewal that succeeded:
so it stops by itself before another may begin, also when Postgres cannot be asked or this process was stopped for a
while. The trust only saves work. What decides is the lease token, in Postgres, when the job is ended.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from uuid import UUID

import structlog

from shared.clock import monotonic
from shared.store import jobs
from shared.store.errors import StoreError
from shared.store.jobs import Claimed
from shared.store.pool import Pool
from shared.telemetry.metrics import WORKER_CANCELLED, WORKER_LEASES_LOST, WORKER_RUNNING
from worker.errors import LeaseLost

__all__ = ["HeldJobs"]

_log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class _Held:
    job: Claimed
    queue: str
    claimed_at: float
    trusted_until: float
    task: "asyncio.Task[None] | None" = None
    lost: bool = False
    ends: bool = False


class HeldJobs:
    """`add` after a claim, `remove` after the end; `run()` is the heartbeat."""

    def __init__(
        self,
        pool: Pool,
        *,
        lease_s: float,
        heartbeat_s: float,
        rand: Random,
        look_s: float = 1.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`look_s` is how often it asks whether jobs were cancelled."""
        self._pool = pool
        self._lease_s = lease_s
        self._trust_s = lease_s * 2 / 3
        self._heartbeat_s = heartbeat_s
        self._look_s = look_s
        self._rand = rand
        self._clock = clock
        self._held: dict[UUID, _Held] = {}
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"HeldJobs({len(self._held)} held)"

    def __len__(self) -> int:
        return len(self._held)

    @property
    def held(self) -> list[Claimed]:
        """The jobs that are held, lost ones apart."""
        return [one.job for one in self._held.values() if not one.lost]

    def add(self, job: Claimed, queue: str, *, claimed_at: float, task: "asyncio.Task[None]") -> None:
        """A job claimed by a statement that was sent at `claimed_at` (this object's clock)."""
        self._held[job.job_id] = _Held(job, queue, claimed_at, claimed_at + self._trust_s, task)
        WORKER_RUNNING.set(len(self._held))

    def remove(self, job: Claimed) -> None:
        """The job ended, was given back or is lost."""
        one = self._held.get(job.job_id)
        if one is not None and one.job.lease_token == job.lease_token:
            del self._held[job.job_id]
            WORKER_RUNNING.set(len(self._held))
            self._changed.set()

    def ends(self, job: Claimed) -> None:
        """Its end is being written. That statement says whose the job was; the heartbeat, which may find the job ended
        before its work here is over, says nothing any more."""
        one = self._held.get(job.job_id)
        if one is not None and one.job.lease_token == job.lease_token:
            one.ends = True

    def seconds_since_due(self, job: Claimed) -> float:
        """How long ago this attempt of the job was due: it waited, was claimed, and is at work since."""
        one = self._held.get(job.job_id)
        return job.waited_s + (self._clock() - one.claimed_at if one is not None else 0.0)

    def is_lost(self, job: Claimed) -> bool:
        """Whether the heartbeat found the job to be another's."""
        one = self._held.get(job.job_id)
        return one is None or one.job.lease_token != job.lease_token or one.lost

    def still_ours(self, job: Claimed) -> None:
        """Raises LeaseLost when the job is lost, or may be by now."""
        if self.is_lost(job):
            raise LeaseLost
        if self._clock() >= self._held[job.job_id].trusted_until:
            raise LeaseLost("the lease could not be renewed in time")

    async def wait_below(self, count: int) -> None:
        """Wait until fewer than `count` jobs are held."""
        while len(self._held) >= count:
            self._changed.clear()
            await self._changed.wait()

    async def run(self) -> None:
        """Renew until cancelled, after a failure sooner; and look for cancelled jobs in between."""
        renew_at = monotonic() + self._rand.uniform(0.5, 1.0) * self._heartbeat_s
        while True:
            left = renew_at - monotonic()
            if left > self._look_s:
                await asyncio.sleep(self._look_s * self._rand.uniform(0.8, 1.0))
                await self.look()
                continue
            await asyncio.sleep(left)
            renewed = await self.renew()
            delay = self._heartbeat_s * (self._rand.uniform(0.9, 1.0) if renewed else self._rand.uniform(0.1, 0.2))
            renew_at = monotonic() + delay

    async def look(self) -> None:
        """End the work on jobs that were cancelled. What else may have become of a job, the renewal finds."""
        try:
            cancelled = await jobs.cancelled(self._pool, [job.job_id for job in self.held])
        except StoreError:
            return  # the renewal says it
        for job_id in cancelled:
            one = self._held.get(job_id)
            if one is not None and not one.lost:
                WORKER_CANCELLED.labels(one.queue).inc()
                _log.info("job cancelled: its handler is stopped", job_id=str(job_id))
                self._stop(one)

    async def renew(self) -> bool:
        """Renew all at once and cancel the work on what is lost. False when Postgres did not answer."""
        asked = [one for one in self._held.values() if not one.lost]
        if not asked:
            return True
        began = self._clock()
        try:
            kept = await jobs.renew(
                self._pool, [(one.job.job_id, one.job.lease_token) for one in asked], lease_s=self._lease_s
            )
        except StoreError as error:
            _log.warning("leases of jobs not renewed", jobs=len(asked), error=str(error))
            return False
        for one in asked:
            if one.job.job_id in kept:
                one.trusted_until = max(one.trusted_until, began + self._trust_s)
            elif self._held.get(one.job.job_id) is one and not one.ends:
                self._lose(one)
        return True

    def _lose(self, one: _Held) -> None:
        WORKER_LEASES_LOST.labels(one.queue).inc()
        _log.warning("lease of job lost", job_id=str(one.job.job_id), lease_token=one.job.lease_token)
        self._stop(one)

    def _stop(self, one: _Held) -> None:
        one.lost = True
        if one.task is not None:
            one.task.cancel()

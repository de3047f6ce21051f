"""Claims jobs while there is room for them, and stops in an order that loses none.

A hint makes a claim come at once; polling, which never stops, makes it come anyway. A claim that was filled is
followed by another as soon as there is room; one that was not waits for a hint or for the next poll. Hints carry
nothing that is trusted: what is due is asked of Postgres.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from random import Random
from typing import Final

import structlog

from shared.bus.hints import HintWaits
from shared.clock import monotonic, wall
from shared.protocol.ids import time_ordered_uuid
from shared.store import jobs
from shared.store.errors import StoreError
from shared.store.jobs import Claimed
from shared.store.pool import Pool
from shared.store.responses import Home, Request, folder_of
from shared.store.turns import Turns
from shared.telemetry.metrics import WORKER_CLAIMED, WORKER_QUEUE_SECONDS, WORKER_QUEUED, WORKER_QUEUED_OLDEST_SECONDS
from worker.held_jobs import HeldJobs
from worker.homes import Homes
from worker.job_runner import JobRunner
from worker.pool import HandlerPool

__all__ = ["JobLoop", "LoopLimits"]

_log = structlog.get_logger(__name__)

_CLAIM_IN_FLIGHT_S: Final = 3.0
_HINTS_WAIT_S: Final = 2.0
# Another worker's claim of the same device's jobs is over by then.
_RIVALS_S: Final = (0.005, 0.02)
# A worker that is full for longer leaves hints to the others.
_FULL_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """How many jobs at once, how long a lease, how often to ask. Polls come after `poll_s` to twice that.

    Of one device, `device_running` jobs of a queue run at once, by all workers; 0 is no bound.
    `claim` is how many one claim takes at most.
    """

    concurrency: int
    lease_s: float
    ttl_s: float
    poll_s: float
    depth_s: float = 10.0
    device_running: int = 0
    claim: int = 50


class _Then(IntEnum):
    """What to do after a round of claims."""

    LOOK_NOW = 0
    LOOK_SOON = 1  # another worker claims what is left
    LOOK_LATER = 2  # with the next hint or poll


class JobLoop:
    """`run()` claims until `stop_claiming()`; `finish()` then ends what is at work."""

    def __init__(
        self,
        *,
        pool: Pool,
        queues: Sequence[str],
        worker: str,
        runner: JobRunner,
        held: HeldJobs,
        handlers: HandlerPool,
        limits: LoopLimits,
        homes: Homes,
        rand: Random,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._pool = pool
        self._queues = list(queues)
        self._turns = {queue: Turns() for queue in queues}
        self._worker = worker
        self._runner = runner
        self._held = held
        self._handlers = handlers
        self._limits = limits
        self._homes = homes
        self._rand = rand
        self._clock = clock
        self._wake = asyncio.Event()
        self._asked = asyncio.Event()
        self._stopping = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.database_problem: str | None = "the database was not asked for jobs yet"

    def __repr__(self) -> str:
        return f"JobLoop({self._worker}, {', '.join(self._queues)}, {self._held!r})"

    def wake(self) -> None:
        """There may be a job: look now."""
        self._wake.set()

    async def run(self) -> None:
        """Claim and start jobs until told to stop."""
        while not self._stopping.is_set():
            await self._room()
            self._wake.clear()
            async with self._claiming:
                then = _Then.LOOK_LATER if self._stopping.is_set() else await self._claim_all()
            self._asked.set()
            if then is _Then.LOOK_SOON:
                await _wait(self._stopping, self._rand.uniform(*_RIVALS_S))
            elif then is _Then.LOOK_LATER:
                await _wait(self._wake, self._rand.uniform(1.0, 2.0) * self._limits.poll_s)

    async def listen(self, hints: HintWaits) -> None:
        """Turn hints into claims until the stop. A worker without room leaves them to the others, and so does one that
        stops: what it was given then is not said to be used, and goes to them as well."""
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(_FULL_S):
                    await self._room()
            except TimeoutError:
                await hints.rest()
                await self._room()
            if await hints.wait(_HINTS_WAIT_S) and not self._stopping.is_set():
                self._asked.clear()
                self.wake()
                # Asking for the next hints says that these were used: then Postgres should have been asked.
                await _wait(self._asked, _CLAIM_IN_FLIGHT_S)
        await hints.close()

    async def watch_depth(self) -> None:
        """Measure what waits in the queues, until cancelled. What cannot be measured is not said: whoever scales by it
        must not take an old number for a new one."""
        while True:
            for queue in list(self._queues):
                try:
                    depth = await jobs.depth(self._pool, queue)
                except StoreError:
                    for gauge in (WORKER_QUEUED, WORKER_QUEUED_OLDEST_SECONDS):
                        with suppress(KeyError):
                            gauge.remove(queue)
                else:
                    WORKER_QUEUED.labels(queue).set(depth.waiting)
                    WORKER_QUEUED_OLDEST_SECONDS.labels(queue).set(depth.oldest_s)
            await asyncio.sleep(self._rand.uniform(0.9, 1.1) * self._limits.depth_s)

    def stop_claiming(self) -> None:
        """No job is claimed from here on."""
        self._stopping.set()
        self._wake.set()

    async def finish(self, wait_s: float) -> None:
        """Let jobs at work end for `wait_s`, then give the others back."""
        try:
            async with asyncio.timeout(_CLAIM_IN_FLIGHT_S):
                await self._claiming.acquire()  # a claim under way: its jobs are at work as well
        except TimeoutError:
            pass
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=wait_s)
        unfinished = self._held.held
        late = list(self._tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=2.0)
        if unfinished:
            try:
                released = await jobs.release(self._pool, [(job.job_id, job.lease_token) for job in unfinished])
            except StoreError as error:
                _log.warning("jobs left to their leases", jobs=len(unfinished), error=str(error))
            else:
                _log.info("jobs given back", jobs=len(released))

    async def _room(self) -> None:
        """Wait until another job could run."""
        while not self._stopping.is_set():
            if not self._handlers.ready:
                await _wait(self._stopping, self._limits.poll_s)
            elif len(self._held) >= self._limits.concurrency:
                await self._held.wait_below(self._limits.concurrency)
            else:
                return

    async def _claim_all(self) -> _Then:
        """Fill the room from the queues in turn."""
        then = _Then.LOOK_LATER
        for queue in list(self._queues):
            room = min(self._limits.concurrency - len(self._held), self._limits.claim)
            if room <= 0:
                return _Then.LOOK_NOW
            try:
                claimed = await self._claim(queue, room)
            except StoreError as error:
                if self.database_problem is None:
                    _log.warning("no jobs can be claimed now", error=str(error))
                self.database_problem = f"jobs cannot be claimed: {error}"
                return _Then.LOOK_LATER
            self.database_problem = None
            turns = self._turns[queue]
            if turns.rivals:
                then = min(then, _Then.LOOK_SOON)
            elif len(claimed) == room or turns.more:
                then = _Then.LOOK_NOW
            if claimed:  # the others are asked before it next time
                self._queues.remove(queue)
                self._queues.append(queue)
        return then

    async def _claim(self, queue: str, room: int) -> list[Claimed]:
        began = self._clock()
        claimed = await jobs.claim(
            self._pool,
            queue,
            self._worker,
            limit=room,
            lease_s=self._limits.lease_s,
            ttl_s=self._limits.ttl_s,
            reserve=self._reserve,
            turns=self._turns[queue],
            device_limit=self._limits.device_running,
            suspects=0 if any(job.is_suspect for job in self._held.held) else 1,
        )
        for job in claimed:
            WORKER_CLAIMED.labels(queue).inc()
            WORKER_QUEUE_SECONDS.labels(queue).observe(max(0.0, job.waited_s))
            task = asyncio.create_task(self._run(job, queue), name=f"job-{job.job_id}")
            self._held.add(job, queue, claimed_at=began, task=task)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return claimed

    def _reserve(self, request: Request) -> Home:
        return Home(time_ordered_uuid(wall(), self._rand), self._homes.choose(), folder_of(request))

    async def _run(self, job: Claimed, queue: str) -> None:
        # The task has a context of its own, which ends with it.
        structlog.contextvars.bind_contextvars(job_id=str(job.job_id), device_id=job.device_id, queue=queue)
        try:
            await self._runner.run(job, queue)
        finally:
            self._held.remove(job)
            if job.is_suspect or self._turns[queue].held_back:
                self.wake()  # the next one's turn


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass

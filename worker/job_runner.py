"""One attempt of one job, from the claim to its end: stage, handle, write, end.

What can happen is sorted here and nowhere else. An answer, also one that says "unreadable", ends the job with a
response. A store that does not take it loses it to the next one; the handler's work is not done again for that. A
failure of this attempt queues it again, later, until attempts or time run out; then the device is told that no
response will come. A lost lease ends the work silently: the job is another's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

import structlog

from shared.clock import iso, wall
from shared.cloud.provider import Provider
from shared.cloud.store import Store
from shared.cloud.threads import FileThreads
from shared.store import jobs, responses
from shared.store.errors import StoreError
from shared.store.jobs import Claimed
from shared.store.pool import Connection, Pool
from shared.telemetry.metrics import WORKER_FINISHED, WORKER_HANDLER_SECONDS, WORKER_REPLACED, WORKER_RETRIES
from shared.telemetry.traces import Tracer
from shared.traceparent import parse
from worker.coroutines import Coroutines
from worker.endings import Endings
from worker.errors import AttemptFailed, HomeUnavailable, LeaseLost, Outage, PermanentFailure, ServiceAway, WorkerError
from worker.fair_turns import FairTurns
from worker.handlers.async_contract import AsyncHandler
from worker.handlers.contract import ERROR_MAX_CHARS, Answer
from worker.held_jobs import HeldJobs
from worker.homes import Homes
from worker.pool import Done, HandlerPool
from worker.pool_wire import Order
from worker.response_document import DocumentFile, RequestPart, ResponseDocument, carried, document_of
from worker.response_writer import Committed, ResponseWriter
from worker.retry import Again, Failure, GiveUp, RetryPolicy, after_failure
from worker.scratch import JobFolder, Scratch
from worker.staging import stage

__all__ = ["JobRunner", "RunnerLimits"]

_log = structlog.get_logger(__name__)

S = TypeVar("S")

_STAGED_BY: Final = "worker"


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """What one attempt may take."""

    handler_s: float
    input_bytes: int


class JobRunner:
    """Carries out attempts. `run` never raises but CancelledError.

    Requests are read from `sources`, responses written to `stores`: the same places, by name.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        sources: Mapping[str, Provider],
        stores: Mapping[str, Store],
        handlers: HandlerPool,
        coroutines: Coroutines,
        held: HeldJobs,
        homes: Homes,
        endings: Endings,
        scratch: Scratch,
        threads: FileThreads,
        limits: RunnerLimits,
        policy: RetryPolicy,
        options: Mapping[str, Any],
        rand: Random,
        tracer: Tracer | None = None,
    ) -> None:
        self._tracer = tracer
        self._pool = pool
        self._sources = sources
        self._stores = stores
        self._handlers = handlers
        self._turns = FairTurns(handlers.size)
        self._coroutines = coroutines
        self._held = held
        self._homes = homes
        self._endings = endings
        self._scratch = scratch
        self._threads = threads
        self._limits = limits
        self._policy = policy
        self._options = dict(options)
        self._rand = rand

    async def run(self, job: Claimed, queue: str) -> None:
        """One attempt, to whatever end."""
        began = wall() if self._tracer is not None else 0.0
        try:
            await self._attempt(job, queue)
        except LeaseLost as error:
            _log.info("attempt abandoned", reason=str(error))
        except PermanentFailure as error:
            await self._fail(job, queue, Failure(str(error), permanent=True))
        except AttemptFailed as error:
            outage = isinstance(error, Outage)
            after_s = error.after_s if isinstance(error, ServiceAway) else 0.0
            failure = Failure(f"{type(error).__name__}: {error}", outage=outage, after_s=after_s)
            await self._fail(job, queue, failure)
        except StoreError as error:
            # The database cannot be told now. The lease ends by itself, and another attempt adopts what was written.
            _log.warning("job left to its lease", error=str(error))
        except Exception as error:  # noqa: BLE001 - ours: it costs this attempt and is seen in the log
            _log.exception("attempt failed unexpectedly")
            await self._fail(job, queue, Failure(f"{type(error).__name__}: {error}"[:ERROR_MAX_CHARS]))
        finally:
            if self._tracer is not None:
                self._trace(self._tracer, job, queue, began)

    def _trace(self, tracer: Tracer, job: Claimed, queue: str, began: float) -> None:
        tracer.stage(
            parse(job.traceparent),
            "attempt",
            began,
            wall(),
            device_id=job.device_id,
            job_id=str(job.job_id),
            kind=job.kind,
            queue=queue,
            attempt=job.attempt,
        )

    async def _attempt(self, job: Claimed, queue: str) -> None:
        if job.lease_token > 1 and (committed := await self._found(job)) is not None:
            return await self._end(job, queue, committed, adopted=True)
        if job.attempt > self._policy.max_attempts:
            # Every attempt is counted when it begins: those that are missing ended with their worker.
            raise PermanentFailure(f"none of {job.attempt - 1} attempts came to a result")
        if job.size <= self._limits.input_bytes and (small := self._coroutines.choose_small(job)) is not None:
            return await self._answer(job, queue, small)
        folder = await self._threads.run("", self._scratch.job_folder, f"{job.job_id}.{job.lease_token}")
        try:
            committed = await self._respond(job, folder)
            await self._end(job, queue, committed, adopted=False)
        finally:
            await self._threads.run_always("", folder.remove)

    async def _answer(self, job: Claimed, queue: str, handler: AsyncHandler) -> None:
        """A small request. Nothing of it is outside the database until it ends, so there is nothing to adopt."""
        done = await self._coroutines.run_small(handler, job, self._options, timeout_s=self._limits.handler_s)
        WORKER_HANDLER_SECONDS.labels(done.handler).observe(done.seconds)
        document = self._document(job, done.handler, done.answer, [])
        if (answer := carried(document)) is None:  # too long: it is written as any other
            committed = await self._stored(job, done.handler, done.answer, self._scratch.path)
            await self._end(job, queue, committed, adopted=False)
            return
        self._held.still_ours(job)
        self._held.ends(job)
        if not await self._endings.answered(job, answer):
            raise LeaseLost
        self._say_done(job, queue, document, adopted=False)

    async def _found(self, job: Claimed) -> Committed | None:
        """What an earlier attempt committed. A store that cannot be asked is not waited for if another may take it."""
        try:
            return await self._writer(job).find(job)
        except HomeUnavailable:
            if self._homes.instead_of({job.response_store}) is None:
                raise
            return None

    async def _respond(self, job: Claimed, folder: JobFolder) -> Committed:
        store = _named(self._sources, job.store) if job.inline_body is None else None
        answer = await stage(store, job, folder.input, self._threads, max_bytes=self._limits.input_bytes)
        handler = _STAGED_BY
        if answer is None:
            done = await self._handle(job, folder)
            handler, answer = done.handler, done.answer
        return await self._stored(job, handler, answer, folder.output)

    async def _stored(self, job: Claimed, handler: str, answer: Answer, output: Path) -> Committed:
        """The response, at its home or at the next one that takes it."""
        tried: set[str] = set()
        while True:
            try:
                writer = self._writer(job)
                files = await writer.put_files(job, answer.files, output)
                return await writer.commit(job, self._document(job, handler, answer, files))
            except HomeUnavailable as error:
                tried.add(job.response_store)
                job = await self._moved(job, tried, error)

    async def _moved(self, job: Claimed, tried: set[str], error: HomeUnavailable) -> Claimed:
        """The job with another home for its response. Raises the error again when there is none, and LeaseLost."""
        store = self._homes.instead_of(tried)
        if store is None:
            raise error
        self._held.still_ours(job)

        async def work(connection: Connection) -> bool:
            return await responses.replace(connection, job.job_id, job.lease_token, store)

        if not await self._pool.run(work, repeatable=True):
            raise LeaseLost
        WORKER_REPLACED.labels(job.response_store, store).inc()
        _log.warning("response goes to another store", left=job.response_store, store=store, error=str(error))
        return job._replace(response_store=store)

    def _writer(self, job: Claimed) -> ResponseWriter:
        name = job.response_store
        return ResponseWriter(_named(self._stores, name), self._held.still_ours, lambda: self._homes.watched(name))

    async def _end(self, job: Claimed, queue: str, committed: Committed, *, adopted: bool) -> None:
        self._held.still_ours(job)
        self._held.ends(job)
        if not await self._endings.ready(job, committed):
            raise LeaseLost
        self._say_done(job, queue, committed.document, adopted=adopted)

    def _say_done(self, job: Claimed, queue: str, document: ResponseDocument, *, adopted: bool) -> None:
        WORKER_FINISHED.labels(queue, self._kind(document.handler), document.outcome).inc()
        _log.info(
            "job done",
            request=job.name,
            outcome=document.outcome,
            handler=document.handler,
            files=len(document.files),
            adopted=adopted,
            attempt=job.attempt,
            total_ms=round(self._held.seconds_since_due(job) * 1000),
        )

    async def _handle(self, job: Claimed, folder: JobFolder) -> Done:
        if (handler := self._coroutines.choose(job.kind, job.name)) is not None:
            done = await self._coroutines.run(handler, job, folder, self._options, timeout_s=self._limits.handler_s)
            WORKER_HANDLER_SECONDS.labels(done.handler).observe(done.seconds)
            return done
        order = Order(job.kind, job.name, str(folder.input), str(folder.output), self._options)
        async with self._turns.turn(job.device_id):
            done = await self._handlers.run(order, timeout_s=self._limits.handler_s)
        WORKER_HANDLER_SECONDS.labels(self._kind(done.handler)).observe(done.seconds)
        return done

    def _document(self, job: Claimed, handler: str, answer: Answer, files: list[DocumentFile]) -> ResponseDocument:
        return document_of(
            job_id=job.job_id,
            device_id=job.device_id,
            request=RequestPart(job.name, job.size, job.content_version),
            handler=handler,
            answer=answer,
            files=files,
            finished_at=iso(wall()),
        )

    async def _fail(self, job: Claimed, queue: str, failure: Failure) -> None:
        """Queue the job again, or end it. Never raises."""
        tries = job.lease_token if failure.outage else job.attempt
        verdict = after_failure(self._policy, failure, attempt=tries, expires_in_s=job.expires_in_s, rand=self._rand)
        self._held.ends(job)
        try:
            if isinstance(verdict, Again):
                await self._again(job, queue, failure, verdict)
            elif not failure.permanent and (committed := await self._find(job)) is not None:
                # The write that failed was done after all, or by an earlier attempt: that is the response.
                await self._end(job, queue, committed, adopted=True)
            else:
                await self._give_up(job, queue, failure, verdict)
        except LeaseLost:
            _log.info("job was no longer ours when its attempt failed", failure=failure.error)
        except Exception as error:  # noqa: BLE001 - then the lease ends by itself
            _log.warning("job left to its lease", error=f"{type(error).__name__}: {error}", failure=failure.error)

    async def _again(self, job: Claimed, queue: str, failure: Failure, verdict: Again) -> None:
        delay_s = verdict.delay_s
        held = job.job_id, job.lease_token
        if not await jobs.retry(self._pool, *held, error=failure.error, delay_s=delay_s, counts=not failure.outage):
            raise LeaseLost
        WORKER_RETRIES.labels(queue).inc()
        _log.warning("attempt failed", error=failure.error, again_in_s=round(delay_s, 2), attempt=job.attempt)

    async def _give_up(self, job: Claimed, queue: str, failure: Failure, verdict: GiveUp) -> None:
        if not await self._endings.failed(job, failure.error):
            raise LeaseLost
        WORKER_FINISHED.labels(queue, self._kind(job.kind), "dead").inc()
        _log.error("job dead", error=failure.error, why=verdict.reason, attempt=job.attempt)

    async def _find(self, job: Claimed) -> Committed | None:
        """A response that stands although the last attempt failed; None also when the store cannot be asked."""
        try:
            return await self._writer(job).find(job)
        except WorkerError as error:
            _log.info("no response to fall back on", error=str(error))
            return None

    def _kind(self, kind: str) -> str:
        """A label from a closed set: kinds in jobs are whatever somebody wrote there."""
        known = kind in self._handlers.kinds or kind in self._coroutines.kinds or kind == _STAGED_BY
        return kind if known else "unknown"


def _named(stores: Mapping[str, S], name: str) -> S:
    store = stores.get(name)
    if store is None:
        # A mistake in this worker's settings, and no fault of the job: another worker may know it.
        raise Outage(f"this worker does not know the store {name!r}")
    return store

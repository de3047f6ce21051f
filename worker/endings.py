"""Ending jobs: the state, the response and the event that tells the device, in one transaction, gathered.

Endings that come while a transaction is under way share the next one, and the first of them waits for the others for
some milliseconds while there are jobs at work that may end by then. What may have consequences is only what the
database returned as still ours, so an ending that comes twice (a commit whose answer was lost) or too late records
nothing. One that cannot be written costs its batch a second round, each by itself, and the others nothing more. After
the commit the event is offered to the bus; if that is lost, the sweep of a hub finds it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Protocol
from uuid import UUID

import orjson
import structlog

from shared.bus.message import EVENT, Message
from shared.clock import iso, monotonic, wall
from shared.job_events import AnnouncedFile, request_failed, response_ready
from shared.protocol.ids import time_ordered_uuid
from shared.stages import Stage
from shared.store import jobs, log, responses
from shared.store.errors import StoreUnavailable
from shared.store.jobs import Claimed, Finish
from shared.store.log import Appended, NewEvent
from shared.store.pool import Connection, Pool
from shared.store.responses import Completion, NewFile
from shared.telemetry.metrics import STAGE_LAG_SECONDS, WORKER_ENDINGS_SIZE
from shared.telemetry.traces import Tracer, wall_of
from shared.traceparent import of_event
from worker.ending_batches import BatchLimits, next_batch
from worker.handlers.contract import ERROR_MAX_CHARS
from worker.response_document import DOCUMENT_NAME, DOCUMENT_TYPE, DocumentFile
from worker.response_writer import Committed

__all__ = ["SOURCE", "Endings", "Offers"]

_log = structlog.get_logger(__name__)

SOURCE: Final = "/fleetwire/worker"
_LIMITS: Final = BatchLimits()
_RECORDED_LAG: Final = STAGE_LAG_SECONDS.labels(Stage.RECORDED)
_REASON_MAX_CHARS: Final = 500
_PAUSE_MAX_S: Final = 2.0


class Offers(Protocol):
    """What is needed of the bus's publisher."""

    def offer(self, message: Message) -> object:
        """Queue a message; never waits."""


@dataclass(eq=False, slots=True)
class _Ending:
    finish: Finish
    completion: Completion
    files: list[NewFile]
    event: NewEvent
    since: float
    outcome: "asyncio.Future[bool]"

    @property
    def job_id(self) -> UUID:
        return self.finish.job_id

    @property
    def file_count(self) -> int:
        return len(self.files)

    @property
    def size(self) -> int:
        return len(self.event.body)


class Endings:
    """`ready`, `answered` and `failed` return whether the job was ours; StoreUnavailable says that nobody can tell."""

    def __init__(
        self,
        pool: Pool,
        publisher: Offers,
        *,
        rand: Random,
        tries: int = 4,
        pause_s: float = 0.5,
        gather_s: float = 0.005,
        at_work: Callable[[], int] = lambda: 0,
        wall_clock: Callable[[], float] = wall,
        clock: Callable[[], float] = monotonic,
        tracer: Tracer | None = None,
    ) -> None:
        """`at_work` is how many jobs may end soon, those that wait here included: a job alone waits for nobody."""
        self._pool = pool
        self._publisher = publisher
        self._rand = rand
        self._tries = tries
        self._pause_s = pause_s
        self._gather_s = gather_s
        self._at_work = at_work
        self._wall = wall_clock
        self._tracer = tracer
        self._clock = clock
        self._waiting: deque[_Ending] = deque()
        self._enough = asyncio.Event()
        self._closing = False
        self._writer: asyncio.Task[None] | None = None

    async def ready(self, job: Claimed, committed: Committed) -> bool:
        """The response stands: job done, files listed, ResponseReady."""
        document = DocumentFile(DOCUMENT_NAME, committed.digest.size, committed.digest.sha256, DOCUMENT_TYPE)
        files = [
            NewFile(
                time_ordered_uuid(self._wall(), self._rand),
                job.job_id,
                f"{job.folder}/{file.name}",
                file.name,
                file.size,
                file.sha256,
                file.content_type,
            )
            for file in [*committed.document.files, document]
        ]
        event = response_ready(
            event_id=time_ordered_uuid(self._wall(), self._rand),
            job_id=job.job_id,
            device_id=job.device_id,
            request_name=job.name,
            files=[AnnouncedFile(f.file_id, f.name, f.size, f.sha256, f.content_type) for f in files],
            source=SOURCE,
            time=iso(self._wall()),
            traceparent=job.traceparent,
            redrives=job.redrives,
        )
        return await self._end(
            Finish(job.job_id, job.lease_token, "done"),
            Completion(job.job_id, "ready", None, event.event_id),
            files,
            event,
        )

    async def answered(self, job: Claimed, answer: Mapping[str, Any]) -> bool:
        """The answer is all of the response, and goes out in ResponseReady: there is no file."""
        event = response_ready(
            event_id=time_ordered_uuid(self._wall(), self._rand),
            job_id=job.job_id,
            device_id=job.device_id,
            request_name=job.name,
            files=[],
            source=SOURCE,
            time=iso(self._wall()),
            traceparent=job.traceparent,
            redrives=job.redrives,
            answer=answer,
        )
        return await self._end(
            Finish(job.job_id, job.lease_token, "done"),
            Completion(job.job_id, "ready", None, event.event_id, orjson.dumps(answer).decode()),
            [],
            event,
        )

    async def failed(self, job: Claimed, error: str) -> bool:
        """No response will come: job dead with its error, RequestFailed."""
        reason = error[:_REASON_MAX_CHARS]
        event = request_failed(
            event_id=time_ordered_uuid(self._wall(), self._rand),
            job_id=job.job_id,
            device_id=job.device_id,
            request_name=job.name,
            reason=reason,
            source=SOURCE,
            time=iso(self._wall()),
            traceparent=job.traceparent,
            redrives=job.redrives,
        )
        return await self._end(
            Finish(job.job_id, job.lease_token, "dead", error[:ERROR_MAX_CHARS]),
            Completion(job.job_id, "failed", reason, event.event_id),
            [],
            event,
        )

    async def close(self) -> None:
        """Write the endings that were begun, without waiting for more."""
        self._closing = True
        self._enough.set()
        if self._writer is not None:
            await asyncio.wait([self._writer])

    async def _end(self, finish: Finish, completion: Completion, files: list[NewFile], event: NewEvent) -> bool:
        ending = _Ending(finish, completion, files, event, self._clock(), asyncio.get_running_loop().create_future())
        self._waiting.append(ending)  # bounded by the number of jobs at work
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="endings")
        elif self._is_enough():
            self._enough.set()
        # A caller that is cancelled takes nothing with it: the transaction is the writer's.
        return await ending.outcome

    async def _write(self) -> None:
        while self._waiting:
            await self._gather()
            batch = next_batch(self._waiting, _LIMITS)
            try:
                await self._commit_with_patience(batch)
            except Exception as error:  # noqa: BLE001 - handed to those who wait
                if len(batch) == 1 or isinstance(error, StoreUnavailable):
                    _give_up(batch, error)
                else:  # one of them cannot be written: do not let it take the others along
                    _log.warning("endings are written one by one", jobs=len(batch), error=str(error)[:200])
                    for ending in batch:
                        await self._commit_alone(ending)
            await asyncio.sleep(0)  # those that ended go, so that nobody waits for them

    async def _gather(self) -> None:
        """Let others that end just now come along, for a moment counted from the first that waits."""
        self._enough.clear()
        left = self._waiting[0].since + self._gather_s - self._clock()
        if left > 0 and not self._is_enough():
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._enough.wait()

    def _is_enough(self) -> bool:
        return self._closing or len(self._waiting) >= min(_LIMITS.endings, self._at_work())

    async def _commit_alone(self, ending: _Ending) -> None:
        try:
            await self._commit_with_patience([ending])
        except Exception as error:  # noqa: BLE001 - handed to the one who waits
            _give_up([ending], error)

    async def _commit_with_patience(self, batch: Sequence[_Ending]) -> None:
        for number in range(1, self._tries + 1):
            try:
                return await self._commit(batch)
            except StoreUnavailable as error:
                if number == self._tries:
                    raise
                _log.warning("endings of jobs not written, trying again", jobs=len(batch), error=str(error))
                await asyncio.sleep(
                    self._rand.uniform(0.5, 1.0) * min(self._pause_s * 2 ** min(number - 1, 8), _PAUSE_MAX_S)
                )
        raise AssertionError("the last try returns or raises")

    async def _commit(self, batch: Sequence[_Ending]) -> None:
        async def work(connection: Connection) -> tuple[list[_Ending], list[Appended], dict[UUID, float]]:
            ended = await jobs.finish(connection, [ending.finish for ending in batch])
            ours = [ending for ending in batch if ending.job_id in ended]
            if not ours:
                return [], [], {}
            files = [file for ending in ours for file in ending.files]
            await responses.complete(connection, [ending.completion for ending in ours], files)
            return ours, await log.append(connection, [ending.event for ending in ours]), ended

        ours, appended, ended = await self._pool.run(work)
        WORKER_ENDINGS_SIZE.observe(len(batch))
        log.remember(self._pool, [ending.event for ending in ours], appended)
        for ending, result in zip(ours, appended, strict=True):
            if result.status == "recorded":
                event = ending.event
                self._publisher.offer(Message(EVENT, event.device_id, result.epoch, result.seq, event.body))
                _RECORDED_LAG.observe(max(0.0, ended[ending.job_id]))
                if self._tracer is not None:
                    self._trace(self._tracer, ending, result.seq)
                _log.info(
                    "event recorded",
                    stage=Stage.RECORDED,
                    event_id=event.event_id,
                    device_id=event.device_id,
                    seq=result.seq,
                    job_id=str(ending.job_id),
                )
            else:  # the key stands for the one end of this job, and the database that ended it now has another
                _log.error("event of a job was not recorded", job_id=str(ending.job_id), status=result.status)
        for ending in batch:
            if not ending.outcome.done():
                ending.outcome.set_result(ending.job_id in ended)

    def _trace(self, tracer: Tracer, ending: _Ending, seq: int) -> None:
        event = ending.event
        tracer.stage(
            of_event(event.body),
            Stage.RECORDED,
            wall_of(ending.since),
            self._wall(),
            stage=Stage.RECORDED.value,
            device_id=event.device_id,
            event_id=event.event_id,
            job_id=str(ending.job_id),
            seq=seq,
            status=ending.finish.status,
        )


def _give_up(batch: Sequence[_Ending], error: Exception) -> None:
    for ending in batch:
        if not ending.outcome.done():
            ending.outcome.set_exception(error)
            ending.outcome.exception()  # its caller may be gone: then nobody else asks

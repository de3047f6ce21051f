"""Making jobs of request files and events of response files, inside the transaction of the page that found them.

What is announced and what not was decided before (translate.py, remote/judge.py); here it only gets its rows. Ids are
given by the caller, once for all tries of a page.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from shared import clock
from shared.bus.message import EVENT, Message
from shared.job_kinds import JobKinds
from shared.protocol.event import RESPONSE_READY
from shared.stages import Stage
from shared.store import items, jobs, log
from shared.store.pool import Connection
from shared.telemetry.traces import Tracer
from shared.traceparent import Traceparent
from watcher.places import Place
from watcher.translate import content_type_of, kind_of, response_ready


@dataclass(frozen=True, slots=True)
class Announcement:
    """A file that its device is to hear of. A response needs its sha256; a request is known by `version` alone."""

    place: Place
    size: int
    version: str
    sha256: str | None
    identity: UUID
    object_id: str | None = None
    noticed_at: float = 0.0


class QueuedJob(NamedTuple):
    """A job that was made, and the queue whose workers are to hear of it."""

    queue: str
    job_id: UUID


class TracedFile(NamedTuple):
    """A file whose trace begins with it. `noticed_at` is Unix seconds."""

    traceparent: Traceparent
    job: jobs.NewJob
    noticed_at: float


@dataclass(slots=True)
class Appending:
    """What went into the log, to be remembered after the commit; and the files that are traced."""

    events: list[log.NewEvent] = field(default_factory=list)
    results: list[log.Appended] = field(default_factory=list)
    traced: list[TracedFile] = field(default_factory=list)


class Announcer:
    """Writes the rows for one store; jobs go into the queue of their kind."""

    def __init__(
        self, *, store: str, kinds: JobKinds, new_id: Callable[[], UUID], tracer: Tracer | None = None
    ) -> None:
        self._store = store
        self._tracer = tracer
        self._kinds = kinds
        self.new_id = new_id

    async def announce(
        self, connection: Connection, announced: Sequence[Announcement], appending: Appending
    ) -> tuple[list[QueuedJob], list[Message]]:
        """(jobs made, events for the bus). The append to the log comes last in the transaction."""
        requests = [one for one in announced if one.place.area == "request"]
        responses = [one for one in announced if one.place.area == "response"]
        made = await self._insert_jobs(connection, requests, appending) if requests else []
        messages = await self._append(connection, responses, appending) if responses else []
        return made, messages

    def committed(self, appending: Appending) -> None:
        """The transaction stands: tell of the files that are traced."""
        if self._tracer is None:
            return
        now = clock.wall()
        for traceparent, job, noticed_at in appending.traced:
            self._tracer.root(
                traceparent,
                Stage.DETECTED,
                noticed_at,
                now,
                stage=Stage.DETECTED.value,
                device_id=job.device_id,
                job_id=str(job.job_id),
                kind=job.kind,
                store=job.store,
                path=job.path,
                size=job.size,
            )

    async def _insert_jobs(
        self, connection: Connection, requests: Sequence[Announcement], appending: Appending
    ) -> list[QueuedJob]:
        now = clock.monotonic()
        new = [
            jobs.NewJob(
                job_id=one.identity,
                queue=self._kinds.queue_of(kind),
                kind=kind,
                device_id=one.place.device_id,
                store=self._store,
                path=one.place.path,
                name=one.place.name,
                size=one.size,
                content_version=one.version,
                detected_age_s=max(0.0, now - one.noticed_at) if one.noticed_at else 0.0,
                object_id=one.object_id,
                priority=self._kinds.priority_of(kind),
            )
            for one in requests
            for kind in [kind_of(one.place.name)]
        ]
        if self._tracer is not None:
            new = [self._traced(job, appending) for job in new]
        await jobs.insert_jobs(connection, new)
        return [QueuedJob(job.queue, job.job_id) for job in new]

    def _traced(self, job: jobs.NewJob, appending: Appending) -> jobs.NewJob:
        """The job as it is inserted: with its trace, if it has one."""
        traceparent = self._tracer.of_job(job.job_id) if self._tracer is not None else None
        if traceparent is None:
            return job
        appending.traced.append(TracedFile(traceparent, job, clock.wall() - job.detected_age_s))
        return job._replace(traceparent=str(traceparent))

    async def _append(
        self, connection: Connection, responses: Sequence[Announcement], appending: Appending
    ) -> list[Message]:
        rows = []
        for one in responses:
            if one.sha256 is None:
                raise AssertionError("a response is announced with its hash, or not yet")
            response_id, file_id = one.identity, self.new_id()
            event = response_ready(
                event_id=self.new_id(),
                file_id=file_id,
                time=clock.iso(clock.wall()),
                name=one.place.name,
                size=one.size,
                sha256=one.sha256,
            )
            folder = one.place.path.rsplit("/", 1)[0]
            rows.append(
                items.ExternalResponse(
                    response_id=response_id,
                    file_id=file_id,
                    device_id=one.place.device_id,
                    folder=folder,
                    path=one.place.path,
                    name=one.place.name,
                    size=one.size,
                    sha256=one.sha256,
                    content_type=content_type_of(one.place.name),
                    event_id=event.event_id,
                    object_id=one.object_id,
                )
            )
            # The ledger makes this happen once. A key made of path and content would also refuse the same file put
            # again.
            key = f"item:{response_id}"
            appending.events.append(
                log.NewEvent(one.place.device_id, event.event_id, RESPONSE_READY, event.body, event.body_hash, key)
            )
        await items.record_responses(connection, self._store, rows)
        appending.results = await log.append(connection, appending.events)
        return [
            Message(EVENT, new.device_id, result.epoch, result.seq, new.body)
            for new, result in zip(appending.events, appending.results, strict=True)
            if result.status == "recorded"
        ]

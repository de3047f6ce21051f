"""Where a file, a job or an event is, for operators: read from what the database knows, whatever else does not work."""

import re
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec
from starlette.responses import Response

from api.answers import moment, typed_answer
from api.descriptions.traces import TRACE_JOB, TRACE_OF_DEVICE, TraceAnswer, TraceAt, TraceStage
from api.inputs import device_id_of, uuid_of
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from api.shedding import Shed
from api.whereabouts import Bounds, stages_of, where
from shared.store import whereabouts
from shared.store.pool import Pool
from shared.store.whereabouts import EventFacts, JobFacts
from shared.tokens import Scope
from shared.traceparent import Traceparent, of_event, parse

__all__ = ["Traces"]

_JOB_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_TEXT_MAX: Final = 200


class Traces:
    """`GET /api/v1/jobs/{job_id}/trace` and `GET /api/v1/devices/{device_id}/trace?of=…`"""

    def __init__(self, pool: Pool, bounds: Bounds) -> None:
        self._pool = pool
        self._bounds = bounds

    def resources(self, guard: Guard) -> Sequence[Resource]:
        """For the route table."""
        scopes: frozenset[Scope] = frozenset({"operator", "service"})
        of_job = Operation(self.of_job, scopes, description=TRACE_JOB, shed=Shed.FIRST)
        of_device = Operation(self.of_device, scopes, description=TRACE_OF_DEVICE, shed=Shed.FIRST)
        return [
            Resource(guard, "/api/v1/jobs/{job_id}/trace", {"GET": of_job}),
            Resource(guard, "/api/v1/devices/{device_id}/trace", {"GET": of_device}),
        ]

    async def of_job(self, call: Call) -> Response:
        """A job, and the event that its end became."""
        return self._answer(*await self._job(uuid_of(call.path["job_id"], "job_id")))

    async def of_device(self, call: Call) -> Response:
        """An event by its id, else the newest job of a file by its name."""
        device_id = device_id_of(call.path["device_id"])
        call.trace.device_id = device_id
        text = call.query.text("of")
        if text is None or not 1 <= len(text) <= _TEXT_MAX or "\x00" in text:
            detail = f"of must be an event's id or a file's name: 1 to {_TEXT_MAX} characters, no NUL"
            raise Problem("invalid-parameter", detail, field="of")
        event = await whereabouts.event(self._pool, device_id, text)
        if event is not None and event.seq is not None:
            job_id = _job_of(event)
            return self._answer(await whereabouts.job(self._pool, job_id) if job_id is not None else None, event)
        found = await whereabouts.newest_job(self._pool, device_id, text)
        return self._answer(*((None, None) if found is None else await self._job(found)))

    def _answer(self, job: JobFacts | None, event: EventFacts | None) -> Response:
        at = where(job, event, self._bounds)
        if at is None:
            raise Problem(
                "not-found", "nothing is known of it: it is not there yet, was forgotten, or is another device's"
            )
        known = job if job is not None else event
        assert known is not None
        traced = _trace_of(job, event)
        now = known.now
        return typed_answer(
            TraceAnswer(
                device_id=known.device_id,
                job_id=None if job is None else str(job.job_id),
                name=None if job is None else job.name,
                event_id=event.event_id if event is not None else None,
                seq=event.seq if event is not None else None,
                trace_id=None if traced is None else f"{traced.trace_id:032x}",
                stages=[
                    TraceStage(one.stage, moment(one.at), round(one.lag_s, 6), one.exact)
                    for one in stages_of(job, event)
                ],
                at=TraceAt(at.place, moment(at.since), round((now - at.since).total_seconds(), 3), at.holder, at.stuck),
            )
        )

    async def _job(self, job_id: UUID) -> tuple[JobFacts | None, EventFacts | None]:
        job = await whereabouts.job(self._pool, job_id)
        if job is None or job.event_id is None:
            return job, None
        return job, await whereabouts.event(self._pool, job.device_id, job.event_id)


def _job_of(event: EventFacts) -> UUID | None:
    """The job that an event of ours names. Data of others may hold anything."""
    try:
        data = msgspec.json.decode(event.body or "{}").get("data", {})
    except msgspec.DecodeError:
        return None
    job_id = data.get("job_id") if isinstance(data, dict) else None
    return UUID(job_id) if isinstance(job_id, str) and _JOB_ID.fullmatch(job_id) else None


def _trace_of(job: JobFacts | None, event: EventFacts | None) -> Traceparent | None:
    if job is not None and job.traceparent is not None:
        return parse(job.traceparent)
    return of_event(event.body.encode()) if event is not None and event.body is not None else None

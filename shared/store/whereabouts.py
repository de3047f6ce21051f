"""How far one file, job or event has come, for whoever asks where it is. Every read is bounded by what it walks."""

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from shared.store.jobs import JobStatus
from shared.store.pool import Pool
from shared.store.queries import statements

__all__ = ["EventFacts", "JobFacts", "event", "job", "newest_job"]

_SQL: Final = statements("whereabouts")


class JobFacts(NamedTuple):
    """A job; `event_id` once its end is recorded. `now` is the database's."""

    job_id: UUID
    device_id: str
    name: str
    queue: str
    status: JobStatus
    worker: str | None
    attempts: int
    traceparent: str | None
    error: str | None
    detected_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    run_at: datetime
    lease_until: datetime | None
    event_id: str | None
    now: datetime


class EventFacts(NamedTuple):
    """An event and its device's cursor. `seq` and what follows are None when it is not among the newest 5,000."""

    device_id: str
    seq: int | None
    event_id: str | None
    type: str | None
    recorded_at: datetime | None
    body: str | None
    floor: int
    head: int
    acked: int
    acked_at: datetime | None
    hub: str | None
    connected_at: datetime | None
    disconnected_at: datetime | None
    hub_silent_s: float | None
    now: datetime


async def job(pool: Pool, job_id: UUID) -> JobFacts | None:
    """None: there is none, or it is forgotten."""
    rows = await pool.fetch(_SQL["of_job"], job_id)
    return JobFacts(*rows[0]) if rows else None


async def newest_job(pool: Pool, device_id: str, name: str) -> UUID | None:
    """The newest job of a file of this name, of this device."""
    rows = await pool.fetch(_SQL["newest_job"], device_id, name)
    return rows[0]["job_id"] if rows else None


async def event(pool: Pool, device_id: str, event_id: str) -> EventFacts | None:
    """None: there is no such device."""
    rows = await pool.fetch(_SQL["of_event"], device_id, event_id)
    return EventFacts(*rows[0]) if rows else None
